"""Where a store's pictures may be read. Its records name a place, but they are only data."""

import shlex

from lamella.pipeline.corpus.joined import all_in_s3, each_part, moved, parts_of, shown
from lamella.pipeline.corpus.sources import source_root
from lamella.pipeline.errors import InputError
from lamella.pipeline.store.address import is_s3
from lamella.pipeline.store.protocol import Store


def picture_root(store: Store, root: str, told: str | None = None) -> str:
    """Return the folder or prefix that names of a store's pictures are under.

    Args:
        root: where its records say that it is.
        told: the source as the user names it now; by default the records' place is used. Of
            several sources, as `joined.moved` takes it.

    Raises:
        InputError: there is no such source; or the user named none, and a store in S3 names a
            folder of this machine: such a store may be anybody's.
    """
    if told is None:
        return _believed(store, root)
    if parts_of(root):
        return each_part(moved(root, told), source_root)
    return source_root(told)


def picture_source(store: Store, source: str, told: str | None = None) -> str:
    """Return a store's source, by the rule of `picture_root`.

    Raises:
        InputError: the store lies in S3, the source on this machine, and the user named none.
    """
    if told is None:
        return _believed(store, source)
    return moved(source, told) if parts_of(source) else told


def _believed(store: Store, place: str) -> str:
    if is_s3(store.url) and not all_in_s3(place):
        said = shown(place).replace(", ", ",")
        raise InputError(
            f"{store.url} says that its pictures lie in {shown(place)} on this machine, and a "
            "store in S3 is not believed that: if they do, say so with --pictures "
            f"{shlex.quote(said)}"
        )
    return place
