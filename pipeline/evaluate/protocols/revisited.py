"""Revisited Oxford and Paris: 70 queries, each answer easy, hard or junk, in one file.

By the rules of the data set's own evaluation code. Query pictures are not part of the database:
where the corpus holds them, they leave every ranking.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.pickled_truth import read_plain_pickle
from lamella.pipeline.evaluate.protocols.official import Official
from lamella.pipeline.evaluate.stems import split, stems, unique
from lamella.pipeline.evaluate.truth import Box, GroundTruth, GroundTruthQuery, Release
from lamella.pipeline.evaluate.truth_files import read_lines
from lamella.schemas.report import BoxMode, Difficulty

Dataset = Literal["roxford", "rparis"]

DIFFICULTIES: tuple[Difficulty, ...] = get_args(Difficulty)
RIGHT = {"easy": ("easy",), "medium": ("easy", "hard"), "hard": ("hard",)}
IGNORED = {"easy": ("junk", "hard"), "medium": ("junk",), "hard": ("junk", "easy")}
KINDS = ("easy", "hard", "junk")
MEASURES = ("mP@1", "mP@5", "mP@10")
"""What the data sets report beside mAP."""

FILES = {
    protocol: Official(
        protocol, f"{name}.pkl", (f"{name}.pkl", f"{name}.json"), "a download of its own"
    )
    for protocol, name in (("roxford", "gnd_roxford5k"), ("rparis", "gnd_rparis6k"))
}


@dataclass(frozen=True)
class RevisitedQuery:
    """A query by stem, its box in corners, and its answers by kind, as stems."""

    stem: str
    box: Box
    answers: dict[str, tuple[str, ...]]


def revisited(
    dataset: Dataset,
    names: Sequence[str],
    truth: Path | None,
    difficulty: Difficulty = "medium",
    box_mode: BoxMode = "roi",
) -> GroundTruth:
    """Return the protocol of one difficulty, as `difficulties`."""
    return difficulties(dataset, names, truth, (difficulty,), box_mode)[0]


def difficulties(
    dataset: Dataset,
    names: Sequence[str],
    truth: Path | None,
    levels: Sequence[Difficulty] = DIFFICULTIES,
    box_mode: BoxMode = "roi",
) -> tuple[GroundTruth, ...]:
    """Return the protocols of `gnd_roxford5k.pkl` or `gnd_rparis6k.pkl`, one a difficulty.

    Easy: easy is right; hard and junk leave the ranking. Medium: easy and hard are right. Hard:
    hard is right; easy and junk leave. A query without a right answer is left out of the mean.

    Args:
        names: of all pictures of the corpus, the query pictures among them.
        truth: the official pickle, or the same as JSON, or a folder with it.
        box_mode: `roi`, the standard, crops the query to its box; `full` takes all of it.

    Raises:
        InputError: the file is of another form, or a query is not in the corpus. Right answers that
            are not there are counted as missed.
    """
    file = FILES[dataset].find(truth)
    images, read = read_truth(file)
    asked = {query.stem for query in read}
    named = asked.union(*(found for query in read for found in query.answers.values()))
    by_stem = unique(names, named)
    if absent := sorted(asked - by_stem.keys()):
        raise InputError(
            f"every query is a picture of the corpus; {file.name} asks for {absent[0]}, not "
            f"among {len(names):,} pictures ({len(absent):,} of {len(read):,} queries are not): "
            "index all of the data set, queries too"
        )
    held = asked.union(images) & set(stems(names))
    release = Release(len(held), len(images) + len(asked), len(read))
    found = []
    for level in levels:
        queries, left_out = _at(level, read, by_stem, box_mode)
        name = f"{dataset} {level} {box_mode}"
        found.append(GroundTruth(name, "mAP", queries, left_out, release, MEASURES, (file,)))
    return tuple(found)


def _at(
    difficulty: Difficulty,
    read: Sequence[RevisitedQuery],
    by_stem: dict[str, str],
    box_mode: BoxMode,
) -> tuple[tuple[GroundTruthQuery, ...], tuple[tuple[str, str], ...]]:
    """Return the queries of a difficulty, and those that are left out."""
    queries_in_corpus, _ = split((query.stem for query in read), by_stem)
    queries, left_out = [], []
    for query in read:
        right, missing = split(_of(query, RIGHT[difficulty]), by_stem)
        if not right and not missing:
            left_out.append((by_stem[query.stem], f"no {difficulty} answer"))
            continue
        junk, _ = split(_of(query, IGNORED[difficulty]), by_stem)
        queries.append(
            GroundTruthQuery(
                name=by_stem[query.stem],
                positives=right,
                junk=junk | queries_in_corpus,
                remove_self=True,
                box=query.box if box_mode == "roi" else None,
                missing=missing,
            )
        )
    return tuple(queries), tuple(left_out)


def _of(query: RevisitedQuery, kinds: tuple[str, ...]) -> list[str]:
    return [stem for kind in kinds for stem in query.answers[kind]]


def read_revisited(file: Path) -> list[RevisitedQuery]:
    """Return the queries of a revisited ground truth. Raises as `read_truth`."""
    return read_truth(file)[1]


def read_truth(file: Path) -> tuple[list[str], list[RevisitedQuery]]:
    """Return the database and the queries of a revisited ground truth: a pickle, or JSON by ending.

    Raises:
        InputError: the file differs from the data set's form; the message names the place.
    """
    if file.suffix == ".json":
        try:
            content = json.loads("\n".join(read_lines(file)))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file} is no JSON ({error}): give the official file") from None
    else:
        content = read_plain_pickle(file)
    if not isinstance(content, dict) or not {"imlist", "qimlist", "gnd"} <= content.keys():
        raise _wrong(file, "has a dictionary of imlist, qimlist and gnd", type(content).__name__)
    images = _stems(file, "imlist", content["imlist"])
    asked = _stems(file, "qimlist", content["qimlist"])
    if both := set(images) & set(asked):
        raise _wrong(file, "keeps queries out of imlist", f"{min(both)} in both")
    entries = content["gnd"]
    if not isinstance(entries, list) or len(entries) != len(asked):
        raise _wrong(file, f"has {len(asked)} entries in gnd, one a query", _length(entries))
    queries = zip(asked, entries, strict=True)
    return images, [
        _query(file, place, stem, entry, images) for place, (stem, entry) in enumerate(queries)
    ]


def _query(file: Path, place: int, stem: str, entry: Any, images: list[str]) -> RevisitedQuery:
    if not isinstance(entry, dict) or not {"bbx", *KINDS} <= entry.keys():
        raise _wrong(file, f"has bbx, easy, hard and junk in gnd[{place}]", _length(entry))
    answers = {
        kind: tuple(images[number] for number in _numbers(file, place, kind, entry, len(images)))
        for kind in KINDS
    }
    if sum(map(len, answers.values())) != len(set().union(*answers.values())):
        raise _wrong(file, f"has an answer of gnd[{place}] in one list", "one in two")
    return RevisitedQuery(stem, _box(file, place, entry["bbx"]), answers)


def _stems(file: Path, what: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _wrong(file, f"has a list of names in {what}", type(value).__name__)
    if not value or len(set(value)) != len(value):
        raise _wrong(file, f"has each name once in {what}", f"{len(value):,} names")
    return value


def _numbers(file: Path, place: int, kind: str, entry: dict[str, Any], images: int) -> list[int]:
    value = entry[kind]
    # `type`, because True is an int too.
    if (
        not isinstance(value, list)
        or len(value) > images
        or not all(type(number) is int and 0 <= number < images for number in value)
    ):
        raise _wrong(
            file, f"has numbers from 0 to {images - 1} in {kind} of gnd[{place}]", _length(value)
        )
    return value


def _box(file: Path, place: int, value: Any) -> Box:
    if isinstance(value, list | tuple) and len(value) == 4:
        x1, y1, x2, y2 = value
        real = all(type(corner) in (int, float) and math.isfinite(corner) for corner in value)
        if real and 0 <= x1 < x2 and 0 <= y1 < y2:
            return float(x1), float(y1), float(x2), float(y2)
    raise _wrong(file, f"has corners x1 < x2, y1 < y2 in bbx of gnd[{place}]", _length(value))


def _length(value: Any) -> str:
    length = f" of {len(value):,}" if isinstance(value, list | tuple | dict | str) else ""
    return f"{type(value).__name__}{length}"


def _wrong(file: Path, rule: str, found: str) -> InputError:
    return InputError(f"a revisited ground truth {rule}; {file} has {found}: give the official one")
