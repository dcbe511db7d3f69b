"""The figures of Yu et al. 2017: tables 1 to 8, as printed, and the settings they were made with.

Layers are named from high to low, and data sets as the protocols here. Oxford and Holidays are mean
average precision, UKB is N-S (0 to 4). Scores that were printed with more or fewer digits are kept
as they were.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lamella.schemas.reproduced import DataSetName

Kind = Literal["alone", "direct", "mapped"]

DATA_SETS: tuple[DataSetName, ...] = ("oxford", "holidays", "ukb")

TITLES: dict[DataSetName, str] = {"oxford": "Oxford5k", "holidays": "Holidays", "ukb": "UKB"}

WORDS: dict[DataSetName, int] = {"oxford": 50_000, "holidays": 100_000, "ukb": 100_000}
"""Visual words of each local layer."""

DESCRIPTORS = 4_000_000
"""Descriptors that words are trained on."""

PICTURES: dict[DataSetName, int] = {"oxford": 5_063, "holidays": 1_491, "ukb": 10_200}
"""Of the whole data sets, as they are released."""

LAYERS = {
    "alexnet": ("fc2", "fc1", "conv5", "conv4", "conv3"),
    "vgg16": ("fc2", "fc1", "c5_1", "c4_1", "c3_1"),
}
"""From high to low. AlexNet's fc1 and fc2 are fc6 and fc7 elsewhere."""

MISPRINTED = ("T1", "conv5", "ukb")
"""2.23, most likely a misprint of 3.23: it takes no part in the order of layers."""


@dataclass(frozen=True)
class Published:
    """One score of a table.

    Attributes:
        table: T1 to T7.
        layers: from high to low; one for a layer alone.
        kind: a layer alone, the direct concatenation, or the mapped fusion.
    """

    table: str
    network: str
    layers: tuple[str, ...]
    kind: Kind
    data_set: DataSetName
    score: float


@dataclass(frozen=True)
class Pair:
    """A direct and a mapped score of the same layers."""

    table: str
    network: str
    layers: tuple[str, ...]
    data_set: DataSetName
    direct: float
    mapped: float


@dataclass(frozen=True)
class Best:
    """A line of table 8; None where nothing was printed."""

    method: str
    oxford: float | None
    holidays: float | None
    ukb: float | None


_ALONE = {
    "T1": (
        "alexnet",
        ("conv3", "conv4", "conv5", "fc1", "fc2"),
        {
            "oxford": (0.489, 0.560, 0.487, 0.458, 0.488),
            "holidays": (0.809, 0.801, 0.806, 0.847, 0.855),
            "ukb": (3.01, 3.03, 2.23, 3.28, 3.45),
        },
    ),
    "T5": (
        "vgg16",
        ("c3_1", "c4_1", "c5_1", "fc1", "fc2"),
        {
            "oxford": (0.381, 0.504, 0.570, 0.439, 0.390),
            "holidays": (0.837, 0.872, 0.847, 0.845, 0.835),
            "ukb": (2.77, 2.91, 3.31, 3.54, 3.45),
        },
    ),
}

_TWO = {
    "T2": (
        "alexnet",
        {
            "conv3": "511-544 532-562 859-875 864-878 3420-3520 3540-3650",
            "conv4": "568-594 591-611 857-874 865-880 3420-3510 3570-3650",
            "conv5": "507-548 527-564 857-877 863-879 3460-3480 3560-3620",
        },
    ),
    "T6": (
        "vgg16",
        {
            "c3_1": "480-508 428-467 867-876 879-881 3540-3580 3470-3540",
            "c4_1": "561-573 522-548 892-910 885-910 3540-3610 3520-3570",
            "c5_1": "587-608 557-598 887-904 881-907 3580-3650 3580-3600",
        },
    ),
}
"""Direct and mapped, in thousandths: Oxford with fc1 and fc2, then Holidays, then UKB."""

_THREE = {
    "T3": (
        "alexnet",
        {
            ("fc2", "conv5", "conv4"): "602-612 872-889 3620-3690",
            ("fc2", "conv4", "conv3"): "601-613 872-883 3590-3660",
            ("fc2", "conv5", "conv3"): "566-578 873-884 3620-3690",
        },
    ),
    "T7": (
        "vgg16",
        {
            ("fc1", "c5_1", "c4_1"): "604-615 900-914 3570-3680",
            ("fc1", "c4_1", "c3_1"): "563-565 896-911 3550-3630",
            ("fc1", "c5_1", "c3_1"): "592-610 895-912 3570-3680",
        },
    ),
}
"""Direct and mapped, in thousandths: Oxford, Holidays, UKB."""

_TWO_LOCAL = {
    ("conv5", "conv4"): (0.567, 0.809, 3.243),
    ("conv5", "conv3"): (0.518, 0.822, 3.240),
    ("conv4", "conv3"): (0.563, 0.820, 3.131),
}
"""Table 4: AlexNet, mapped alone."""

TABLE_8 = (
    Best("AlexNet, two layers", 0.611, 0.880, 3.65),
    Best("AlexNet, three layers", 0.612, 0.889, 3.69),
    Best("VGG-16, two layers", 0.608, 0.904, 3.65),
    Best("VGG-16, three layers", 0.615, 0.914, 3.68),
    Best("Neural Codes", 0.545, 0.793, 3.29),
    Best("CNNaug-ss", 0.680, 0.843, None),
    Best("spatial search", 0.844, 0.897, None),
    Best("OxfordNet features", 0.649, 0.838, None),
    Best("Multi-VLAD", 0.558, 0.653, None),
    Best("CVLAD", 0.514, 0.827, 3.62),
    Best("sparse-coded features", None, None, 3.67),
)


def pairs() -> tuple[Pair, ...]:
    """Return the 54 pairs of tables 2, 3, 6 and 7, in the order of the tables."""
    return (*_pairs_of_two(), *_pairs_of_three())


def published() -> tuple[Published, ...]:
    """Return every score of tables 1 to 7, those of pairs twice: direct and mapped."""
    return (*_alone(), *_two_local(), *_both())


def score_of(
    network: str, layers: tuple[str, ...], kind: Kind, data_set: DataSetName
) -> Published | None:
    """Return what the paper says of some layers, None if it says nothing."""
    wanted = (network, layers, kind, data_set)
    by_key = {(each.network, each.layers, each.kind, each.data_set): each for each in published()}
    return by_key.get(wanted)


def _alone() -> Iterator[Published]:
    for table, (network, layers, columns) in _ALONE.items():
        for data_set in DATA_SETS:
            for layer, score in zip(layers, columns[data_set], strict=True):
                yield Published(table, network, (layer,), "alone", data_set, score)


def _two_local() -> Iterator[Published]:
    for layers, scores in _TWO_LOCAL.items():
        for data_set, score in zip(DATA_SETS, scores, strict=True):
            yield Published("T4", "alexnet", layers, "mapped", data_set, score)


def _both() -> Iterator[Published]:
    for pair in pairs():
        where = (pair.table, pair.network, pair.layers)
        yield Published(*where, "direct", pair.data_set, pair.direct)
        yield Published(*where, "mapped", pair.data_set, pair.mapped)


def _pairs_of_two() -> Iterator[Pair]:
    for table, (network, rows) in _TWO.items():
        for layer, text in rows.items():
            places = [(data_set, high) for data_set in DATA_SETS for high in ("fc1", "fc2")]
            for (data_set, high), cell in zip(places, text.split(), strict=True):
                yield Pair(table, network, (high, layer), data_set, *_thousandths(cell))


def _pairs_of_three() -> Iterator[Pair]:
    for table, (network, rows) in _THREE.items():
        for layers, text in rows.items():
            for data_set, cell in zip(DATA_SETS, text.split(), strict=True):
                yield Pair(table, network, layers, data_set, *_thousandths(cell))


def _thousandths(cell: str) -> tuple[float, float]:
    direct, mapped = cell.split("-")
    return int(direct) / 1000, int(mapped) / 1000
