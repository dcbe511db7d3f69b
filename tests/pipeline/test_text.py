"""Numbers for people: one way for bytes, one for times, one for counts."""

import pytest

from lamella.pipeline.text import byte_size, counted, duration, three_digits


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (512, "512 B"),
        (60_000_000_000, "60 GB"),
        (2**30, "1.07 GB"),
        (999_600, "1 MB"),  # and not 1e+03 kB
        (123_456, "123 kB"),
        (5_250_000_000_000_000, "5,250 TB"),
    ],
)
def test_bytes_have_three_digits_in_powers_of_ten(size: float, said: str) -> None:
    assert byte_size(size) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0521, "0.052 s"), (59.99, "1 min"), (90, "1.5 min"), (9_000, "2.5 h"), (200_000, "2.31 d")],
)
def test_times_have_three_digits_in_the_largest_unit(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_one_thing_is_not_said_in_the_plural() -> None:
    assert [counted(n, "query") for n in (0, 1, 2_000)] == ["0 queries", "1 query", "2,000 queries"]
    assert counted(1.4, "picture") == "1 picture"
    assert [counted(2, one) for one in ("day", "batch")] == ["2 days", "2 batches"]


def test_a_number_never_has_an_exponent() -> None:
    assert [three_digits(n) for n in (1234.5, 99.96, 9.996, 0.045)] == [
        "1,234",
        "100",
        "10",
        "0.045",
    ]
