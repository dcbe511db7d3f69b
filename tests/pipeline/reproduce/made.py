"""Records of reproductions with scores by hand, for tests of what is said about them."""

from lamella.pipeline.reproduce.rankings import GRID
from lamella.schemas.report import CrossValidated, Interval, SweepPoint
from lamella.schemas.reproduced import (
    DataSetName,
    FusedScore,
    LayerScore,
    Reproduced,
    ShownQuery,
    ShownRanking,
    ShownWord,
)

DIGEST = "0" * 64


def fused(
    layers: tuple[str, ...], direct: float, mapped: float, *, sure: bool = False, at: int = 0
) -> FusedScore:
    """Return scores whose gain's interval excludes zero if `sure`; point `at` is best by .25."""
    gain = mapped - direct
    reach = abs(gain) / 2 if sure else 1.0
    grid = tuple(mapped + 0.25 * (place == at) for place in range(len(GRID)))
    best = SweepPoint(t=GRID[at][0], p=GRID[at][1], score=mapped + 0.25)
    return FusedScore(
        layers=layers,
        t=(0.2, *[1.0] * (len(layers) - 1)),
        p=(0.45, *[1.0] * (len(layers) - 1)),
        direct=direct,
        mapped=mapped,
        gain=gain,
        gain_interval=Interval(low=gain - reach, high=gain + reach),
        scaled=mapped + 0.125,
        weights=(1.0,) * len(layers),
        grid=grid if len(layers) == 2 else (),
        best=best,
        cross_validated=CrossValidated(score=mapped, chosen=(best, best)),
    )


def record(
    network: str,
    data_set: DataSetName,
    alone: dict[str, float],
    *fused_scores: FusedScore,
    pictures: bool = False,
) -> Reproduced:
    """Return a record of these scores."""
    thumbnails = ("AAAA", "")
    shown = ShownQuery(
        name="asked <b>.jpg",
        rankings=(
            ShownRanking(
                label="mapped",
                score=0.5,
                verdicts=("right", "wrong"),
                pictures=("one <script>.jpg", "two\x1b[31m.jpg"),
                thumbnails=thumbnails,
            ),
        ),
    )
    return Reproduced(
        data_set=data_set,
        network=network,
        inputs=DIGEST,
        snapshot=DIGEST,
        protocol=data_set,
        metric="N-S" if data_set == "ukb" else "mAP",
        queries=30,
        indexed=100,
        alone=tuple(LayerScore(layer=layer, score=score) for layer, score in alone.items()),
        fused=fused_scores,
        words={"c4_1": 500},
        rows={"c4_1": 1500},
        hashes={"pictures": DIGEST},
        shown=shown if pictures else None,
        patches={"c4_1": (ShownWord(word=3, patches=("AAAA",)),)} if pictures else {},
        elapsed_seconds=1.0,
    )
