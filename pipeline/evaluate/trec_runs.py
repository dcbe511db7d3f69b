"""TREC runs: read the rankings of any system, and write a run as it was scored.

A line is `qid Q0 docid rank score tag`. As trec_eval does, rankings are read by their scores; ranks
say nothing. Where scores are equal the order of the lines holds.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.ranked import Ranked, RankedRows
from lamella.pipeline.evaluate.scored import Scored
from lamella.pipeline.evaluate.trec import as_name, as_word, lines_of, malformed

FORM = "qid Q0 docid rank score tag"
_WANTED = {
    "qid": pa.dictionary(pa.int32(), pa.string()),
    "docid": pa.dictionary(pa.int32(), pa.string()),
    "score": pa.float64(),
}


def read_run(path: Path) -> Ranked:
    """Return the rankings of a TREC run, best first.

    Raises:
        InputError: it cannot be read, is no text, has no line, a line has another form, or a
            picture stands twice in a ranking.
    """
    table = _quickly(path) or _by_lines(path)
    qids, docids = (_encoded(table.column(name)) for name in ("qid", "docid"))
    scores = table.column("score").to_numpy()
    queries, pictures = qids.indices.to_numpy(), docids.indices.to_numpy()
    if not len(scores):
        raise InputError(
            f"a run has at least 1 line `{FORM}`; {path} has 0: name a run that has answers"
        )
    starts = _starts(queries)
    rises = np.flatnonzero(scores[1:] > scores[:-1]) + 1
    if len(starts) > len(qids.dictionary) or len(np.setdiff1d(rises, starts)):
        order = np.lexsort((-scores, queries))  # keeps the order of lines that are equal in both
        queries, pictures, scores = queries[order], pictures[order], scores[order]
        starts = _starts(queries)
    names = [as_name(word) for word in qids.dictionary.to_pylist()]
    rows = RankedRows()
    rows.add(
        starts,
        [names[query] for query in queries[starts].tolist()],
        [as_name(word) for word in docids.dictionary.to_pylist()],
        pictures,
        scores,
    )
    return rows.ranked()


def _starts(queries: NDArray[Any]) -> NDArray[np.int64]:
    return np.flatnonzero(np.append(True, queries[1:] != queries[:-1])).astype(np.int64)


def _encoded(column: Any) -> Any:
    """Return a column of words as one array of numbers in one dictionary."""
    whole = column.unify_dictionaries().combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole


def _quickly(path: Path) -> Any:
    """Return the columns of a run whose words are apart by one space or one tab; None for others.

    `_by_lines` reads those, and says which line is at fault. It reads what is piped in, too, which
    nobody can read twice.
    """
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            delimiter = "\t" if b"\t" in file.readline(4096) else " "
        table = pa_csv.read_csv(
            path.absolute(),
            read_options=pa_csv.ReadOptions(column_names=FORM.split()),
            parse_options=pa_csv.ParseOptions(
                delimiter=delimiter, quote_char=False, escape_char=False
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types=_WANTED, include_columns=list(_WANTED), null_values=[]
            ),
        )
    except (OSError, pa.ArrowException):
        return None
    words = [chunk.dictionary for name in ("qid", "docid") for chunk in table[name].chunks]
    whole = all(word.split() == [word] for each in words for word in each.to_pylist())
    return table if whole and not np.isnan(table["score"].to_numpy()).any() else None


def _by_lines(path: Path) -> Any:
    """Return the columns of a run, read line by line. Raises InputError as `read_run`."""
    qids: list[str] = []
    docids: list[str] = []
    scores: list[float] = []
    for number, words in lines_of(path, "a run", FORM):
        try:
            score = float(words[4])
        except ValueError:
            score = np.nan
        if np.isnan(score):
            form = f"{FORM}, score a number,"
            raise malformed(path, "a run", form, number, " ".join(words))
        qids.append(words[0])
        docids.append(words[2])
        scores.append(score)
    schema = pa.schema(list(_WANTED.items()))
    return pa.table({"qid": qids, "docid": docids, "score": scores}).cast(schema)


def write_run(scored: Scored, path: Path, tag: str) -> None:
    """Write a run as it was scored: without ignored pictures, in the order that was scored.

    Scores fall by one a rank, for trec_eval orders equal ones by name, and reads single precision.

    Raises:
        OSError: it cannot be written.
    """
    end = f"{as_word(tag)}\n"
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for query, names in zip(scored.queries, scored.ranked, strict=True):
            file.writelines(_lines(as_word(query), names, end))


def _lines(qid: str, names: Sequence[str], end: str) -> list[str]:
    left = len(names)
    return [
        f"{qid} Q0 {as_word(name)} {rank} {left - rank + 1} {end}"
        for rank, name in enumerate(names, start=1)
    ]
