"""The cut of a corpus depends on the names around it alone, and ids on names and bytes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.pipeline.corpus.cut import LEAST, MOST, Nearby, cut_segments, cut_shards, mark_of
from lamella.pipeline.corpus.identity import image_id_of
from lamella.pipeline.corpus.listing import Entry, numbered, settled
from lamella.schemas.corpus import ShardRef
from lamella.schemas.files import FileRef

NAMES = [f"folder/{number:05d}.jpg" for number in range(4_000)]


def entries(names: list[str]) -> list[Entry]:
    return [Entry(name) for name in sorted(names)]


def shard(names: tuple[Entry, ...], number: int = 0) -> ShardRef:
    images = FileRef(path="looks/x", size_bytes=number, sha256="0" * 64, rows=len(names))
    return ShardRef(
        key=f"{number:016x}",
        images=len(names),
        refused=0,
        ignored=0,
        file=images,
        first=names[0].place,
        last=names[-1].place,
        mark=mark_of(names[-1]),
    )


@given(st.sets(st.sampled_from(NAMES)), st.integers(1, 64))
def test_shards_hold_every_entry_in_order_within_their_bounds(names: set[str], size: int) -> None:
    listed = entries(list(names))
    shards = list(cut_shards(listed, size))
    assert [entry for part in shards for entry in part] == listed
    assert all(len(part) * LEAST >= size for part in shards[:-1])
    assert all(len(part) <= max(MOST * size, 1) for part in shards)


def test_a_shard_is_on_average_a_little_larger_than_asked_for() -> None:
    shards = list(cut_shards(entries(NAMES), 32))
    assert 32 < len(NAMES) / len(shards) < 48


@settings(max_examples=50)
@given(st.sampled_from(NAMES), st.booleans())
def test_an_edit_touches_the_shards_around_it_alone(name: str, added: bool) -> None:
    without = [each for each in NAMES if each != name]
    before, after = (without, NAMES) if added else (NAMES, without)
    one = set(cut_shards(entries(before), 32))
    other = set(cut_shards(entries(after), 32))
    # The one it stands in, the next if that cut moves, and what follows until cuts meet again.
    assert len(other - one) <= 4
    assert len(one - other) <= 4


def test_segments_are_runs_of_whole_shards_with_pictures() -> None:
    shards = [shard(part, n) for n, part in enumerate(cut_shards(entries(NAMES), 8))]
    segments = list(cut_segments(shards, 8, 200))
    assert [each for part in segments for each in part] == shards
    sizes = [sum(each.images for each in part) for part in segments]
    assert all(size * LEAST >= 200 for size in sizes[:-1])
    assert all(size <= MOST * 200 + MOST * 8 for size in sizes)
    empty = shards[1].model_copy(
        update={"images": 0, "file": shards[1].file.model_copy(update={"rows": 0})}
    )
    assert list(cut_segments([shards[0], empty], 8, 8)) == [(shards[0],)]


def test_earlier_shards_are_found_by_what_stands_in_them() -> None:
    shards = [shard(part, n) for n, part in enumerate(cut_shards(entries(NAMES[100:200]), 8))]
    near = Nearby(shards)
    for each in shards:
        assert each in near.of(each.first, each.last)
    assert list(near.of("a", "b")) == list(near.of("g", "h")) == []
    assert list(near.of("a", shards[0].first)) == shards[:1]
    assert list(near.of("a", "z")) == shards


def test_an_id_is_made_of_container_name_bytes_and_occurrence() -> None:
    ids = {
        image_id_of(container, name, sha256, occurrence)
        for container in ("", "a.tar")
        for name in ("a", "b")
        for sha256 in (None, bytes(32), b"\1" * 32)
        for occurrence in (0, 1)
    }
    assert len(ids) == 24
    assert all(0 <= each < 2**63 for each in ids)
    # What it was when format 2 was made: an id is the same for ever.
    assert image_id_of("", "cats/1.jpg", bytes(range(32))) == 511_426_126_264_009_933


def test_equal_names_of_a_container_are_counted() -> None:
    found = [
        *(Entry("a", "x.tar", 0), Entry("b", "x.tar", 1), Entry("a", "x.tar", 2)),
        *(Entry("a", "y.tar", 0), Entry("a")),
    ]
    assert [entry.occurrence for entry in numbered(found)] == [0, 0, 1, 0, 0]


def test_what_was_written_right_before_it_was_listed_is_not_sure() -> None:
    second = 1_000_000_000

    def is_sure(version: int | None) -> bool:
        (entry,) = settled([Entry("a", version=version)], 100 * second)
        return entry.version is not None

    assert is_sure(99 * second + 900_000_000)
    assert not is_sure(100 * second - 1_000_000)
    assert not is_sure(99 * second)  # a clock of whole seconds
    assert is_sure(98 * second)
    assert not is_sure(200 * second)  # in the future: it may be written again and again
    assert is_sure(0)  # missing, or with a fault
    assert not is_sure(None)
