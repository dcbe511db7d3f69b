"""INRIA Holidays: 500 groups, the first picture of each asks for the others.

Some 228 pictures are stored sideways. Papers turn them upright first, by a published list; that
variant is another data set with other scores, so a report says which one the corpus holds.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.protocols.groups import ALONE
from lamella.pipeline.evaluate.protocols.official import Official
from lamella.pipeline.evaluate.stems import split, stem_of, stems, unique
from lamella.pipeline.evaluate.truth import GroundTruth, GroundTruthQuery, Release
from lamella.pipeline.evaluate.truth_files import read_lines

LIST = Official("holidays", "holidays_images.dat", ("holidays_images.dat",), "of eval_holidays.tgz")
PICTURES, QUERIES = 1491, 500

SizeOf = Callable[[str], tuple[int, int]]
"""Return width and height of a picture of the corpus by its name, as it is shown."""


def holidays(names: Sequence[str], truth: Path | None = None) -> GroundTruth:
    """Return the Holidays protocol: stems of 6 digits, group = number // 100, ..00 is the query.

    The query leaves its ranking. Groups come from the numbers, never from the order of the lines:
    the official parser gives pictures of a group without a query to the group before.

    Args:
        names: of all pictures of the corpus.
        truth: `holidays_images.dat`, or a folder with it: only the pictures it lists belong to
            groups, and listed pictures that the corpus lacks count as missed. Without it, all names
            of the corpus count; a group of one is a distractor.

    Raises:
        InputError: no name fits, a line of the file is malformed, or a group lacks its query.
    """
    file = None if truth is None else LIST.find(truth)
    if file is None:
        listed = {stem for stem in stems(names) if re.fullmatch(r"[0-9]{6}", stem)}
    else:
        listed = {stem_of(line) for line in read_lines(file)}
        wrong = sorted(stem for stem in listed if not re.fullmatch(r"[0-9]{6}", stem))
        if wrong:
            raise InputError(f"{file} lists names of 6 digits; it lists {wrong[0]!r}")
    groups: defaultdict[int, list[str]] = defaultdict(list)
    for stem in sorted(listed):
        groups[int(stem) // 100].append(stem)
    by_stem = unique(names, listed)
    queries, left_out = [], []
    for number, group in sorted(groups.items()):
        query, others = f"{number:04d}00", group[1:]
        if len(group) == 1 and (file is None or group[0] == query):
            left_out.append((by_stem.get(group[0], group[0]), ALONE))
            continue
        if group[0] != query or query not in by_stem:
            raise InputError(
                f"a Holidays group has its query, number ..00; group {number:04d} has "
                f"{', '.join(sorted(set(group) & by_stem.keys())) or 'nothing'} in the corpus "
                f"but not {query}: index it, or list only whole groups"
            )
        positives, missing = split(others, by_stem)
        queries.append(
            GroundTruthQuery(by_stem[query], positives, remove_self=True, missing=missing)
        )
    if not queries:
        raise InputError(
            f"Holidays pictures are called 100000.jpg, in groups by number // 100; "
            f"{len(names):,} names hold 0 groups: use the protocol `groups`"
        )
    return GroundTruth(
        "holidays",
        "mAP",
        tuple(queries),
        tuple(left_out),
        Release(len(by_stem), PICTURES, QUERIES),
        files=() if file is None else (file,),
    )


def told_upright(truth: GroundTruth, rotations: Path, size_of: SizeOf) -> GroundTruth:
    """Return the protocol with a name that says how many of the sideways pictures stand upright.

    Cameras store a picture that they took upright lying on its side, so one of the list (turned by
    90 or 270 degrees) that is wider than high is still sideways. Indexing applies the orientation
    that a file states, which turns some of the list by itself. The few that are upside down cannot
    be told by their size.

    Args:
        truth: as of `holidays`.
        rotations: the published list, a line `"100600.jpg": 90,` a picture: degrees clockwise.
        size_of: width and height as indexed.

    Raises:
        InputError: the list is malformed, or names no picture of the data set in the corpus.
    """
    turned = {stem for stem, degrees in read_rotations(rotations).items() if degrees % 180}
    by_stem = unique(sorted(truth.named), turned)
    if not by_stem:
        raise InputError(
            f"--rotations lists Holidays pictures such as 100600.jpg; of {len(turned):,} in "
            f"{rotations} the corpus holds 0: leave it out"
        )
    sizes = [size_of(name) for name in by_stem.values()]
    upright = sum(height > width for width, height in sizes)
    kind = f"{upright:,} of {len(sizes):,} upright"
    kind = {0: "raw", len(sizes): "upright"}.get(upright, kind)
    return replace(truth, protocol=f"holidays {kind}", files=(*truth.files, rotations))


def read_rotations(file: Path) -> dict[str, int]:
    """Return stem -> degrees clockwise of the published list.

    Raises:
        InputError: a line is no such entry, or there is none.
    """
    found = dict(_rotations(file))
    if not found:
        raise InputError(f'a list of rotations has lines like "100600.jpg": 90; {file} has 0')
    return found


def _rotations(file: Path) -> Iterator[tuple[str, int]]:
    for line in read_lines(file):
        if line in ("{", "}") or line.startswith("#"):
            continue
        entry = re.fullmatch(r"""["']?([0-9]{6})\.jpg["']?:\s*(90|180|270),?""", line)
        if entry is None:
            raise InputError(
                f'a list of rotations has lines like "100600.jpg": 90 (or 180, 270); {file} has '
                f"{line!r}: give the published holidays-rotate.yaml"
            )
        yield entry[1], int(entry[2])
