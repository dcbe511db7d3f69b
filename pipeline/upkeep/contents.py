"""Look into every kind of file for a picture's name, id or hash."""

import base64
import binascii
import hashlib
import html
import json
import mmap
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lamella.pipeline.corpus.forgotten import forgotten_key
from lamella.pipeline.text import printable


@dataclass(frozen=True)
class Wanted:
    """What is looked for.

    Attributes:
        names: of pictures.
        hashes: SHA-256 in small hex.
        ids: of pictures.
        keys: of what was forgotten, as `corpus.forgotten` makes them: a value is found by its own
            digest, so that it needs not be known.
    """

    names: frozenset[str] = frozenset()
    hashes: frozenset[str] = frozenset()
    ids: frozenset[int] = frozenset()
    keys: frozenset[str] = frozenset()

    def found_in(self, local: Path, suffix: str) -> str | None:
        """Return what a file holds of it, None for nothing.

        Args:
            local: a copy of the file.
            suffix: of its name in the store, such as `parquet`.

        Raises:
            ValueError, OSError, ArrowException: the file has not the form that its name says.
        """
        if local.stat().st_size == 0:
            return None
        if (held := self._raw(local)) is not None:
            return held
        if suffix == "faiss":
            return None  # numbers alone
        if suffix == "parquet":
            with pq.ParquetFile(local) as file:
                return _first(map(self._batch, file.iter_batches()))
        if suffix == "arrow":
            with pa.memory_map(str(local)) as source, pa.ipc.open_file(source) as reader:
                batches = (reader.get_batch(n) for n in range(reader.num_record_batches))
                return _first(map(self._batch, batches))
        if suffix == "json":
            return _first(map(self._plain, _leaves(json.loads(local.read_bytes()))))
        text = local.read_bytes().decode("utf-8", "replace")
        return self._page(text) if suffix == "html" else self._text(text)

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        """Finds a name inside a text, where it is not a part of a longer name."""
        names = {each for name in self.names for each in (name, printable(name)) if each}
        every = "|".join(re.escape(name) for name in sorted(names))
        return re.compile(rf"(?<![\w./-])(?:{every})(?![\w/-]|\.\w)") if every else None

    def _raw(self, local: Path) -> str | None:
        """Look for hashes in the bytes of a file, whatever it is."""
        if not self.hashes:
            return None
        with local.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for sha256 in self.hashes:
                if data.find(sha256.encode()) >= 0 or data.find(bytes.fromhex(sha256)) >= 0:
                    return "its hash"
        return None

    def _batch(self, batch: Any) -> str | None:
        for field, column in zip(batch.schema, batch.columns, strict=True):
            if pa.types.is_int64(field.type) and self.ids:
                ids = pa.array(sorted(self.ids), pa.int64())
                if pc.any(pc.is_in(column, ids)).as_py():
                    return "its id"
            elif pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
                texts = pc.unique(column.drop_null()).to_pylist()
                if (held := _first(map(self._text, texts))) is not None:
                    return held
            elif field.type == pa.binary(32) and (self.hashes or self.keys):
                values = pc.unique(column.drop_null()).to_pylist()
                if (held := _first(self._hash(value.hex()) for value in values)) is not None:
                    return held
        return None

    def _plain(self, value: str | int) -> str | None:
        if isinstance(value, int):
            return "its id" if value in self.ids else None
        if self.ids and value.isascii() and value.isdecimal() and int(value) in self.ids:
            return "its id"
        return self._text(value)

    def _hash(self, sha256: str) -> str | None:
        if sha256 in self.hashes:
            return "its hash"
        return "its hash" if self.keys and forgotten_key("sha256", sha256) in self.keys else None

    def _text(self, text: str) -> str | None:
        if self.keys and forgotten_key("name", text) in self.keys:
            return "its name"
        if self._pattern is not None and self._pattern.search(text):
            return "its name"
        return self._hash(text) if re.fullmatch("[0-9a-f]{64}", text) else None

    def _page(self, text: str) -> str | None:
        """Look into a page: its texts, values of attributes, its data, and the pictures in it."""
        parser = _Texts()
        parser.feed(text)
        values = [leaf for data in parser.data for leaf in _leaves(json.loads(data))]
        if (held := _first(map(self._plain, values))) is not None:
            return held
        for piece in parser.texts:
            if (held := self._plain(piece.strip())) is not None:
                return held
        for data in re.findall(r"base64,([A-Za-z0-9+/=]+)", text):
            try:
                picture = base64.b64decode(data)
            except binascii.Error:
                continue
            if self._hash(hashlib.sha256(picture).hexdigest()) is not None:
                return "the picture itself"
        return self._text(html.unescape(text))


class _Texts(HTMLParser):
    """Collects the texts of a page, the values of its attributes, and its data, which are JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.data: list[str] = []
        self._in_data = False

    def handle_data(self, data: str) -> None:
        (self.data if self._in_data else self.texts).append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.texts += [value for _, value in attrs if value]
        self._in_data = tag == "script" and ("type", "application/json") in attrs

    def handle_endtag(self, tag: str) -> None:
        self._in_data = False


def _leaves(value: Any) -> Iterator[str | int]:
    """Yield the texts and whole numbers in parsed JSON, names of fields too."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    elif isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        yield value


def _first(found: Iterable[str | None]) -> str | None:
    return next((each for each in found if each is not None), None)


Says = Callable[[str], bool]
"""Says of a stored file, by its path, whether it holds what is looked for."""
