"""INRIA Copydays: copies of 157 holiday pictures, attacked in many ways; a part for each attack."""

import re
from collections import defaultdict
from collections.abc import Sequence

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.stems import stem_of, unique
from lamella.pipeline.evaluate.truth import GroundTruth, GroundTruthQuery, Release

FIRST, LAST = 2000, 2156
"""Groups of the data set: numbers 200000 to 215699."""

COPIES = {"strong": 229, "crops": 157, "jpeg": 157}
"""How many queries each part has."""

PICTURES = 157 + 229 + 18 * 157

ATTACK = re.compile(r"(?:^|[/_])(?:(strong)|(crop|jpe?g)(?:s|qual)?[/_]([0-9]{1,2}))(?=/)")


def copydays(names: Sequence[str]) -> tuple[GroundTruth, ...]:
    """Return a protocol for each attack that the corpus holds: strong, crops and JPEG by strength.

    Every attacked copy asks for its original, group = number // 100. The database is the originals
    and what else the corpus has: all attacked copies leave every ranking. An original that the
    corpus lacks counts as missed.

    Names are those of the archives: originals `200000.jpg` (or `original/200000.jpg`), copies
    `strong/200001.jpg`, `crops/10/200000.jpg`, `jpegqual/3/200000.jpg`; copies called ..01 and up
    that lie beside the originals are strong ones, as their archive has no folder.

    Args:
        names: of all pictures of the corpus.

    Raises:
        InputError: no attacked copy, or two originals of one number.
    """
    copies: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
    originals = []
    for name in names:
        stem = stem_of(name)
        if not re.fullmatch(r"[0-9]{6}", stem) or not FIRST <= int(stem) // 100 <= LAST:
            continue
        attack = _attack(name)
        if attack is not None or int(stem) % 100:
            copies[attack or ("strong", 0)].append(name)
        else:
            originals.append(name)
    if not copies:
        raise InputError(
            "Copydays has originals 200000.jpg and attacked copies in strong, crops/10, "
            f"jpegqual/3 and so on; {len(names):,} names hold {len(originals):,} originals and 0 "
            "copies: index the folder above all of them"
        )
    by_stem = unique(originals, {stem_of(name) for name in originals})
    attacked = frozenset(name for found in copies.values() for name in found)
    release = Release(len(originals) + len(attacked), PICTURES, 0)
    return tuple(
        _part(kind, strength, found, by_stem, attacked, release)
        for (kind, strength), found in sorted(copies.items(), key=_in_order)
    )


def _attack(name: str) -> tuple[str, int] | None:
    """Return the kind and the strength of an attack by the folders of a name."""
    found = ATTACK.search(name)
    if found is None:
        return None
    if found[1]:
        return "strong", 0
    return ("crops" if found[2] == "crop" else "jpeg"), int(found[3])


def _in_order(item: tuple[tuple[str, int], list[str]]) -> tuple[int, int]:
    (kind, strength), _ = item
    return list(COPIES).index(kind), strength


def _part(
    kind: str,
    strength: int,
    names: list[str],
    by_stem: dict[str, str],
    attacked: frozenset[str],
    release: Release,
) -> GroundTruth:
    queries = []
    for name in sorted(names):
        original = f"{int(stem_of(name)) // 100:04d}00"
        held = frozenset({by_stem[original]} if original in by_stem else ())
        lost = frozenset(() if held else {original})
        queries.append(GroundTruthQuery(name, held, attacked, missing=lost))
    part = f"{kind} {strength}" if strength else kind
    return GroundTruth(
        f"copydays {part}",
        "mAP",
        tuple(queries),
        release=Release(release.held, release.pictures, COPIES[kind]),
    )
