"""Large listings of S3 in ranges of keys: nothing is lost or told twice, however a server sorts."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.pipeline.corpus import objects, sources
from lamella.pipeline.corpus.objects import OutOfOrder, objects_at_once, objects_under
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.store import s3
from lamella.pipeline.store.s3 import Facts, Page, client

KEYS = [
    *(f"p/{folder}/{number}.jpg" for folder in ("a", "a-b", "b", "ü", "z") for number in range(7)),
    *("p/a.jpg", "p/a0.jpg", "p/zz.jpg", "p/b/deep/er/1.jpg", "p/.hidden", "p/b/"),
]


class FakeServer:
    """Lists keys in pages of 3, in an order that may not be S3's; `lost` come and go."""

    def __init__(
        self, keys: Sequence[str], order: Callable[[str], Any], after: bool = True
    ) -> None:
        self.keys, self.order, self.after = sorted(keys, key=order), order, after

    def pages(
        self, bucket: str, prefix: str, *, deep: bool, after: str | None = None
    ) -> Iterator[Page]:
        keys = [key for key in self.keys if key.startswith(prefix)]
        if after and self.after:
            keys = [key for key in keys if self.order(key) > self.order(after)]
        folders: tuple[str, ...] = ()
        if not deep:
            below = (key.removeprefix(prefix).partition("/") for key in keys)
            folders = tuple(dict.fromkeys(prefix + name + "/" for name, cut, _ in below if cut))
        for start in range(0, max(len(keys), 1), 3):
            files = tuple(Facts(key, 1, 0.0, key) for key in keys[start : start + 3])
            yield Page(files, folders)


def listed(monkeypatch: pytest.MonkeyPatch, server: FakeServer) -> list[str]:
    with monkeypatch.context() as patch:
        patch.setattr(objects, "client", lambda: server)
        return [name for name, _ in objects_at_once("s3://bucket/p")]


@given(st.sets(st.text("ab/-", min_size=1, max_size=6), max_size=40), st.integers(2, 9))
@settings(max_examples=80)
def test_ranges_hold_every_key_once(keys: set[str], ranges: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(objects, "RANGES", ranges)
        names = sorted(keys)
        server = FakeServer([f"p/{name}" for name in names], str.encode)
        assert sorted(listed(monkeypatch, server)) == names


@pytest.mark.parametrize(
    "server",
    [
        FakeServer(KEYS, lambda key: key.replace("/", "\0").encode()),  # folder by folder
        FakeServer(KEYS, lambda key: key[::-1]),
        FakeServer(KEYS, str.encode, after=False),  # knows nothing of StartAfter
    ],
    ids=["by folder", "backwards", "all again"],
)
def test_a_server_that_sorts_otherwise_is_noticed(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OutOfOrder):
        listed(monkeypatch, server)


def test_objects_that_come_in_between_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key at which one range ends is gone when the next one begins."""
    server = FakeServer(KEYS, str.encode)
    cut = objects._cuts
    taken: list[str] = []

    def cuts(bucket: str, under: str) -> list[str]:
        found = cut(bucket, under)
        whole = server.pages

        def pages(
            bucket: str, prefix: str, *, deep: bool, after: str | None = None
        ) -> Iterator[Page]:
            if after == "p/b/":  # the range from here on no longer has its first key
                server.keys.remove("p/b/0.jpg")
                taken.append("p/b/0.jpg")
            return iter(list(whole(bucket, prefix, deep=deep, after=after)))

        monkeypatch.setattr(server, "pages", pages)
        return found

    monkeypatch.setattr(objects, "_cuts", cuts)
    with pytest.raises(OutOfOrder):
        listed(monkeypatch, server)
    assert taken


@pytest.mark.parametrize(
    "keys",
    [
        [key for key in KEYS if not key.endswith("/")],  # this server sorts them folder by folder
        [f"p/{folder}/{number}.jpg" for folder in range(5) for number in range(5)],
    ],
    ids=["sorted otherwise", "sorted"],
)
def test_a_bucket_is_listed_alike_in_pages_of_any_size(
    bucket: str, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in keys:
        client().put(bucket, f"{len(keys)}/{key}", b"")
    source = f"s3://{bucket}/{len(keys)}/p"
    names = sorted(key.removeprefix("p/") for key in keys if "/." not in key)
    listed_by_page: list[str] = []

    def by_page(place: str) -> Iterator[objects.Named]:
        listed_by_page.append(place)
        return objects_under(place)

    monkeypatch.setattr(sources, "objects_under", by_page)
    whole = tuple(list_source(source).entries)
    assert sorted(entry.name for entry in whole) == names
    monkeypatch.setattr(s3, "PAGE_KEYS", 3)
    assert tuple(list_source(source).entries) == whole
    if keys[0] == "p/0/0.jpg":
        assert not listed_by_page
