"""Find data sets on this machine by their official layouts, and make corpora of them."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lamella.pipeline.corpus.formats import has_picture_name
from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.data_set import sums_sha256
from lamella.pipeline.names import known_names, shown
from lamella.pipeline.reproduce.paper import DATA_SETS
from lamella.pipeline.store.commit import sha256_of
from lamella.schemas.reproduced import DataSetName

_PICTURES: dict[DataSetName, tuple[str, ...]] = {
    "oxford": ("images", "oxbuild_images", "oxbuild_images-v1", "jpg", "data", "."),
    "holidays": ("jpg", "."),
    "ukb": ("full", "."),
}
"""Where the pictures lie under a data set's folder, the first that is there."""

_STEMS: dict[DataSetName, str] = {
    "oxford": r"[a-z_]+_\d{6}",
    "holidays": r"\d{6}",
    "ukb": r"ukbench\d{5}",
}
"""What the stem of every picture looks like."""

_TRUTH: dict[DataSetName, tuple[str, ...]] = {
    "oxford": ("gt_files_170407", "groundtruth", "gt_files", "."),
    "holidays": ("holidays_images.dat", "eval_holidays/holidays_images.dat"),
    "ukb": (),
}
"""Where the truth lies under a data set's folder, or under the one above it."""


@dataclass(frozen=True)
class DataSet:
    """A data set on this machine.

    Attributes:
        pictures: the folder of its pictures.
        truth: its ground truth, as the protocol takes it; None where names alone say it.
        distractors: further folders, indexed with it.
    """

    name: DataSetName
    pictures: Path
    truth: Path | None
    distractors: tuple[Path, ...] = ()

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders that are indexed together."""
        return (self.pictures, *self.distractors)

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of its files: of its pictures, and of its ground truth.

        Each is the SHA-256 of what `sha256sum *` says in the folder, files by name.
        """
        found = {"pictures": folder_digest(self.pictures)}
        if self.truth is not None:
            whole = self.truth.is_dir()
            found["ground truth"] = (
                folder_digest(self.truth, "*.txt") if whole else sha256_of(self.truth)
            )
        return found


def folder_digest(folder: Path, pattern: str = "*") -> str:
    """Return the SHA-256 of what `sha256sum PATTERN` prints in a folder, files by name."""
    files = (path for path in folder.glob(pattern) if path.is_file())
    return sums_sha256((path.name, sha256_of(path)) for path in files)


def find_data_sets(
    given: Sequence[str], distractors: Sequence[str] = ()
) -> dict[DataSetName, DataSet]:
    """Return the data sets at the places that were given, in the order of the paper.

    Args:
        given: each `NAME=FOLDER`, or a folder that is one data set, or holds some.
        distractors: each `NAME=FOLDER`, or a folder that is indexed with every data set.

    Raises:
        InputError: there is no such folder, it has no data set or not the one named, or two places
            have the same one.
    """
    found: dict[DataSetName, DataSet] = {}
    for text in given:
        name, folder = _named(text, "--data")
        here = list(_within(folder, (name,) if name else DATA_SETS))
        if not here:
            wanted = name or "data set"
            raise InputError(
                f"--data takes the folder of a data set, or one that holds some, as they are "
                f"released; {folder} has no {wanted}: {_layouts(name)}"
            )
        for each in here:
            if each.name in found:
                raise InputError(
                    f"{each.name} is in {found[each.name].pictures} and in {each.pictures}: say "
                    f"which with --data {each.name}=FOLDER"
                )
            found[each.name] = each
    more: dict[DataSetName, list[Path]] = {name: [] for name in DATA_SETS}
    for text in distractors:
        name, folder = _named(text, "--distractors")
        for each_name in (name,) if name else DATA_SETS:
            more[each_name].append(folder)
    return {
        name: DataSet(
            name, found[name].pictures, found[name].truth, _others(found[name], more[name])
        )
        for name in DATA_SETS
        if name in found
    }


def _others(data_set: DataSet, folders: Sequence[Path]) -> tuple[Path, ...]:
    """Return the folders that are not the data set's own, each once."""
    return tuple(dict.fromkeys(folder for folder in folders if folder != data_set.pictures))


def _named(text: str, option: str) -> tuple[DataSetName | None, Path]:
    """Return the name and the folder of NAME=FOLDER; no name where it is a folder alone."""
    before, _, after = text.partition("=")
    name = None
    if after and not Path(text).expanduser().exists():
        name = next((each for each in DATA_SETS if each == before), None)
        if name is None:
            known = known_names(before, DATA_SETS)
            raise InputError(f"{option}: {shown(before)} is none of {known}")
        text = after
    folder = Path(text).expanduser().absolute()
    if not folder.is_dir():
        raise InputError(f"{option} takes folders; there is no folder {folder}")
    return name, folder


def _within(folder: Path, names: Sequence[DataSetName]) -> Iterator[DataSet]:
    """Yield the data sets that a folder is, or that the folders in it are."""
    for name in names:
        places = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
        for place in places:
            if (data_set := _at(name, place)) is not None:
                yield data_set
                break


def _at(name: DataSetName, folder: Path) -> DataSet | None:
    for part in _PICTURES[name]:
        pictures = folder / part
        if pictures.is_dir() and _holds(name, pictures):
            truth = _truth(name, folder)
            if truth is None and name == "oxford":
                continue
            return DataSet(name, pictures.resolve() if part == "." else pictures, truth)
    return None


def _holds(name: DataSetName, folder: Path) -> bool:
    """Say whether a folder's pictures are called as those of a data set are."""
    stems = [path.stem for path in folder.iterdir() if has_picture_name(path.name)]
    return bool(stems) and all(re.fullmatch(_STEMS[name], stem) for stem in stems)


def _truth(name: DataSetName, folder: Path) -> Path | None:
    for above in (folder, folder.parent):
        for part in _TRUTH[name]:
            place = above / part
            if place.is_dir() and _is_oxfords(place):
                return place
            if place.is_file():
                return place
    return None


def _is_oxfords(folder: Path) -> bool:
    """Say whether a folder has the truth of Oxford5k; that of Paris6k has the same form."""
    query = next(iter(sorted(folder.glob("*_query.txt"))), None)
    return query is not None and query.read_bytes().startswith(b"oxc1_")


def _layouts(name: DataSetName | None) -> str:
    wanted = {
        "oxford": "oxford is a folder with images/ (or oxbuild_images/) and gt_files_170407/",
        "holidays": "holidays is a folder with jpg/ and holidays_images.dat",
        "ukb": "ukb is a folder with full/ukbench00000.jpg and so on",
    }
    return "; ".join(wanted[each] for each in ((name,) if name else DATA_SETS))


@dataclass(frozen=True)
class Corpus:
    """What is indexed for some data sets.

    Attributes:
        source: as `lamella index` takes it: a folder, or a list of pictures.
        listed: the text of the list, to be written to `source`; None for a folder.
        pictures: how many files it names, None for a folder.
    """

    source: str
    listed: str | None = None
    pictures: int | None = None

    def write(self) -> None:
        """Write the list, where there is one; it is named by its text."""
        if self.listed is not None and not Path(self.source).exists():
            Path(self.source).write_text(self.listed, encoding="utf-8")


def corpus_of(data_set: DataSet, into: Path) -> Corpus:
    """Return what is indexed for a data set: its folder, or a list of all its folders' pictures.

    The same folders give the same list, in whatever order, so data sets may share an index.

    Args:
        into: where the list is written.
    """
    if not data_set.distractors:
        return Corpus(str(data_set.pictures))
    paths = sorted({str(path) for folder in data_set.folders for path in _pictures(folder)})
    text = "".join(f"{path}\n" for path in paths)
    name = f"pictures-{hashlib.sha256(text.encode()).hexdigest()[:12]}.txt"
    return Corpus(str(into.absolute() / name), text, len(paths))


def _pictures(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and has_picture_name(path.name):
            yield path


def numbers_by_name(option: str, given: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    """Return numbers by name, from texts that are NAME=N, or N alone, which has the name "".

    Raises:
        InputError: a text is neither, a name is unknown, or the number is below 1.
    """
    found: dict[str, int] = {}
    for text in given:
        name, equals, number = text.rpartition("=")
        known = name in names if equals else True
        if not known or not number.isdecimal() or int(number) < 1:
            raise InputError(
                f"{option} takes a number, or NAME=NUMBER of one of {', '.join(names)}; got "
                f"{shown(text)}"
            )
        found[name] = int(number)
    return found
