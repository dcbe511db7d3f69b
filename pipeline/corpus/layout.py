"""Tell from its files whether a folder is a data set in tars or in Parquet files."""

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from lamella.pipeline.corpus.listing import Entry
from lamella.pipeline.corpus.passed_over import TABLES, UNDERLINED, kind_of

TAR = (".tar",)
PARQUET_ENDINGS = (".parquet", ".pq")
_NOTE = re.compile(
    r"(^|/)(_[^/]*|(readme|licen[cs]e|notice|copying|changelog|citation|authors|manifest"
    r"|(sha\d+|md5)sums|checksums)[^/]*"
    r"|[^/]*\.((md|rst|txt|jsonl?|ya?ml|toml|csv|tsv|xml)(\.gz)?|ini|cfg|cff|bib|html?|pdf|py|ipynb|sh"
    r"|crc|log|lock|idx|index|sha\d+|md5|np[yz]|arrow|feather|pkl|h5|hdf5|faiss|db|sqlite))$",
    re.IGNORECASE,
)
"""Names of notes that writers of data sets leave beside tars and Parquet files."""

_UNDERLINED = re.compile(r"(^|/)_[^/=]*(/|$)")
"""Paths that readers of Spark's folders leave out; `_name=value` is a partition."""


@dataclass(frozen=True)
class DataSet:
    """The tars or Parquet files of a folder, in order, and by kind the other files there."""

    kind: Literal["tar", "parquet"]
    containers: list[Entry]
    beside: Counter[str]


@dataclass
class Layout:
    """The files of a folder, seen one after another.

    Attributes:
        tars, tables: the tars and Parquet files.
        notes: by kind, files that may lie beside these.
        others: whether there is any other file, which may be a picture.
    """

    tars: list[Entry] = field(default_factory=list)
    tables: list[Entry] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    others: bool = False

    def see(self, entry: Entry) -> None:
        """Take one file into account."""
        if self.others:
            return
        ending = entry.name.lower()
        if ending.endswith(TAR):
            self.tars.append(entry)
        elif ending.endswith(PARQUET_ENDINGS):
            self.tables.append(entry)
        elif _is_note(entry):
            self.notes[kind_of(entry.name)] += 1
        else:
            self.others = True

    def data_set(self) -> DataSet | None:
        """Return the data set that was seen; None where there are files that may be pictures.

        Notes may lie beside them, and beside tars Parquet files of their names: so img2dataset
        tells where its pictures came from.
        """
        if self.others:
            return None
        stems = {os.path.splitext(entry.name)[0] for entry in self.tars}
        if self.tars and all(_is_note(each) or _tells_of(each, stems) for each in self.tables):
            beside = Counter(TABLES if k == "parquet" else k for k in map(_kind, self.tables))
            return DataSet("tar", self.tars, self.notes + beside)
        # What Spark, Hive and Delta write beside the data starts with _
        under = [each for each in self.tables if _UNDERLINED.search(each.name)]
        chosen = [each for each in self.tables if not _UNDERLINED.search(each.name)]
        if not chosen:
            chosen, under = under, []
        if chosen and all(_is_note(each) for each in self.tars):
            beside = Counter(UNDERLINED if k == "parquet" else k for k in map(_kind, under))
            beside += Counter(map(_kind, self.tars))
            return DataSet("parquet", chosen, self.notes + beside)
        return None


def _kind(entry: Entry) -> str:
    return kind_of(entry.name)


def _is_note(entry: Entry) -> bool:
    return bool(_NOTE.search(entry.name) or _UNDERLINED.search(entry.name))


def _tells_of(table: Entry, stems: set[str]) -> bool:
    stem, ending = os.path.splitext(table.name)
    return ending == ".parquet" and stem in stems
