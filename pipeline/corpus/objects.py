"""List everything below a prefix in S3, in ranges of keys at once: pages follow one another."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise

from lamella.pipeline.corpus.at_once import Request, all_at_once
from lamella.pipeline.store.address import parse_s3
from lamella.pipeline.store.s3 import Facts, Page, client

RANGES = 64
"""Into so many ranges of keys a large listing is cut at most."""

Named = tuple[str, Facts]
"""A name under the prefix, and what the listing says of the object."""


class OutOfOrder(Exception):
    """Ranges do not fit together: objects came or went, or the server sorts in its own way."""


def objects_under(place: str) -> Iterator[Named]:
    """Yield every object below a prefix, one page after another, in the server's order."""
    address = parse_s3(place)
    under = address.key("")
    for page in client().pages(address.bucket, under, deep=True):
        yield from _named(page, under)


def objects_at_once(place: str) -> Iterator[Named]:
    """Yield every object below a prefix, in no order.

    A listing of several pages is cut into ranges of keys, at folders that lie near the prefix.
    Nothing is lost where a server does not sort keys as expected: each range must end at the very
    key with which the next one begins.

    Raises:
        OutOfOrder: it does not; then list one page after another.
    """
    address = parse_s3(place)
    under = address.key("")
    pages = client().pages(address.bucket, under, deep=True)
    first = next(pages)
    if next(pages, None) is None:
        yield from _named(first, under)
        return
    cuts = _cuts(address.bucket, under)
    ranges = [
        _Range(address.bucket, under, after, upto) for after, upto in pairwise(["", *cuts, None])
    ]
    yield from all_at_once([each.page for each in reversed(ranges)])
    for before, after in pairwise(ranges):
        if before.next_key != after.first_key:
            raise OutOfOrder


def _cuts(bucket: str, under: str) -> list[str]:
    """Return prefixes below a prefix, in order, which cut its keys into ranges."""
    found = _folders(bucket, under)
    if len(found) < RANGES:
        deeper = all_at_once([_Looked(bucket, folder) for folder in found])
        found = sorted({*found, *deeper}, key=str.encode)
    step = max(1, -(-len(found) // (RANGES - 1)))
    return found[::step]


def _folders(bucket: str, under: str) -> list[str]:
    """Return the prefixes right below a prefix, as far as the first pages tell."""
    pages = islice(client().pages(bucket, under, deep=False), RANGES)
    return sorted({folder for page in pages for folder in page.folders}, key=str.encode)


@dataclass(frozen=True)
class _Looked:
    """A request for the prefixes right below a prefix."""

    bucket: str
    under: str

    def __call__(self) -> tuple[Iterable[str], Sequence[Request[str]]]:
        return _folders(self.bucket, self.under), ()


@dataclass
class _Range:
    """The keys after one key, up to another or to the end.

    Attributes:
        first_key: the first key that the server gives after `after`, within the range or not.
        next_key: the first key after the range.
    """

    bucket: str
    under: str
    after: str | None
    upto: str | None
    first_key: str | None = None
    next_key: str | None = None
    _last: bytes = b""
    _pages: Iterator[Page] = field(init=False)

    def __post_init__(self) -> None:
        self._last = (self.after or "").encode()
        self._pages = client().pages(self.bucket, self.under, deep=True, after=self.after)

    def page(self) -> tuple[Iterable[Named], Sequence[Request[Named]]]:
        """Return the objects of the next page; and itself, if there may be more."""
        page = next(self._pages, None)
        if page is None:
            return (), ()
        keys = [facts.key.encode() for facts in page.files]
        if any(a >= b for a, b in pairwise([self._last, *keys])):
            raise OutOfOrder
        if self.first_key is None and page.files:
            self.first_key = page.files[0].key
        end = None if self.upto is None else self.upto.encode()
        inside = sum(end is None or key <= end for key in keys)
        self._last = keys[-1] if keys else self._last
        found = list(_named(page, self.under))[:inside]
        if inside < len(keys):
            self.next_key = page.files[inside].key
            return found, ()
        return found, (self.page,)


def _named(page: Page, under: str) -> Iterator[Named]:
    for facts in page.files:
        yield facts.key.removeprefix(under), facts
