"""Damaged pictures of every format end in a state, and take no process of ours with them."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lamella.pipeline.corpus import sandbox
from lamella.pipeline.corpus.decode import DecodeLimits, decode, probe
from lamella.pipeline.corpus.formats import sniff
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.resize import look_at, whole_look
from lamella.schemas.refusals import RefusalReason
from tests.mutations import in_every_format, mutate, small_photographs

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
REAL = Path(__file__).parents[3].parent / "shared/data"
LIMITS = DecodeLimits(max_pixels=4_000_000, max_bytes=8_000_000, max_seconds=20.0)
LOOK = whole_look(48, 48)
State = NDArray[np.uint8] | RefusalReason


def state_in_sandbox(data: bytes, reduction: int = 1) -> State:
    """Return a small view of the picture, or why it is refused."""
    try:
        found = sandbox.probe(data, LIMITS)
        size = (found.height, found.width)
        return sandbox.see(data, size, [LOOK], LIMITS, None, reduction)[0]
    except Refused as refused:
        return refused.reason


def state_here(data: bytes) -> State:
    """Return the same by decoding in this process."""
    try:
        probe(data, LIMITS)
        return look_at(decode(data, LIMITS), LOOK)
    except Refused as refused:
        return refused.reason


def peak_mib(process_id: int) -> int:
    """Return the most memory that a process held at once."""
    lines = Path("/proc", str(process_id), "status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))


def damaged(seeds: Sequence[bytes], count: int, seed: int) -> list[tuple[str, bytes]]:
    """Return (kind of damage, file), each picture in its turn."""
    random = np.random.default_rng(seed)
    return [mutate(seeds[number % len(seeds)], seeds, random) for number in range(count)]


def test_damaged_pictures_end_in_the_same_state_in_the_sandbox_as_out_of_it(planted: Path) -> None:
    photographs = small_photographs(planted, 2, 96)
    seeds = [data for image in photographs for data in in_every_format(image)]
    read = 0
    for number, (kind, data) in enumerate(damaged(seeds, 500, seed=1)):
        inside, outside = state_in_sandbox(data), state_here(data)
        reduced = state_in_sandbox(data, (2, 4, 8)[number % 3])
        if isinstance(outside, RefusalReason):
            assert inside is outside, f"{number}, {kind}"
            assert reduced is outside, f"{number}, {kind}, reduced"
        else:
            np.testing.assert_array_equal(inside, outside, err_msg=f"{number}, {kind}")
            assert not isinstance(reduced, RefusalReason), f"{number}, {kind}, reduced"
            read += 1
    assert 50 < read < 450  # some damage can be seen through, and some cannot


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the shared photographs are not here")
def test_ten_thousand_damaged_real_pictures_each_end_in_a_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = sandbox.Sandbox()
    monkeypatch.setattr(sandbox, "_sandbox", mine)
    photographs = small_photographs(REAL, 12, 400)
    seeds = [data for image in photographs for data in in_every_format(image)]
    seeds += [path.read_bytes() for path in sorted((REAL / "robustness").iterdir())]
    seeds = [data for data in seeds if len(data) < LIMITS.max_bytes]
    files = damaged(seeds, 10_000, seed=2)
    with ThreadPoolExecutor(2) as pool:
        states = list(pool.map(state_in_sandbox, (data for _, data in files)))
    table: Counter[tuple[str, str]] = Counter()
    for (_, data), state in zip(files, states, strict=True):
        named = state.value if isinstance(state, RefusalReason) else "read"
        table[sniff(data) or "no picture", named] += 1
    started = mine.started
    of_children = [peak_mib(child._process.pid) for child in mine._idle]
    mine.close()
    for (format_name, named), count in sorted(table.items()):
        print(f"{format_name:12} {named:18} {count:6,}")
    print(f"{started} children started; peak memory of each at the end, MiB: {of_children}")
    assert sum(table.values()) == 10_000
    assert not [state for state in states if state is RefusalReason.TOO_SLOW]
    assert started < 50
