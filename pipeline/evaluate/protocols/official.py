"""Find the official files of a ground truth in what a user gives: a file, or a folder above it."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from lamella.pipeline.errors import InputError

PACKED = (".tgz", ".tar.gz", ".tar", ".zip")
DEEPEST = 3
"""Folders below the given one that are searched."""


@dataclass(frozen=True)
class Official:
    """A file of a data set's release.

    Attributes:
        protocol: who needs it.
        what: the file, or the folder of files, in words.
        patterns: its names, the best first. Of several files of one pattern in a folder the last by
            name is taken: the newest version.
        source: what it comes in.
    """

    protocol: str
    what: str
    patterns: tuple[str, ...]
    source: str

    def find(self, given: Path | None) -> Path:
        """Return the file: the given one, or the one of that name in or below the given folder.

        Raises:
            InputError: nothing was given, it is an archive, there is no such file, or there are
                several in different folders. The message names the file and what it comes in.
        """
        wanted = f"{self.what} ({self.source})"
        if given is None:
            raise InputError(f"protocol {self.protocol} needs --truth, {wanted}")
        if given.is_file():
            if given.name.endswith(PACKED):
                raise InputError(
                    f"a ground truth is given unpacked; {given} is an archive: "
                    f"{_how_to_unpack(given)}, and give that folder"
                )
            return given
        if not given.is_dir():
            raise InputError(f"--truth is a file or a folder; {given} is not there: give {wanted}")
        for pattern in self.patterns:
            found = search(given, pattern)
            folders = sorted({file.parent for file in found})
            if len(folders) > 1:
                raise InputError(
                    f"protocol {self.protocol} reads one folder; {given} has {found[0].name} in "
                    f"{len(folders)}, such as {folders[0]} and {folders[1]}: give one of them"
                )
            if found:
                return found[-1]
        packed = sorted(each for end in PACKED for each in given.glob(f"*{end}"))
        cure = _how_to_unpack(packed[0]) if packed else f"give {wanted}"
        raise InputError(
            f"protocol {self.protocol} needs {self.what}; {given} holds 0 files called "
            f"{' or '.join(self.patterns)}: {cure}"
        )


def search(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a name in a folder and in those not far below it, sorted."""
    levels = ("*/" * depth + pattern for depth in range(DEEPEST + 1))
    return sorted(file for level in levels for file in folder.glob(level) if file.is_file())


def _how_to_unpack(archive: Path) -> str:
    """Return the command that unpacks an archive into a folder of its own."""
    end = next(end for end in PACKED if archive.name.endswith(end))
    folder = shlex.quote(str(archive).removesuffix(end))
    packed = shlex.quote(str(archive))
    if end == ".zip":
        return f"unzip {packed} -d {folder}"
    return f"mkdir {folder} && tar -xf {packed} -C {folder}"
