"""TREC qrels: which pictures are right for a query, one judgement a line, `qid 0 docid rel`.

qid and docid are names of pictures, percent-encoded as in TREC runs. rel is above 0 for right
pictures (how relevant they are), 0 for wrong ones, below 0 for junk: pictures that leave the
ranking before it is scored, which may be the query's own. Pictures without a judgement are wrong.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.evaluate.trec import as_name, as_word, lines_of, malformed
from lamella.pipeline.evaluate.truth import GroundTruth, GroundTruthQuery

FORM = "qid 0 docid rel"

JUNK = -1

NO_ANSWER = "no right answer"
NOT_INDEXED = "its picture is not in the corpus"


@dataclass(frozen=True)
class Qrels:
    """Judgements: the relevance of pictures by query and picture, in the order of the file.

    Attributes:
        source: what a person calls them: the name of their file, or of their protocol.
    """

    source: str
    judgements: Mapping[str, Mapping[str, int]]

    def pictures(self) -> Iterator[str]:
        """Yield the judged pictures, each once for each of its judgements."""
        for judged in self.judgements.values():
            yield from judged


def read_qrels(path: Path) -> Qrels:
    """Return the judgements of a file.

    A judgement may stand twice if both say the same.

    Raises:
        InputError: it cannot be read, is no text, has no line, a line has another form, or a
            picture is judged twice for a query, differently.
    """
    judgements: dict[str, dict[str, int]] = {}
    words_of: dict[str, str] = {}  # a picture that is judged for many queries is held once
    for number, (qid, iteration, docid, said) in lines_of(path, "qrels", FORM):
        # More digits are none of a grade, and would not fit where measures hold them.
        if not re.fullmatch(r"[+-]?[0-9]{1,9}", said):
            line = " ".join((qid, iteration, docid, said))
            raise malformed(path, "qrels", f"{FORM}, rel a whole number,", number, line)
        name = words_of.get(docid) or words_of.setdefault(docid, as_name(docid))
        judged = judgements.setdefault(as_name(qid), {})
        relevance = int(said)
        if judged.setdefault(name, relevance) != relevance:
            raise InputError(
                f"a picture is judged once for a query; line {number} of {path} says {relevance} "
                f"of {_quoted(name)} for {_quoted(as_name(qid))}, a line before {judged[name]}: "
                "leave one of them out"
            )
    if not judgements:
        raise InputError(f"qrels have at least 1 line `{FORM}`; {path} has 0: give another file")
    return Qrels(path.name, judgements)


def write_qrels(qrels: Qrels, path: Path) -> None:
    """Write judgements as lines `qid 0 docid rel`. Raises OSError where that cannot be done."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for query, judged in qrels.judgements.items():
            qid = as_word(query)
            file.writelines(f"{qid} 0 {as_word(name)} {rel}\n" for name, rel in judged.items())


def from_truth(truth: GroundTruth) -> Qrels:
    """Return the judgements of a ground truth: by query as there, right ones first, by name.

    Right answers that the corpus lacks are judged too, for they count as missed. The boxes of
    queries, and queries that are left out, have no place in qrels.
    """
    return Qrels(
        truth.protocol,
        {query.name: relevance_of(query) | _junk(query) for query in truth.queries},
    )


def relevance_of(query: GroundTruthQuery) -> dict[str, int]:
    """Return the relevance of a query's judged pictures, without those that leave the ranking."""
    right = dict.fromkeys(sorted(query.positives | query.missing), 1)
    return right | dict(query.grades)


def _junk(query: GroundTruthQuery) -> dict[str, int]:
    return dict.fromkeys(sorted(query.ignored), JUNK)


def to_truth(
    qrels: Qrels, names: Collection[str] | None, *, indexed_queries: bool = False
) -> GroundTruth:
    """Return the ground truth that judgements say, scored by mAP where nothing else is asked.

    Queries without a right answer are left out. Right answers that the corpus lacks are `missing`.

    Args:
        names: of all pictures of the corpus; None where they are not known, and all are taken to
            be there.
        indexed_queries: queries are pictures of the corpus; others are left out. Otherwise they
            may be from elsewhere.

    Raises:
        InputError: the corpus has none of the judged pictures, or no query is left.
    """
    known = None if names is None else frozenset(names)
    if known is not None and known.isdisjoint(qrels.pictures()):
        raise _of_another_corpus(qrels, known)
    queries, left_out = [], []
    for name, judged in qrels.judgements.items():
        right = frozenset(picture for picture, rel in judged.items() if rel > 0)
        if not right:
            left_out.append((name, NO_ANSWER))
        elif indexed_queries and known is not None and name not in known:
            left_out.append((name, NOT_INDEXED))
        else:
            queries.append(_query(name, judged, right, known))
    if not queries:
        reason = left_out[0][1]
        raise InputError(
            f"a query that is scored has a right answer, and a picture to ask with; of the "
            f"{len(left_out):,} queries of {qrels.source} none has both, {_quoted(left_out[0][0])} "
            f"first ({reason}): give other qrels"
        )
    return GroundTruth(f"qrels {qrels.source}", "mAP", tuple(queries), tuple(left_out))


def _query(
    name: str, judged: Mapping[str, int], right: frozenset[str], known: frozenset[str] | None
) -> GroundTruthQuery:
    """Return a query. Pictures that the corpus lacks are right answers missed, or of no account."""
    positives = right if known is None else right & known
    junk = frozenset(p for p, rel in judged.items() if rel < 0 and (known is None or p in known))
    return GroundTruthQuery(
        name,
        positives,
        junk - {name},
        remove_self=judged.get(name, 0) < 0,
        missing=right - positives,
        grades={p: rel for p, rel in judged.items() if rel > 1 or rel == 0},
    )


def unknown_pictures(qrels: Qrels, names: Collection[str]) -> tuple[str, ...]:
    """Return the judged pictures that the corpus lacks, each once, in the order of the file."""
    known = frozenset(names)
    return tuple(dict.fromkeys(name for name in qrels.pictures() if name not in known))


def _of_another_corpus(qrels: Qrels, names: frozenset[str]) -> InputError:
    there = f", where one is called {_quoted(min(names))}" if names else ""
    distinct = len(set(qrels.pictures()))
    return InputError(
        f"qrels judge pictures of the corpus; of the {distinct:,} that {qrels.source} judges none "
        f"is among the {len(names):,} here{there}: {qrels.source} names "
        f"{_quoted(next(qrels.pictures()))} first. Give the qrels of this corpus, with its names"
    )


def _quoted(name: str) -> str:
    return one_line(repr(name), 200)
