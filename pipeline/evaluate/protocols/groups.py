"""Groups of a corpus's own: pictures of one folder, or of one name, are right for each other."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.protocols.ukb import GROUP_OF_UKB
from lamella.pipeline.evaluate.truth import GroundTruth, GroundTruthQuery, MetricName

ALONE = "alone in its group, so a distractor"


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
    alone = metric != "N-S"
    group_of = {name: frozenset(group) for group in kept.values() for name in group}
    queries = tuple(
        GroundTruthQuery(
            name, group_of[name] - {name} if alone else group_of[name], remove_self=alone
        )
        for name in names
        if name in group_of
    )
    left_out = tuple((group[0], ALONE) for group in members.values() if len(group) == 1)
    return GroundTruth("groups", metric, queries, left_out)


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
