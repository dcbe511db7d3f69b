"""What cannot fit is refused in a sentence: both values, and the way out."""

import pytest

from lamella.pipeline.plan.fitting import GIB, misfits, needed_bytes, too_many_refused
from lamella.schemas.plan import Figure, PlannedBytes

STORED = (
    PlannedBytes(kind="activations b11", stage="extract", size_bytes=Figure(mean=6 * GIB)),
    PlannedBytes(
        kind="vocabularies b11, rounds", stage="vocabulary b11", size_bytes=Figure(mean=2 * GIB)
    ),
    PlannedBytes(
        kind="vocabularies b11, sums of a round",
        stage="vocabulary b11",
        size_bytes=Figure(mean=2 * GIB),
        kept=False,
    ),
)
SMALL = {"extract": {"process and network": GIB}}


def test_what_goes_again_is_needed_too() -> None:
    assert needed_bytes(STORED) == 10 * GIB


def test_enough_of_both_is_no_misfit() -> None:
    assert misfits(STORED, SMALL, 1_000, 10 * GIB, 2 * GIB) == ()
    assert misfits(STORED, SMALL, 1_000, None, 2 * GIB) == ()


def test_a_small_disk_is_refused_with_both_values_and_the_way_out() -> None:
    (said,) = misfits(STORED, SMALL, 1_000, 4 * GIB, 2 * GIB)
    assert "takes 10.00 GiB of the store's disk, and 4.00 are free, 6.00 too few" in said
    assert "activations b11 take 6.00: leave that layer out (--layers)" in said
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
    needed = {stage: {"process": 400 << 20, "vectors": 4 * GIB}}
    (said,) = misfits((), needed, 1_000, None, (400 << 20) + GIB)
    assert "4.39 GiB a worker (process 0.39, vectors 4.00), and a worker has 1.39" in said
    assert cure in said


@pytest.mark.parametrize(
    ("reasons", "tried", "times", "stops"),
    [
        ({"truncated": 11}, 100, 1.0, True),  # all were tried: 11 % is more than 10 %
        ({"truncated": 10}, 100, 1.0, False),
        ({"truncated": 2, "missing": 2}, 4, 1.0, True),
        ({"truncated": 3}, 4, 1.0, False),  # three never stop a job
        # 11 % of a sample of 100 is 11 % +- 3.1 %: not beyond two errors.
        ({"truncated": 11}, 100, 10.0, False),
        # 17 % +- 3.8 %: 9.5 %, still not; 18 % +- 3.8 %: 10.3 %.
        ({"truncated": 17}, 100, 10.0, False),
        ({"truncated": 18}, 100, 10.0, True),
        ({}, 100, 10.0, False),
    ],
)
def test_too_many_refused_pictures_are_told_where_the_sample_shows_it(
    reasons: dict[str, int], tried: int, times: float, stops: bool
) -> None:
    found = too_many_refused(reasons, tried, times, 0.1)
    assert len(found) == stops
    if stops:
        assert "raise --max-refused" in found[0]
