"""UKB, also called ukbench: 2,550 objects in four pictures, every picture a query."""

import re
from collections.abc import Sequence

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.stems import split, stems, unique
from lamella.pipeline.evaluate.truth import GroundTruth, GroundTruthQuery, Release

GROUP_OF_UKB = 4
PICTURES = 10_200


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
    held = sum(number < PICTURES for number in numbers.values())
    return GroundTruth("ukb", "N-S", tuple(queries), release=Release(held, PICTURES, PICTURES))
