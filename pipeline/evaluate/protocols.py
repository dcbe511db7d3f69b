"""Derive ground truth from the names of a corpus, by the published rules of each data set.

Names are those of the corpus manifest, such as `oxford5k/images/all_souls_000013.jpg`; they are
matched by stem (`all_souls_000013`), so folders and endings do not matter.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.stems import split, stems, unique
from lamella.pipeline.evaluate.truth import Box, GroundTruth, GroundTruthQuery, MetricName
from lamella.pipeline.evaluate.truth_files import read_lines, read_list, read_query
from lamella.schemas.report import BoxMode

GROUP_OF_UKB = 4


def ukb(names: Sequence[str]) -> GroundTruth:
    """Return the N-S protocol: stems `ukbench00000`, groups of four by number, all are queries.

    Pictures with other names are distractors. Pictures that a group of four lacks are `missing`.

    Raises:
        InputError: no name fits, or a number occurs twice.
    """
    numbers = {
        stem: int(found[1])
        for stem in stems(names)
        if (found := re.fullmatch(r"ukbench([0-9]{5})", stem))
    }
    if not numbers:
        raise InputError(
            f"UKB pictures are called ukbench00000.jpg; 0 of {len(names):,} names are: "
            "use the protocol `groups`"
        )
    by_stem = unique(names, numbers)
    queries = []
    for stem, number in sorted(numbers.items(), key=lambda item: item[1]):
        first = number - number % GROUP_OF_UKB
        group = [f"ukbench{first + place:05d}" for place in range(GROUP_OF_UKB)]
        positives, missing = split(group, by_stem)
        queries.append(GroundTruthQuery(by_stem[stem], positives, missing=missing))
    return GroundTruth("ukb", "N-S", tuple(queries))


def oxford(names: Sequence[str], gt_folder: Path, box_mode: BoxMode = "roi") -> GroundTruth:
    """Return the Oxford5k or Paris6k protocol from its folder of `*_query.txt` and lists.

    Good and ok are right, junk leaves the ranking, the query stays and counts. A query line is
    `oxc1_<stem> x1 y1 x2 y2`: corners. They are in pixels of the corpus's pictures, so resized
    pictures need resized boxes.

    Args:
        names: of all pictures of the corpus.
        gt_folder: holds `<landmark>_<n>_{query,good,ok,junk}.txt`.
        box_mode: `roi`, the standard, crops the query to its box; `full` takes all of it.

    Raises:
        InputError: no query file, a malformed one, a missing list, or a query that is not in the
            corpus. Right answers that are not there are counted as missed.
    """
    files = sorted(gt_folder.glob("*_query.txt"))
    if not files:
        raise InputError(
            f"Oxford's ground truth is a folder of *_query.txt files; {gt_folder} holds 0: "
            "give the folder into which gt_files_170407 was unpacked"
        )
    read: list[tuple[str, Box, dict[str, list[str]]]] = []
    for file in files:
        stem, box = read_query(file)
        lists = {kind: read_list(file, kind) for kind in ("good", "ok", "junk")}
        read.append((stem, box, lists))
    named = {stem for stem, _, _ in read}
    for _, _, lists in read:
        named.update(*lists.values())
    by_stem = unique(names, named)
    queries = []
    for file, (stem, box, lists) in zip(files, read, strict=True):
        if stem not in by_stem:
            raise InputError(
                f"every query is a picture of the corpus; {file.name} asks for {stem}, not "
                f"among {len(names):,} pictures: index it, or leave its files out"
            )
        positives, missing = split([*lists["good"], *lists["ok"]], by_stem)
        junk, _ = split(lists["junk"], by_stem)
        corners = box if box_mode == "roi" else None
        queries.append(
            GroundTruthQuery(by_stem[stem], positives, junk, box=corners, missing=missing)
        )
    return GroundTruth(f"oxford {box_mode}", "mAP", tuple(queries))


def holidays(names: Sequence[str], dat_file: Path | None = None) -> GroundTruth:
    """Return the Holidays protocol: stems of 6 digits, group = number // 100, ..00 is the query.

    The query leaves its ranking. Groups come from the numbers, never from the order of the lines:
    the official parser gives pictures of a group without a query to the group before.

    Args:
        names: of all pictures of the corpus.
        dat_file: `holidays_images.dat`: only the pictures it lists belong to groups, and listed
            pictures that the corpus lacks count as missed. Without it, all names of the corpus
            count; a group of one is a distractor.

    Raises:
        InputError: no name fits, a line of the file is malformed, or a group lacks its query.
    """
    if dat_file is None:
        listed = {stem for stem in stems(names) if re.fullmatch(r"[0-9]{6}", stem)}
    else:
        listed = {PurePosixPath(line).stem for line in read_lines(dat_file)}
        wrong = sorted(stem for stem in listed if not re.fullmatch(r"[0-9]{6}", stem))
        if wrong:
            raise InputError(f"{dat_file} lists names of 6 digits; it lists {wrong[0]!r}")
    groups: defaultdict[int, list[str]] = defaultdict(list)
    for stem in sorted(listed):
        groups[int(stem) // 100].append(stem)
    by_stem = unique(names, listed)
    queries = []
    for number, group in sorted(groups.items()):
        query, others = f"{number:04d}00", group[1:]
        if len(group) == 1 and dat_file is None:
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
    return GroundTruth("holidays", "mAP", tuple(queries))


def groups(
    names: Sequence[str], pattern: str | None = None, metric: MetricName = "mAP"
) -> GroundTruth:
    """Return a protocol in which pictures of one group are right for each other.

    Every picture of a group of two or more is a query. For mAP it leaves its own ranking; for
    N-S, which needs groups of four, it stays and counts.

    Args:
        names: of all pictures of the corpus.
        pattern: a regular expression with one group, searched in the whole name; what it captures
            is the group, and names without a match are distractors. None: the parent folder.
        metric: `mAP`, or `N-S` where every group has four pictures.

    Raises:
        InputError: the pattern is invalid, no group has two pictures, or N-S is asked for and a
            group does not have four.
    """
    members: defaultdict[str, list[str]] = defaultdict(list)
    for name, key in _keys(names, pattern):
        members[key].append(name)
    kept = {key: group for key, group in members.items() if len(group) > 1}
    if not kept:
        raise InputError(
            f"a group has at least 2 pictures; {len(names):,} names by "
            f"{pattern or 'parent folder'} give {len(members):,} groups of 1: "
            "give a pattern such as '(obj[0-9]+)_'"
        )
    sizes = {key: len(group) for key, group in kept.items() if len(group) != GROUP_OF_UKB}
    if metric == "N-S" and sizes:
        key = min(sizes)
        raise InputError(
            f"N-S needs groups of {GROUP_OF_UKB}; group {key!r} has {sizes[key]}: use mAP"
        )
    alone = metric == "mAP"
    group_of = {name: frozenset(group) for group in kept.values() for name in group}
    queries = tuple(
        GroundTruthQuery(
            name, group_of[name] - {name} if alone else group_of[name], remove_self=alone
        )
        for name in names
        if name in group_of
    )
    return GroundTruth("groups", metric, queries)


def _keys(names: Sequence[str], pattern: str | None) -> list[tuple[str, str]]:
    if pattern is None:
        return [(name, str(PurePosixPath(name).parent)) for name in names]
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"a group pattern is a regular expression; {pattern!r}: {error}") from None
    if compiled.groups != 1:
        raise InputError(f"a group pattern has 1 group; {pattern!r} has {compiled.groups}")
    found = ((name, compiled.search(name)) for name in names)
    return [(name, match[1]) for name, match in found if match and match[1] is not None]
