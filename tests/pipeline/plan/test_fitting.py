"""What cannot fit is refused in a sentence: both values, and the way out."""

import pytest

from lamella.pipeline.plan.fitting import misfits, needed_bytes
from lamella.schemas.plan import Figure, PlannedBytes

GB = 10**9

STORED = (
    PlannedBytes(kind="activations b11", stage="extract", size_bytes=Figure(mean=6 * GB)),
    PlannedBytes(
        kind="vocabularies b11, rounds", stage="vocabulary b11", size_bytes=Figure(mean=2 * GB)
    ),
    PlannedBytes(
        kind="vocabularies b11, sums of a round",
        stage="vocabulary b11",
        size_bytes=Figure(mean=2 * GB),
        kept=False,
    ),
)
SMALL = {"extract": {"process and network": GB}}


def test_what_goes_again_is_needed_too() -> None:
    assert needed_bytes(STORED) == 10 * GB


def test_enough_of_both_is_no_misfit() -> None:
    assert misfits(STORED, SMALL, 1_000, 10 * GB, 2 * GB) == ()
    assert misfits(STORED, SMALL, 1_000, None, 2 * GB) == ()


def test_a_small_disk_is_refused_with_both_values_and_the_way_out() -> None:
    (said,) = misfits(STORED, SMALL, 1_000, 4 * GB, 2 * GB)
    assert "takes 10 GB of the store's disk, and 4 GB are free, 6 GB too few" in said
    assert "activations b11 take 6 GB: leave that layer out (--layers)" in said
    assert "some 400 of 1,000 pictures would fit" in said


@pytest.mark.parametrize(
    ("stage", "cure"),
    [
        ("extract", "network.batch_size"),
        ("vocabulary b11", "fewer words (--words)"),
        ("index", "index.segment_images), 25 % of its size would fit"),
    ],
)
def test_little_memory_is_refused_with_both_values_and_the_way_out(stage: str, cure: str) -> None:
    needed = {stage: {"process": 400 << 20, "vectors": 4 * GB}}
    (said,) = misfits((), needed, 1_000, None, (400 << 20) + GB)
    # 400 MiB are 419,430,400 bytes.
    assert "4.42 GB a worker (process 419 MB, vectors 4 GB), and a worker has 1.42 GB" in said
    assert cure in said
