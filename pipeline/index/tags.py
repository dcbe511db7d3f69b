"""Tags: names for snapshots, which keep them from expiring."""

import re

from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.index.expired import check_there
from lamella.pipeline.index.promotions import now, read_snapshot
from lamella.pipeline.names import known_names, shown
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import create_once
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import parse_record, read_record
from lamella.schemas.keeping import Tag

_NUMBER = re.compile(r"-?[0-9]{1,18}")
"""What is meant as the number of a snapshot; Python refuses to read thousands of digits."""


def read_tags(store: Store) -> dict[str, int]:
    """Return the number of the snapshot of each tag, by name.

    Raises:
        CorruptFile: the record of a tag is damaged.
    """
    paths = [f"tags/{name}" for name in store.names("tags")]
    tags = (read_record(store, path, Tag) for path in paths if tree.record_of(path) is Tag)
    return {tag.name: tag.snapshot for tag in tags}


def tags_by_snapshot(store: Store) -> dict[int, list[str]]:
    """Return the tags of each snapshot that has any, by its number. Raises as `read_tags`."""
    found: dict[int, list[str]] = {}
    for name, number in sorted(read_tags(store).items()):
        found.setdefault(number, []).append(name)
    return found


def tag_snapshot(store: Store, name: str, number: int) -> Tag:
    """Give a snapshot a name.

    Raises:
        InputError: it is no name for a tag, another snapshot has it, or there is no such snapshot.
    """
    path = _path(name)
    read_snapshot(store, number)
    check_there(store, number)
    mine = Tag(name=name, snapshot=number, tagged_at=now())
    data = create_once(store, path, mine.to_json())
    there = parse_record(store, path, Tag, data)
    if there.snapshot != number:
        raise InputError(
            f"tag {name} names snapshot {there.snapshot}, not {number}: remove it first, `lamella "
            f"tag {store.url} --remove {name}`, or give another name"
        )
    try:
        check_there(store, number)
    except InputError:  # it expired meanwhile: `expire` looks for tags after its own record
        remove_tag(store, name)
        raise
    return there


def remove_tag(store: Store, name: str) -> None:
    """Remove a tag; its snapshot may expire then.

    Raises:
        InputError: there is no such tag.
    """
    path = _path(name)
    if not store.exists(path):
        raise InputError(f"there is no tag {name} in {store.url}: see `lamella tag {store.url}`")
    store.discard(path)


def snapshot_named(store: Store, said: int | str) -> int:
    """Return the number of a snapshot that is given by its number or by a tag.

    Raises:
        InputError: it is neither a number nor a tag.
    """
    if isinstance(said, int) or _NUMBER.fullmatch(said):
        return int(said)
    tags = read_tags(store)
    if said not in tags:
        raise InputError(
            f"{shown(said)} is no number of a snapshot and no tag in {store.url} "
            f"(tags: {known_names(said, sorted(tags))}): see `lamella snapshots`"
        )
    return tags[said]


def _path(name: str) -> str:
    path = tree.TAG.at(tag=name)
    if tree.TAG.form.read(path) is None:
        raise InputError(
            "a tag is at most 40 letters, digits, dots, dashes and underscores, the first a "
            f"letter; got {one_line(repr(name), 60)}"
        )
    return path
