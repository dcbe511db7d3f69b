"""Google Landmarks v2, retrieval: queries of the test set, answers of the index set, mAP@100."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.protocols.official import Official
from lamella.pipeline.evaluate.stems import split, stems, unique
from lamella.pipeline.evaluate.truth import GroundTruth, GroundTruthQuery, Release
from lamella.pipeline.evaluate.truth_files import read_lines

SOLUTION = Official(
    "gldv2",
    "retrieval_solution_v2.1.csv",
    ("retrieval_solution_v2.*.csv",),
    "a download of its own; index.csv and test.csv may lie beside it",
)
PARTS = ("Public", "Private")
USAGES = (*PARTS, "Ignored")


@dataclass(frozen=True)
class Asked:
    """A row of the solution: a picture of the test set, its answers, and who scores it."""

    stem: str
    answers: tuple[str, ...]
    usage: str


def landmarks(names: Sequence[str], truth: Path | None) -> tuple[GroundTruth, ...]:
    """Return the protocols of the public and the private part, by the data set's own code.

    The test set is no part of the database, so what of it the corpus holds leaves every ranking.
    mAP@100 divides by the number of answers, or 100 if there are more.

    Args:
        names: of all pictures of the corpus; stems are the data set's ids.
        truth: `retrieval_solution_v2.1.csv` (or 2.0), or a folder with it. If `index.csv` and
            `test.csv` lie beside it they say which pictures the data set has.

    Raises:
        InputError: a file is of another form, or a query is not in the corpus. Right answers that
            are not there count as missed.
    """
    file = SOLUTION.find(truth)
    rows = list(_solution(file))
    index, tested = (_ids(file.with_name(name)) for name in ("index.csv", "test.csv"))
    test = {row.stem for row in rows} | (tested or frozenset())
    wanted = test.union(*(row.answers for row in rows))
    by_stem = unique(names, wanted)
    scored = [row for row in rows if row.usage != "Ignored" and row.answers]
    absent = [row.stem for row in scored if row.stem not in by_stem]
    if absent:
        raise InputError(
            f"every query is a picture of the corpus; {file.name} asks for {absent[0]}, not among "
            f"{len(names):,} pictures ({len(absent):,} of {len(scored):,} queries are not): "
            "index the test set too"
        )
    leaving, _ = split(test, by_stem)
    release = None
    if index is not None:
        held = set(stems(names))
        release = Release(len(held & index), len(index), 0)
    files = [file, *(file.with_name(f"{kind}.csv") for kind in ("index", "test"))]
    there = tuple(each for each in files if each.exists())
    return tuple(
        _part(usage, [row for row in rows if row.usage == usage], by_stem, leaving, release, there)
        for usage in PARTS
        if any(row.usage == usage and row.answers for row in rows)
    )


def _part(
    usage: str,
    rows: list[Asked],
    by_stem: dict[str, str],
    leaving: frozenset[str],
    release: Release | None,
    files: tuple[Path, ...],
) -> GroundTruth:
    queries, left_out = [], []
    for row in rows:
        if not row.answers:
            left_out.append((by_stem.get(row.stem, row.stem), "no right answer"))
            continue
        positives, missing = split(row.answers, by_stem)
        queries.append(GroundTruthQuery(by_stem[row.stem], positives, leaving, missing=missing))
    return GroundTruth(
        f"gldv2 {usage.lower()}",
        "mAP@100",
        tuple(queries),
        tuple(left_out),
        release and Release(release.held, release.pictures, len(queries)),
        files=files,
    )


def _solution(file: Path) -> Iterator[Asked]:
    """Yield the rows of a solution: id, answers separated by spaces (or None), usage."""
    seen: set[str] = set()
    header, *lines = read_lines(file) or [""]
    if header.casefold().split(",") != ["id", "images", "usage"]:
        raise _wrong(file, "has columns id, images, Usage", f"{header[:80]!r}")
    for number, line in enumerate(lines, start=2):
        # No quotes: ids are letters and digits. A row may be longer than Python's csv allows.
        stem, _, rest = line.partition(",")
        images, _, usage = rest.rpartition(",")
        if not stem or usage not in USAGES or "," in images:
            raise _wrong(file, f"has id, images, {'|'.join(USAGES)} in a row", f"line {number}")
        if stem in seen:
            raise _wrong(file, "has each id once", f"{stem} again in line {number}")
        seen.add(stem)
        answers = tuple(dict.fromkeys(images.split()))
        yield Asked(stem, () if answers == ("None",) else answers, usage)
    if not seen:
        raise _wrong(file, "has a row for each picture of the test set", "0 rows")


def _ids(file: Path) -> frozenset[str] | None:
    """Return the ids of a list of pictures; None where it is not there."""
    if not file.exists():
        return None
    header, *lines = read_lines(file) or [""]
    if header.split(",")[0] != "id":
        raise _wrong(file, "has ids in its first column, id", f"{header[:80]!r}")
    return frozenset(line.split(",")[0] for line in lines)


def _wrong(file: Path, rule: str, found: str) -> InputError:
    return InputError(f"{file.name} {rule}; {file} has {found}: give the official file")
