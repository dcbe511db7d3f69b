"""Oxford5k and Paris6k: 55 queries on 11 landmarks, from the folders of their text files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.protocols.official import Official
from lamella.pipeline.evaluate.stems import split, stems, unique
from lamella.pipeline.evaluate.truth import Box, GroundTruth, GroundTruthQuery, Release
from lamella.pipeline.evaluate.truth_files import read_list, read_query
from lamella.schemas.report import BoxMode

KINDS = ("good", "ok", "junk")
QUERIES = 55


@dataclass(frozen=True)
class Buildings:
    """One of the two data sets.

    Attributes:
        landmarks: what the queries ask for, as their files are called.
        pictures: matches the stems of its pictures.
        count: of its pictures, without the damaged ones.
        damaged: stems of files of the release that hold no picture.
    """

    official: Official
    landmarks: frozenset[str]
    pictures: re.Pattern[str]
    count: int
    damaged: frozenset[str] = frozenset()


_OXFORD_LANDMARKS = """
all_souls ashmolean balliol bodleian christ_church cornmarket hertford keble magdalen pitt_rivers
radcliffe_camera
"""
_PARIS_LANDMARKS = """
defense eiffel invalides louvre moulinrouge museedorsay notredame pantheon pompidou sacrecoeur
triomphe
"""

OXFORD = Buildings(
    Official(
        "oxford",
        "the folder of its 220 text files",
        ("all_souls_1_query.txt", "*_query.txt"),
        "gt_files_170407.tgz",
    ),
    frozenset(_OXFORD_LANDMARKS.split()),
    re.compile(
        "(all_souls|ashmolean|balliol|bodleian|christ_church|cornmarket|hertford|jesus|keble|"
        "magdalen|new|oriel|oxford|pitt_rivers|radcliffe_camera|trinity|worcester)_[0-9]{6}"
    ),
    5063,
)

# The release has them as pages of HTML; https://www.robots.ox.ac.uk/~vgg/data/parisbuildings
# lists them in corrupt.txt. None is named by the ground truth.
_DAMAGED = """
louvre_000136 louvre_000146 moulinrouge_000422 museedorsay_001059 notredame_000188
pantheon_000284 pantheon_000960 pantheon_000974 pompidou_000195 pompidou_000196 pompidou_000201
pompidou_000467 pompidou_000640 sacrecoeur_000299 sacrecoeur_000330 sacrecoeur_000353
triomphe_000662 triomphe_000833 triomphe_000863 triomphe_000867
"""

PARIS = Buildings(
    Official(
        "paris",
        "the folder of its 220 text files",
        ("defense_1_query.txt", "*_query.txt"),
        "paris_120310.tgz",
    ),
    frozenset(_PARIS_LANDMARKS.split()),
    re.compile(
        "paris_(defense|eiffel|general|invalides|louvre|moulinrouge|museedorsay|notredame|"
        "pantheon|pompidou|sacrecoeur|triomphe)_[0-9]{6}"
    ),
    6392,
    frozenset(f"paris_{name}" for name in _DAMAGED.split()),
)


def oxford(names: Sequence[str], truth: Path | None, box_mode: BoxMode = "roi") -> GroundTruth:
    """Return the Oxford5k protocol; see `buildings`."""
    return buildings(OXFORD, names, truth, box_mode)


def paris(names: Sequence[str], truth: Path | None, box_mode: BoxMode = "roi") -> GroundTruth:
    """Return the Paris6k protocol, for `paris/LANDMARK/*.jpg` and flat names; see `buildings`.

    20 files of its release hold no picture. Indexing refuses them; they belong to no query and are
    not missed.
    """
    return buildings(PARIS, names, truth, box_mode)


def buildings(
    data_set: Buildings, names: Sequence[str], truth: Path | None, box_mode: BoxMode = "roi"
) -> GroundTruth:
    """Return the protocol from a folder of `*_query.txt` and lists.

    Good and ok are right, junk leaves the ranking, the query stays and counts. A query line is
    `oxc1_<stem> x1 y1 x2 y2`, in Paris without the prefix: corners. They are in pixels of the
    corpus's pictures, so resized pictures need resized boxes. A query without good and ok pictures
    is left out.

    Args:
        names: of all pictures of the corpus.
        truth: holds `<landmark>_<n>_{query,good,ok,junk}.txt`, or a folder not far above it.
        box_mode: `roi`, the standard, crops the query to its box; `full` takes all of it.

    Raises:
        InputError: no query file, a malformed one, one of the other data set, a missing list, or a
            query that is not in the corpus. Right answers that are not there are counted as missed.
    """
    protocol = data_set.official.protocol
    files = _query_files(data_set, data_set.official.find(truth).parent)
    read: list[tuple[str, Box, dict[str, list[str]]]] = []
    for file in files:
        stem, box = read_query(file)
        read.append((stem, box, {kind: read_list(file, kind) for kind in KINDS}))
    named = {stem for stem, _, _ in read}
    for _, _, lists in read:
        named.update(*lists.values())
    by_stem = unique(names, named)
    absent = [
        (file, stem) for file, (stem, _, _) in zip(files, read, strict=True) if stem not in by_stem
    ]
    if absent:
        file, stem = absent[0]
        raise InputError(
            f"every query is a picture of the corpus; {file.name} asks for {stem}, not "
            f"among {len(names):,} pictures ({len(absent):,} of {len(files):,} queries are not): "
            "index it, or leave its files out"
        )
    queries, left_out = [], []
    for stem, box, lists in read:
        positives, missing = split([*lists["good"], *lists["ok"]], by_stem)
        if not positives and not missing:
            left_out.append((by_stem[stem], "no right answer"))
            continue
        junk, _ = split(lists["junk"], by_stem)
        corners = box if box_mode == "roi" else None
        queries.append(
            GroundTruthQuery(by_stem[stem], positives, junk, box=corners, missing=missing)
        )
    held = {stem for stem in stems(names) if data_set.pictures.fullmatch(stem)}
    return GroundTruth(
        f"{protocol} {box_mode}",
        "mAP",
        tuple(queries),
        tuple(left_out),
        Release(
            len(held - data_set.damaged), data_set.count, QUERIES, damaged=len(data_set.damaged)
        ),
        files=tuple(_of_query(file, kind) for file in files for kind in ("query", *KINDS)),
    )


def _query_files(data_set: Buildings, folder: Path) -> list[Path]:
    """Return the query files, sorted, of which each has its three lists."""
    there = {file.name for file in folder.glob("*_*_*.txt")}
    queries = sorted(
        {
            f"{name.removesuffix(f'{kind}.txt')}query.txt"
            for name in there
            for kind in ("query", *KINDS)
            if name.endswith(f"_{kind}.txt")
        }
    )
    official = data_set.official
    if not queries:
        raise InputError(
            f"protocol {official.protocol} needs {official.what} ({official.source}); {folder} "
            "holds 0 *_query.txt"
        )
    for query in queries:
        for kind in ("query", *KINDS):
            wanted = _of_query(Path(query), kind).name
            if wanted not in there:
                raise InputError(
                    f"a query has four files in {official.source}; {folder} lacks {wanted}: "
                    "unpack it again"
                )
    other = PARIS if data_set is OXFORD else OXFORD
    landmarks = {query.rsplit("_", 2)[0] for query in queries}
    if landmarks <= other.landmarks:
        raise InputError(
            f"protocol {official.protocol} reads the files of {official.source}; {folder} holds "
            f"those of {other.official.source}: evaluate with --protocol {other.official.protocol}"
        )
    return [folder / query for query in queries]


def _of_query(query: Path, kind: str) -> Path:
    return query.with_name(f"{query.name.removesuffix('query.txt')}{kind}.txt")
