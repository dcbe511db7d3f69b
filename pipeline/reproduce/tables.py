"""The tables of a reproduction: the paper's figures beside ours, as cells of text."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lamella.pipeline.evaluate.figures import (
    interval_text,
    point_text,
    short_score,
    signed_text,
)
from lamella.pipeline.evaluate.transfer import Carried, transfer
from lamella.pipeline.reproduce import paper
from lamella.pipeline.reproduce.rankings import GRID
from lamella.pipeline.reproduce.signs import (
    Records,
    Sign,
    alone_of,
    fused_of,
    other_signs,
    signs,
    swept_pairs,
)
from lamella.schemas.report import Interval, Metric
from lamella.schemas.reproduced import DataSetName, FusedScore, LayerScore

METRICS: dict[DataSetName, Metric] = {"oxford": "mAP", "holidays": "mAP", "ukb": "N-S"}

NAMES = {"alexnet": "AlexNet", "vgg16": "VGG-16", "efficientnet_lite0": "EfficientNet-Lite0"}

MARKS = {"agree": "✓", "disagree": "✕", "not run": "–"}


@dataclass(frozen=True)
class Cell:
    """Text, a smaller text below it, and what kind it is: paper, agree, disagree, none or ""."""

    text: str
    note: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table: groups of columns as (title, how many), the columns, rows of a label and cells.

    `run` says whether any of it was run.
    """

    name: str
    title: str
    groups: tuple[tuple[str, int], ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    run: bool = True
    note: str = ""


NONE = Cell("–", kind="none")


def paper_tables(records: Records) -> tuple[Table, ...]:
    """Return tables 1 to 8, the paper's figures beside ours."""
    return (
        *(_alone_table(table, network, records) for table, network in _ALONE),
        *(_pair_table(table, network, records) for table, network in _PAIRS),
        _table_4(records),
        _table_8(records),
    )


_ALONE = (("T1", "alexnet"), ("T5", "vgg16"))
_PAIRS = (("T2", "alexnet"), ("T3", "alexnet"), ("T6", "vgg16"), ("T7", "vgg16"))


def other_tables(records: Records) -> tuple[Table, ...]:
    """Return what was scored and is not in the paper: a table of layers, and one of fusions."""
    found = []
    for network in dict.fromkeys(network for network, _ in records):
        if network not in paper.LAYERS:
            found.append(_layers_table(network, records))
        of_network = [sign for sign in other_signs(records) if sign.network == network]
        if of_network:
            found.append(_fused_table(network, of_network))
    return tuple(found)


def choice_tables(records: Records) -> tuple[Table, ...]:
    """Return for each network what choosing settings gives: published, scaled, tuned, honest."""
    found = []
    for network in dict.fromkeys(network for network, _ in records):
        rows = []
        for (name, data_set), record in records.items():
            for fused in record.fused if name == network else ():
                label = f"{' + '.join(fused.layers)}, {paper.TITLES[data_set]}"
                rows.append((label, _choices(fused, METRICS[data_set])))
        if rows:
            found.append(
                Table(
                    f"choice-{network}",
                    f"{NAMES[network]}: ways to choose the map",
                    (),
                    (
                        "direct",
                        "published (t, p)",
                        "scaled weights",
                        "best, tuned here",
                        "cross-validated",
                    ),
                    tuple(rows),
                )
            )
    return tuple(found)


def transfer_tables(records: Records) -> tuple[Table, ...]:
    """Return for each pair of layers the matrix of (t, p) chosen on one data set for another."""
    networks = Counter(network for network, _ in records)
    return tuple(
        _transfer_table(network, layers, of_pair)
        for network, layers, of_pair in swept_pairs(records)
        if networks[network] > 1
    )


def carried(of_pair: dict[DataSetName, FusedScore]) -> tuple[Carried, ...]:
    """Return the matrix of one pair: rows of data sets, then the published and scaled settings."""
    fixed: dict[str, dict[str, float]] = {
        "published": {name: fused.mapped for name, fused in of_pair.items()},
        "scaled": {
            name: fused.scaled for name, fused in of_pair.items() if fused.scaled is not None
        },
        "direct": {name: fused.direct for name, fused in of_pair.items()},
    }
    return transfer({name: fused.grid for name, fused in of_pair.items()}, fixed)


def _transfer_table(
    network: str, layers: tuple[str, ...], of_pair: dict[DataSetName, FusedScore]
) -> Table:
    said = {
        "published": "published (t .2, p .45)",
        "scaled": "label-free: published, scaled weights",
        "direct": "direct sum",
    }
    rows = []
    for row in carried(of_pair):
        label = said.get(row.name, "")
        if row.setting is not None:
            t, p = GRID[row.setting]
            title = next(title for name, title in paper.TITLES.items() if name == row.name)
            label = f"chosen on {title}: t {t:g}, p {p:g}"
        cells = []
        for name in of_pair:
            if name not in row.scores:
                cells.append(NONE)
                continue
            metric = METRICS[name]
            loss = "own best" if row.name == name else f"{signed_text(-row.losses[name], 3)}"
            cells.append(Cell(short_score(row.scores[name], metric), loss))
        rows.append((label, tuple(cells)))
    return Table(
        f"transfer-{network}-{'-'.join(layers)}",
        f"{NAMES[network]}, {' + '.join(layers)}",
        (),
        tuple(f"scored on {paper.TITLES[name]}" for name in of_pair),
        tuple(rows),
    )


def _choices(fused: FusedScore, metric: Metric) -> tuple[Cell, ...]:
    honest = fused.cross_validated
    weights = ", ".join(f"{weight:g}" for weight in fused.weights)
    return (
        _scored(fused.direct, fused.direct_interval, metric),
        _scored(fused.mapped, fused.mapped_interval, metric),
        NONE
        if fused.scaled is None
        else Cell(
            short_score(fused.scaled, metric),
            f"{_note(fused.scaled_interval, metric)}; weights {weights}".lstrip("; "),
        ),
        Cell(short_score(fused.best.score, metric), point_text(fused.best)),
        NONE if honest is None else _scored(honest.score, honest.interval, metric),
    )


def _alone_table(table: str, network: str, records: Records) -> Table:
    rows, run = [], False
    for layer in reversed(paper.LAYERS[network]):
        cells: list[Cell] = []
        for data_set in paper.DATA_SETS:
            said = paper.score_of(network, (layer,), "alone", data_set)
            ours = alone_of(records, network, data_set, layer)
            run = run or ours is not None
            cells += [_published(said), _layer_cell(ours, METRICS[data_set])]
        rows.append((layer, tuple(cells)))
    return Table(
        table,
        f"Table {table[1:]}. {NAMES[network]}, one layer",
        tuple((_title(data_set), 2) for data_set in paper.DATA_SETS),
        ("paper", "here") * len(paper.DATA_SETS),
        tuple(rows),
        run,
        ("2.23 of conv5 on UKB is most likely a misprint of 3.23. " if table == "T1" else "")
        + _shape(network, run),
    )


def _pair_table(table: str, network: str, records: Records) -> Table:
    every = [sign for sign in signs(records) if sign.pair and sign.pair.table == table]
    rows = []
    for layers in dict.fromkeys(sign.layers for sign in every):
        cells: list[Cell] = []
        for sign in every:
            if sign.layers == layers and sign.pair is not None:
                metric = METRICS[sign.data_set]
                both = [short_score(each, metric) for each in (sign.pair.direct, sign.pair.mapped)]
                cells += [Cell(" → ".join(both), kind="paper"), _sign_cell(sign)]
        rows.append((" + ".join(layers), tuple(cells)))
    count = len(every[0].layers)
    return Table(
        table,
        f"Table {table[1:]}. {NAMES[network]}, {'two' if count == 2 else 'three'} layers, "
        "direct → mapped",
        tuple((_title(data_set), 2) for data_set in paper.DATA_SETS),
        ("paper", "here") * len(paper.DATA_SETS),
        tuple(rows),
        any(sign.ours for sign in every),
        _shape(network, any(sign.ours for sign in every)),
    )


def _table_4(records: Records) -> Table:
    rows, run = [], False
    local = [each for each in paper.published() if each.table == "T4"]
    for layers in dict.fromkeys(each.layers for each in local):
        cells: list[Cell] = []
        for data_set in paper.DATA_SETS:
            ours = fused_of(records, "alexnet", data_set, layers)
            run = run or ours is not None
            said = paper.score_of("alexnet", layers, "mapped", data_set)
            metric = METRICS[data_set]
            cells.append(_published(said))
            cells.append(_scored(ours.mapped, ours.mapped_interval, metric) if ours else NONE)
        rows.append((" + ".join(layers), tuple(cells)))
    return Table(
        "T4",
        "Table 4. AlexNet, two convolutional layers, mapped",
        tuple((_title(data_set), 2) for data_set in paper.DATA_SETS),
        ("paper", "here") * len(paper.DATA_SETS),
        tuple(rows),
        run,
        _shape("alexnet", run),
    )


def _shape(network: str, run: bool) -> str:
    """Return what to bear in mind of AlexNet, whose weights the authors never released."""
    if network != "alexnet" or not run:
        return ""
    return (
        "The AlexNet here is torchvision's, of another shape than the paper's: compare signs and "
        "orders, not figures."
    )


def _table_8(records: Records) -> Table:
    rows = []
    for line in paper.TABLE_8:
        scores = (line.oxford, line.holidays, line.ukb)
        cells = [
            NONE if score is None else Cell(short_score(score, METRICS[name]), kind="paper")
            for name, score in zip(paper.DATA_SETS, scores, strict=True)
        ]
        rows.append((line.method, tuple(cells)))
    for network in dict.fromkeys(network for network, _ in records):
        whose = "" if network in paper.LAYERS else " (not in the paper)"
        for count, word in ((2, "two"), (3, "three")):
            cells = list(_best(records, network, count))
            if cells != [NONE] * len(cells):
                rows.append((f"here: {NAMES[network]}{whose}, {word} layers", tuple(cells)))
    return Table(
        "T8",
        "Table 8. The best of each method, as published, and here",
        (),
        tuple(_title(name) for name in paper.DATA_SETS),
        tuple(rows),
        bool(records),
        "Here: mapped as published, the best of all fusions; of the paper's networks, of its own.",
    )


def _best(records: Records, network: str, count: int) -> Iterator[Cell]:
    """Yield the best mapped fusion of so many layers; of the paper's networks, of its own."""
    known = {(pair.network, pair.layers) for pair in paper.pairs()}
    for data_set in paper.DATA_SETS:
        record = records.get((network, data_set))
        every = [
            each
            for each in (record.fused if record else ())
            if len(each.layers) == count
            and (network not in paper.LAYERS or (network, each.layers) in known)
        ]
        if not every:
            yield NONE
            continue
        best = max(every, key=lambda each: each.mapped)
        yield Cell(short_score(best.mapped, METRICS[data_set]), " + ".join(best.layers))


def _layers_table(network: str, records: Records) -> Table:
    mine = [record for (name, _), record in records.items() if name == network]
    layers = [each.layer for each in mine[0].alone]
    rows = [
        (
            layer,
            tuple(
                _layer_cell(alone_of(records, network, record.data_set, layer), record.metric)
                for record in mine
            ),
        )
        for layer in layers
    ]
    return Table(
        f"alone-{network}",
        f"{NAMES[network]}, one layer (not in the paper)",
        (),
        tuple(_title(record.data_set) for record in mine),
        tuple(rows),
    )


def _fused_table(network: str, every: Sequence[Sign]) -> Table:
    data_sets = list(dict.fromkeys(sign.data_set for sign in every))
    rows = []
    for layers in dict.fromkeys(sign.layers for sign in every):
        cells = [
            next(
                (
                    _sign_cell(sign)
                    for sign in every
                    if (sign.layers, sign.data_set) == (layers, name)
                ),
                NONE,
            )
            for name in data_sets
        ]
        rows.append((" + ".join(layers), tuple(cells)))
    return Table(
        f"fused-{network}",
        f"{NAMES[network]}, direct → mapped as published (not in the paper)",
        (),
        tuple(_title(name) for name in data_sets),
        tuple(rows),
    )


def _sign_cell(sign: Sign) -> Cell:
    """Return "✓ .411 → .423" with the interval of the difference below; "=" where alike."""
    if sign.ours is None:
        return NONE
    metric = METRICS[sign.data_set]
    both = [short_score(each, metric) for each in (sign.ours.direct, sign.ours.mapped)]
    interval = sign.ours.gain_interval
    note = f"{signed_text(sign.ours.gain, 3)}"
    if interval is not None:
        note += f" [{signed_text(interval.low, 3)}, {signed_text(interval.high, 3)}]"
    mark, kind = ("=", "none") if sign.equal else (MARKS[sign.verdict], sign.verdict)
    return Cell(f"{mark} {' → '.join(both)}", note, kind)


def _title(data_set: DataSetName) -> str:
    return f"{paper.TITLES[data_set]}, {METRICS[data_set]}"


def _published(said: paper.Published | None) -> Cell:
    return Cell(short_score(said.score, METRICS[said.data_set]), kind="paper") if said else NONE


def _layer_cell(ours: LayerScore | None, metric: Metric) -> Cell:
    return _scored(ours.score, ours.interval, metric) if ours else NONE


def _scored(score: float, interval: Interval | None, metric: Metric) -> Cell:
    return Cell(short_score(score, metric), _note(interval, metric))


def _note(interval: Interval | None, metric: Metric) -> str:
    return interval_text(interval, metric) if interval else ""
