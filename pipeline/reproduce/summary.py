"""What a reproduction says in a few sentences, and as plain values."""

from collections.abc import Sequence
from typing import Any

from lamella.pipeline.reproduce import paper
from lamella.pipeline.reproduce.planning import NotRun
from lamella.pipeline.reproduce.signs import (
    Order,
    Records,
    Sign,
    Tally,
    orders,
    other_signs,
    signs,
    swept_pairs,
    tally,
    tally_orders,
)
from lamella.pipeline.reproduce.tables import NAMES, carried
from lamella.pipeline.text import counted


def headline(records: Records) -> str:
    """Return the first sentence: how many of the paper's signs that could be run agree."""
    found = tally(signs(records))
    if not found.run:
        return (
            f"None of the paper's {found.all} pairs of a direct and a mapped fusion could be run "
            "here: " + _why_none(records)
        )
    return (
        f"{found.agree} of the {found.run} pairs of the paper's {found.all} that could be run "
        f"agree: the mapped fusion is better than the direct one."
    )


def _why_none(records: Records) -> str:
    if any(network in paper.LAYERS for network, _ in records):
        return "each has a fully connected layer, or is of a network without weights here."
    return "no network of the paper has weights and a data set here."


def sentences(records: Records) -> tuple[str, ...]:
    """Return what else there is to say: orders of layers, and the signs of other layers."""
    found = []
    of_orders = orders(records)
    counts = tally_orders(of_orders)
    if counts.run:
        against = ", ".join(_order_text(each) for each in of_orders if each.verdict == "disagree")
        found.append(
            f"{counts.agree} of {counted(counts.run, 'order')} of two layers alone are the "
            f"paper's{f'; not {against}' if against else ''}."
        )
    for network in dict.fromkeys(network for network, _ in records):
        others = [sign for sign in other_signs(records) if sign.network == network]
        if others:
            found.append(_others_text(network, tally(others)))
    return tuple(found)


def _order_text(order: Order) -> str:
    title = paper.TITLES[order.data_set]
    return f"{order.better} above {order.worse} on {title} ({NAMES[order.network]})"


def _others_text(network: str, counts: Tally) -> str:
    return (
        f"Of {counted(counts.run, 'fusion')} that the paper does not have, {NAMES[network]} gains "
        f"by the map in {counts.agree}, and loses or stays equal in {counts.disagree}; intervals "
        f"exclude zero for {counted(counts.shown_agree, 'gain')} and for "
        f"{counts.shown_disagree} of the others."
    )


def summary(records: Records, not_run: Sequence[NotRun]) -> dict[str, Any]:
    """Return plain values for JSON: counts, the matrices of settings, all scores, what is missing.

    Pictures are left out.
    """
    return {
        "signs": vars(tally(signs(records))),
        "pairs": [_pair(sign) for sign in signs(records)],
        "orders": vars(tally_orders(orders(records))),
        "other_signs": {
            network: vars(tally([sign for sign in other_signs(records) if sign.network == network]))
            for network in dict.fromkeys(network for network, _ in records)
        },
        "transfer": _matrices(records),
        "scores": [
            record.model_dump(mode="json", exclude={"shown", "patches"})
            for record in records.values()
        ],
        "not_run": [vars(each) for each in not_run],
    }


def _pair(sign: Sign) -> dict[str, Any]:
    """Return the paper's figures of a pair beside ours."""
    said, ours = sign.pair, sign.ours
    return {
        "table": said.table if said else None,
        "network": sign.network,
        "layers": list(sign.layers),
        "data_set": sign.data_set,
        "paper": [said.direct, said.mapped] if said else None,
        "here": [ours.direct, ours.mapped] if ours else None,
        "verdict": sign.verdict,
    }


def _matrices(records: Records) -> list[dict[str, Any]]:
    return [
        {
            "network": network,
            "layers": list(layers),
            "rows": [vars(row) for row in carried(of_pair)],
        }
        for network, layers, of_pair in swept_pairs(records)
    ]


def facts(records: Records) -> tuple[tuple[str, str], ...]:
    """Return the numbers below the headline, as (what, how many)."""
    found, of_orders = tally(signs(records)), tally_orders(orders(records))
    queries = {name: record.queries for (_, name), record in records.items()}
    return (
        ("signs that agree", f"{found.agree} of {found.run} run"),
        ("signs not run", f"{found.not_run} of {found.all}"),
        ("orders of layers that agree", f"{of_orders.agree} of {of_orders.run} run"),
        *((f"queries of {paper.TITLES[name]}", f"{count:,}") for name, count in queries.items()),
    )
