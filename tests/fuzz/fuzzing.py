"""How a fuzz target runs: few examples by default, many where slow, minutes in `make fuzz`."""

import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

MINUTES = float(os.environ.get("FUZZ_MINUTES", "0"))
FIRST_SEED = int(os.environ.get("FUZZ_SEED", "0"))
A_ROUND = 2_000
FEW = 30
Edit = tuple[int, str, int]

EDITS = st.lists(
    st.tuples(
        st.integers(0, 200) | st.integers(0, 2**24),
        st.sampled_from(["byte", "word", "cut", "drop", "repeat", "zero"]),
        st.integers(0, 255) | st.sampled_from([2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1]),
    ),
    max_size=6,
)
"""What may be done to a file, in order: where (modulo its length), what, with which number."""

DEEP = "[" * 20_000
TEXTS = st.text(max_size=40) | st.sampled_from(["\ud800", "\0", "../x", "x" * 5000, "1" * 5000])
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, -(2**63) - 1, 10**4000, float("nan"), float("inf"), 1e308, -0.0])
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
"""JSON values, and some that are none."""


def drawn(many: int, few: int = FEW) -> pytest.MarkDecorator:
    """Give a test the number of its `examples`: a few, and many in the slow tests."""
    return pytest.mark.parametrize(
        "examples", [few, pytest.param(many, marks=pytest.mark.slow)], ids=["few", "many"]
    )


def fuzz(
    check: Callable[..., None], *strategies: Any, examples: int, a_round: int = A_ROUND
) -> None:
    """Call `check` with drawn values: `examples` times, or until `FUZZ_MINUTES` are over.

    The clock is looked at after each `a_round` examples.

    Without minutes it draws the same values every time; with them other values each round. A
    failure is shown in its smallest form.
    """
    began, number, count = time.monotonic(), FIRST_SEED, 0
    while True:

        @seed(number)
        @settings(
            max_examples=a_round if MINUTES else examples,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        @given(st.tuples(*strategies))
        def one(values: tuple[Any, ...]) -> None:
            nonlocal count
            count += 1
            check(*values)

        one()
        number += 1
        minutes = (time.monotonic() - began) / 60
        if minutes >= MINUTES:
            break
    if MINUTES:
        print(f"\nfuzz {check.__name__}: {count:,} examples in {minutes:.1f} minutes, no finding")


def edited(data: bytes, edits: Sequence[Edit]) -> bytes:
    """Return a file after some edits."""
    for where, what, number in edits:
        place = where % max(1, len(data))
        length = 1 + number % 512
        match what:
            case "byte":
                data = data[:place] + bytes((number % 256,)) + data[place + 1 :]
            case "word":
                data = data[:place] + number.to_bytes(4, "big") + data[place + 4 :]
            case "cut":
                data = data[:place]
            case "drop":
                data = data[:place] + data[place + length :]
            case "repeat":
                data = data[:place] + data[place : place + length] * 3 + data[place + length :]
            case "zero":
                data = data[:place] + bytes(min(length, len(data) - place)) + data[place + length :]
    return data


def replaced(value: Any, where: int, odd: Any) -> Any:
    """Return a JSON value in which one of its parts, counted in its order, is another."""
    parts = _parts(value)
    target = parts[where % len(parts)]

    def build(part: Any, path: tuple[Any, ...]) -> Any:
        if path == target:
            return odd
        if isinstance(part, dict):
            return {key: build(inner, (*path, key)) for key, inner in part.items()}
        if isinstance(part, list):
            return [build(inner, (*path, place)) for place, inner in enumerate(part)]
        return part

    return build(value, ())


def _parts(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(value, dict):
        found += [each for key, inner in value.items() for each in _parts(inner, (*path, key))]
    if isinstance(value, list):
        numbered = enumerate(value)
        found += [each for place, inner in numbered for each in _parts(inner, (*path, place))]
    return found


def as_json(value: Any) -> bytes:
    """Return a value as JSON, also one that JSON has no words for."""
    return json.dumps(value).encode()


def one_line(error: Exception) -> None:
    """See that an error is a line that a person can read."""
    assert "\n" not in str(error)
    assert len(str(error)) < 2_000
