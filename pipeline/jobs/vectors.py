"""The vectors that a user brings to a job: opened, checked against the corpus, as layers."""

import math
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lamella.pipeline.accounts import too_many
from lamella.pipeline.corpus.formats import has_picture_name
from lamella.pipeline.corpus.given_vectors import (
    GivenVectors,
    OnRows,
    file_and_column,
    open_vectors,
)
from lamella.pipeline.corpus.listing import Listing
from lamella.pipeline.corpus.vector_listing import VECTORS
from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.store.address import is_s3
from lamella.pipeline.text import counted
from lamella.schemas.extraction import LayerSpec, VectorsRef
from lamella.schemas.job import VectorSettings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
AT_ONCE = 10_000
"""Entries of a listing that are looked up at once."""

SHARD_BYTES, SHARD_VECTORS = 1 << 24, (512, 8_192)
"""About the bytes of a shard of vectors alone, and how many it has at least and at most."""

FIRST = 3
"""How many names a note has of those that are not in the corpus."""


def vector_settings(given: Sequence[str]) -> list[dict[str, str]]:
    """Return the settings that `--vectors [NAME=]FILE[:COLUMN]` means, given any number of times.

    Without a name the layer is called by the file's name without its ending.

    Raises:
        InputError: a layer cannot have that name, or the file is none of this machine.
    """
    return [_one_setting(each) for each in given]


def _one_setting(said: str) -> dict[str, str]:
    name, equals, file = said.partition("=")
    if not equals or "/" in name:
        path, _ = file_and_column(said)
        name, file = path.stem, said
    if not NAME.fullmatch(name) or not file:
        raise InputError(
            f"--vectors takes NAME=FILE, and a name has up to 40 letters, digits, '.', '_' and "
            f"'-'; got {one_line(repr(said), 200)}: name the layer, as in clip=clip.parquet"
        )
    return {"name": name, "file": file}


def open_layers(
    settings: Sequence[VectorSettings], on_rows: OnRows = lambda number: None
) -> dict[str, GivenVectors]:
    """Open the vectors of a job; return them by layer, in their order.

    Raises:
        InputError: two layers have one name, or as `open_vectors`.
        OSError: the scratch folder is full.
    """
    found: dict[str, GivenVectors] = {}
    for each in settings:
        if each.name in found:
            raise InputError(
                f"each layer has a name of its own; two of --vectors are called {each.name}: name "
                "them, as in clip=a.parquet dino=b.parquet"
            )
        found[each.name] = open_vectors(each.file, on_rows)
    return found


def given_layers(
    vectors: Mapping[str, GivenVectors], *, are_corpus: bool = False
) -> dict[str, LayerSpec]:
    """Return the specs of given layers by name.

    Args:
        are_corpus: there are no pictures: the names of the first file are the corpus.
    """
    return {
        name: LayerSpec(
            name=name,
            node="vectors",
            kind="global",
            vectors=VectorsRef(
                sha256="" if are_corpus and number == 0 else each.sha256,
                dimensions=each.dimensions,
            ),
        )
        for number, (name, each) in enumerate(vectors.items())
    }


def notes_on(
    vectors: Mapping[str, GivenVectors], listing: Listing, max_refused: float
) -> Iterator[str]:
    """Yield what a person should know of the vectors, once they are checked against the corpus."""
    for layer, each in vectors.items():
        yield f"{layer}: {each.summary()}"
        if listing.vectors is not each:
            yield from check_joined(listing, layer, each, max_refused)


def check_joined(
    listing: Listing, layer: str, vectors: GivenVectors, max_refused: float
) -> list[str]:
    """Look every entry of a listing up among given vectors; return notes for a person.

    Raises:
        InputError: no entry has a vector, or more pictures lack one than the job allows.
    """
    used = np.zeros(len(vectors), np.bool_)
    files = found = absent = 0
    lacking: list[str] = []
    all_are_pictures = listing.kind.startswith(("list", "parquet", VECTORS))
    for start in range(0, len(listing.entries), AT_ONCE):
        names = [entry.name for entry in listing.entries[start : start + AT_ONCE]]
        rows = vectors.rows_of(names)
        used[rows[rows >= 0]] = True
        files, found = files + len(names), found + int((rows >= 0).sum())
        for name, row in zip(names, rows.tolist(), strict=True):
            if row < 0 and (all_are_pictures or has_picture_name(name)):
                absent += 1
                lacking += [name] if len(lacking) < FIRST else []
    if not found:
        raise InputError(
            f"vectors of {layer} belong to pictures by name, relative to the source; none of the "
            f"{len(vectors):,} names in {vectors.place} is in {listing.root}: there it is "
            f"{_shown([vectors.names[0].as_py()])}, here {_shown([listing.entries[0].name])}: "
            "write the names as they are here"
        )
    without = f"{_shown(lacking)}{_more(absent)}"
    if too_many(absent, files, max_refused):
        raise InputError(
            f"vectors of {layer}: {absent:,} of {counted(files, 'picture')} of {listing.root} have "
            f"none in {vectors.place}, {absent / files:.1%}; the job allows {max_refused:.1%}: "
            f"{without}; give vectors for them, or raise --max-refused"
        )
    notes = []
    if absent:
        notes.append(
            f"{layer}: {counted(absent, 'picture')} of {listing.root} {_have(absent)} no vector in "
            f"{vectors.place}, and will be refused: {without}"
        )
    if unknown := np.flatnonzero(~used).tolist():
        some = [vectors.names[row].as_py() for row in unknown[:FIRST]]
        notes.append(
            f"{layer}: {counted(len(unknown), 'name')} in {vectors.place} {_are(len(unknown))} not "
            f"in {listing.root}, and of no use: {_shown(some)}{_more(len(unknown))}"
        )
    return notes


def _shown(names: Sequence[str]) -> str:
    return ", ".join(one_line(repr(name), 100) for name in names)


def _more(total: int) -> str:
    return f" and {total - FIRST:,} more" if total > FIRST else ""


def _have(number: int) -> str:
    return "has" if number == 1 else "have"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def changed(
    settings: Sequence[VectorSettings], said: Sequence[Mapping[str, Any]]
) -> tuple[VectorSettings, ...]:
    """Return settings with some replaced by what is said now, by name; others are added."""
    files = {each.name: each for each in settings}
    files |= {each["name"]: VectorSettings(**each) for each in said}
    return tuple(files.values())


def check_believed(url: str, settings: Sequence[VectorSettings], told: Collection[str]) -> None:
    """Check that files of vectors may be read where a store's record says that they are.

    Args:
        url: of the store.
        told: the layers whose files the user names.

    Raises:
        InputError: the store lies in S3, so it may be anybody's, and a file on this machine.
    """
    for each in settings:
        if is_s3(url) and each.name not in told:
            raise InputError(
                f"{url} says that the vectors of {each.name} lie in {each.file} on this machine, "
                "and a store in S3 is not believed that: if they do, say so with `lamella reindex "
                f"{url} --vectors {shlex.quote(f'{each.name}={each.file}')}`"
            )


def largest_shard(dimensions: int) -> int:
    """Return how many vectors go into a shard at most on average: about 16 MB, 512 to 8,192.

    No picture of theirs is read, so a shard of the usual size would be little but its records.
    """
    wanted = 1 << int(math.log2(SHARD_BYTES / (4 * dimensions)))
    return min(max(wanted, SHARD_VECTORS[0]), SHARD_VECTORS[1])
