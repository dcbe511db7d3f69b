"""Compare the paper with what was reproduced: signs of direct against mapped, orders of layers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from lamella.pipeline.reproduce import paper
from lamella.schemas.report import Interval
from lamella.schemas.reproduced import DataSetName, FusedScore, LayerScore, Reproduced

Verdict = Literal["agree", "disagree", "not run"]

ROUNDING = 1e-9
"""A smaller difference of two means is rounding, and no gain."""

Records = Mapping[tuple[str, DataSetName], Reproduced]
"""What was scored, by network and data set."""


@dataclass(frozen=True)
class Sign:
    """Whether the mapped fusion is better than the direct one, here and in the paper.

    Attributes:
        pair: the paper's two figures; None for layers that it does not have.
        ours: what was scored here, None if it was not run.
    """

    network: str
    layers: tuple[str, ...]
    data_set: DataSetName
    pair: paper.Pair | None
    ours: FusedScore | None

    @property
    def verdict(self) -> Verdict:
        """Whether the sign is the paper's, which is a gain everywhere; no difference disagrees."""
        if self.ours is None:
            return "not run"
        return "agree" if self.ours.gain > ROUNDING else "disagree"

    @property
    def equal(self) -> bool:
        """Whether both were scored alike, which is no gain."""
        return self.ours is not None and abs(self.ours.gain) <= ROUNDING

    @property
    def shown(self) -> bool:
        """Whether the interval of the difference excludes zero, on either side."""
        return self.ours is not None and excludes_zero(self.ours.gain_interval)


@dataclass(frozen=True)
class Order:
    """Which of two layers alone is better on a data set, in the paper and here."""

    network: str
    data_set: DataSetName
    better: str
    worse: str
    verdict: Verdict


@dataclass(frozen=True)
class Tally:
    """How many agree and disagree; the others were not run.

    `shown_agree` and `shown_disagree` count those of them whose interval excludes zero.
    """

    agree: int
    disagree: int
    not_run: int
    shown_agree: int = 0
    shown_disagree: int = 0

    @property
    def run(self) -> int:
        """How many were run."""
        return self.agree + self.disagree

    @property
    def all(self) -> int:
        """How many there are."""
        return self.run + self.not_run


def signs(records: Records) -> tuple[Sign, ...]:
    """Return the signs of the paper's 54 pairs, in its order."""
    return tuple(
        Sign(
            pair.network,
            pair.layers,
            pair.data_set,
            pair,
            fused_of(records, pair.network, pair.data_set, pair.layers),
        )
        for pair in paper.pairs()
    )


def other_signs(records: Records) -> tuple[Sign, ...]:
    """Return the signs of what was scored here and is no pair of the paper."""
    known = {(pair.network, pair.layers, pair.data_set) for pair in paper.pairs()}
    return tuple(
        Sign(network, fused.layers, data_set, None, fused)
        for (network, data_set), record in records.items()
        for fused in record.fused
        if (network, fused.layers, data_set) not in known
    )


def tally(every: Sequence[Sign]) -> Tally:
    """Return how many signs agree."""
    verdicts = [sign.verdict for sign in every]
    return Tally(
        verdicts.count("agree"),
        verdicts.count("disagree"),
        verdicts.count("not run"),
        sum(sign.shown for sign in every if sign.verdict == "agree"),
        sum(sign.shown for sign in every if sign.verdict == "disagree"),
    )


def orders(records: Records) -> tuple[Order, ...]:
    """Return the orders of every two layers alone in tables 1 and 5.

    Layers that the paper has equal have no order, and its misprint has no part in any.
    """
    found = []
    for network in paper.LAYERS:
        for data_set in paper.DATA_SETS:
            alone = [
                each
                for each in paper.published()
                if (each.network, each.kind, each.data_set) == (network, "alone", data_set)
                and (each.table, each.layers[0], each.data_set) != paper.MISPRINTED
            ]
            for one, other in combinations(alone, 2):
                if one.score != other.score:
                    better, worse = (one, other) if one.score > other.score else (other, one)
                    found.append(
                        _order(records, network, data_set, better.layers[0], worse.layers[0])
                    )
    return tuple(found)


def _order(records: Records, network: str, data_set: DataSetName, better: str, worse: str) -> Order:
    ours = [alone_of(records, network, data_set, layer) for layer in (better, worse)]
    verdict: Verdict = "not run"
    if ours[0] is not None and ours[1] is not None:
        verdict = "agree" if ours[0].score > ours[1].score else "disagree"
    return Order(network, data_set, better, worse, verdict)


def tally_orders(every: Sequence[Order]) -> Tally:
    """Return how many orders agree."""
    verdicts = [order.verdict for order in every]
    return Tally(verdicts.count("agree"), verdicts.count("disagree"), verdicts.count("not run"))


def alone_of(
    records: Records, network: str, data_set: DataSetName, layer: str
) -> LayerScore | None:
    """Return the score of a layer alone, None if it was not run."""
    record = records.get((network, data_set))
    every = record.alone if record else ()
    return next((each for each in every if each.layer == layer), None)


def fused_of(
    records: Records, network: str, data_set: DataSetName, layers: tuple[str, ...]
) -> FusedScore | None:
    """Return the scores of some layers together, None if they were not run."""
    record = records.get((network, data_set))
    every = record.fused if record else ()
    return next((each for each in every if each.layers == layers), None)


def swept_pairs(
    records: Records,
) -> Iterator[tuple[str, tuple[str, ...], dict[DataSetName, FusedScore]]]:
    """Yield each network and pair of layers that was swept, with its scores by data set."""
    for network in dict.fromkeys(network for network, _ in records):
        mine = {data_set: record for (name, data_set), record in records.items() if name == network}
        pairs = dict.fromkeys(
            fused.layers for record in mine.values() for fused in record.fused if fused.grid
        )
        for layers in pairs:
            scores = {name: fused_of(records, network, name, layers) for name in mine}
            yield network, layers, {name: each for name, each in scores.items() if each is not None}


def excludes_zero(interval: Interval | None) -> bool:
    """Say whether an interval of a difference has zero on its outside."""
    return interval is not None and (interval.low > 0.0 or interval.high < 0.0)
