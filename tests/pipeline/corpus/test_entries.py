"""Entries of a listing on disk: they read like a tuple, whatever is still in memory."""

import errno
import gc
import pickle
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.pipeline.corpus import entries as module
from lamella.pipeline.corpus.entries import Entries, Entry, digest_of, in_order
from lamella.pipeline.corpus.listing import Listing
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.corpus.stage import look_tasks
from lamella.schemas.refusals import RefusalReason

ENTRIES = st.lists(
    st.builds(
        Entry,
        name=st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        container=st.sampled_from(["", "a.tar", "ü\n.tar"]),
        offset=st.integers(0, 2**62),
        size_bytes=st.integers(-1, 2**62),
        version=st.none() | st.integers(0, 2**62),
        fault=st.none() | st.sampled_from(list(RefusalReason)),
        occurrence=st.integers(0, 3),
    ),
    max_size=40,
)


@pytest.fixture(params=[1 << 20, 0], ids=["in memory", "on disk"], autouse=True)
def little(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and runs of few entries, and memory for all of them or for none."""
    monkeypatch.setattr(module, "BLOCK", 4)
    monkeypatch.setattr(module, "SORTED_AT_ONCE", 8)
    monkeypatch.setattr(module, "HELD_BYTES", request.param)


@given(ENTRIES, st.integers(0, 45), st.integers(0, 45))
@settings(max_examples=60)
def test_entries_read_like_a_tuple(given: list[Entry], start: int, stop: int) -> None:
    found = Entries(given)
    assert (len(found), list(found)) == (len(given), given)
    assert [found[number] for number in range(len(given))] == given
    part = found[start:stop]
    assert (len(part), list(part)) == (len(given[start:stop]), given[start:stop])
    assert [part[number] for number in range(-len(part), 0)] == given[start:stop]
    assert pickle.loads(pickle.dumps(part)) == tuple(given[start:stop])
    assert list(pickle.loads(pickle.dumps(found))) == given
    assert digest_of(found) == digest_of(given)
    with pytest.raises(IndexError):
        found[len(given)]


@given(ENTRIES)
@settings(max_examples=60)
def test_any_number_is_sorted_by_name(given: list[Entry]) -> None:
    wanted = sorted(given, key=lambda entry: (entry.name.encode(), entry.fault or ""))
    assert list(in_order(iter(given))) == wanted


def test_nothing_of_the_scratch_file_is_left_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = Entries(Entry(str(number)) for number in range(40))
    assert [entry.name for entry in found] == [str(number) for number in range(40)]
    assert not list(tmp_path.iterdir())


def test_a_full_scratch_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD_BYTES", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256, before[1]))  # Python ignores the signal
    try:
        with pytest.raises(OSError, match=rf"scratch folder {tmp_path} \(TMPDIR\)") as raised:
            Entries(Entry(str(number)) for number in range(40))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.errno == errno.EFBIG


def test_few_entries_are_in_memory_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """While entries are sorted, kept and cut, less than a fifth of them is held."""
    monkeypatch.setattr(module, "SORTED_AT_ONCE", 250)
    count, before = 4_000, alive()
    most = 0

    def watched(entries: Iterator[Entry]) -> Iterator[Entry]:
        nonlocal most
        for number, entry in enumerate(entries):
            if number % 1_333 == 0:  # a look at all objects takes a while
                most = max(most, alive() - before)
            yield entry

    backwards = (Entry(f"folder/{number:06d}.jpg") for number in range(count, 0, -1))
    listing = Listing("folder", "/", Entries(watched(in_order(watched(backwards)))))
    tasks = look_tasks(listing, 64, ())
    assert sum(len(task.entries) for task in tasks) == count
    assert 250 < max(most, alive() - before) < count / 5


def alive() -> int:
    """Return how many entries are in memory."""
    return sum(type(each) is Entry for each in gc.get_objects())


def test_a_listing_is_in_order_whatever_lies_how_deep(tmp_path: Path) -> None:
    names = ["a.jpg", "a/b.jpg", "a-b/c.jpg", "a/b/c.jpg", "ä.jpg", "Z.jpg", "a/b-c.jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [entry.name for entry in list_source(str(tmp_path)).entries]
    assert found == sorted(names, key=str.encode)
