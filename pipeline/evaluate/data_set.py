"""Say which pictures and which ground truth a report scored, and what of them is not there."""

import hashlib
from collections.abc import Iterable, Mapping

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.stems import stem_of
from lamella.pipeline.evaluate.truth import GroundTruth
from lamella.pipeline.text import counted, printable
from lamella.schemas.report import DataSet, LeftOut, RetrievalReport

FIRST_NAMES = 5


def data_set_of(truth: GroundTruth, digests: Mapping[str, bytes]) -> DataSet:
    """Return the facts of a data set that a report keeps.

    Args:
        truth: whose files are read once more, for their SHA-256.
        digests: the SHA-256 of the bytes of every picture that the protocol names.

    Raises:
        InputError: a file of the ground truth is gone.
    """
    pictures = ((stem_of(name), digests[name].hex()) for name in truth.named)
    release = truth.release
    return DataSet(
        truth_files=len(truth.files),
        truth_sha256=_files_sha256(truth),
        pictures=len(truth.named),
        pictures_sha256=sums_sha256(pictures),
        held=None if release is None else release.held,
        released=None if release is None else release.pictures,
        released_queries=0 if release is None else release.queries,
        damaged=0 if release is None else release.damaged,
        missing=tuple(sorted(truth.missing)[:FIRST_NAMES]),
        left_out=tuple(
            LeftOut(reason=reason, queries=len(names), first=tuple(names[:FIRST_NAMES]))
            for reason, names in truth.left_out_by_reason.items()
        ),
    )


def _files_sha256(truth: GroundTruth) -> str:
    try:
        found = [(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in truth.files]
    except OSError as error:
        raise InputError(f"a ground truth stays while it is used; {error}: start again") from None
    if len(found) == 1:
        return found[0][1]
    return sums_sha256(found) if found else ""


def sums_sha256(named: Iterable[tuple[str, str]]) -> str:
    """Return the SHA-256 of what `sha256sum` prints of files in the order of their names.

    Args:
        named: name and SHA-256, in hex, of each.
    """
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(named))
    return hashlib.sha256(lines.encode()).hexdigest()


def data_set_lines(report: RetrievalReport) -> list[tuple[str, str]]:
    """Return what a page lists of the data set, each a name and a value; both may be printed."""
    found = report.data_set
    if found is None:
        return []
    lines = []
    if found.held is not None and found.released is not None:
        damaged = f"; {found.damaged} damaged files are not counted" if found.damaged else ""
        lines.append(("pictures of the data set", f"{found.held:,} of {found.released:,}{damaged}"))
    if found.released_queries:
        asked = f"{report.queries:,} of {found.released_queries:,}"
        lines.append(("queries of the data set", asked))
    if found.truth_files:
        files = counted(found.truth_files, "file")
        lines.append(("ground truth", f"{files}, SHA-256 {found.truth_sha256}"))
    lines.append(("pictures named", f"{found.pictures:,}, SHA-256 {found.pictures_sha256}"))
    return lines + [("not there", said) for said in absences(report)]


def absences(report: RetrievalReport) -> list[str]:
    """Return what a person must know before quoting a score: what of the data set is not there."""
    found = report.data_set
    if found is None:
        return []
    said = []
    if found.held is not None and found.released is not None and found.held < found.released:
        said.append(
            f"{found.held:,} of the data set's {found.released:,} pictures are indexed: "
            "this is not the score of the whole"
        )
    if report.missing:
        said.append(
            f"{counted(report.missing, 'right answer')} not indexed, which "
            f"{'counts' if report.missing == 1 else 'count'} as missed: "
            f"{_first(found.missing, report.missing)}"
        )
    said += [
        f"{each.queries:,} left out, {printable(each.reason)}: {_first(each.first, each.queries)}"
        for each in found.left_out
    ]
    return said


def _first(names: tuple[str, ...], count: int) -> str:
    more = f" and {count - len(names):,} more" if count > len(names) else ""
    return ", ".join(map(printable, names)) + more
