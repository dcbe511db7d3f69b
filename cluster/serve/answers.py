"""Queries of the requests of one group, asked together, and their answers as JSON or Arrow."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lamella.cluster.serve.models import Answer, Answers, FusedLayer, Hit, Refused
from lamella.cluster.serve.served import Served
from lamella.pipeline import meters
from lamella.pipeline.arrays import Int64s
from lamella.pipeline.evaluate.pair import mapped_parts
from lamella.pipeline.search.where import KEPT
from lamella.result import Result
from lamella.schemas.query import FusionSpec
from lamella.schemas.rankings import rankings_schema
from lamella.schemas.refusals import RefusalReason

ARROW = "application/vnd.apache.arrow.stream"

ENCODING = 8
"""What it takes to bring a picture through the network, in searches by an indexed image; nothing of
it is saved by encoding many together.
"""


@dataclass(frozen=True, eq=False)
class Queries:
    """The queries of one request: pictures' bytes, or ids or names of indexed images.

    Attributes:
        kind: what `items` are, as an argument of `Index.query`.
        names: what answers call pictures; empty where images are asked for.
        refused: by the place in the request, pictures that could not be fetched; `items` has none
            of them.
        arguments: how they are answered.
    """

    kind: str
    items: tuple[Any, ...]
    arguments: Mapping[str, Any]
    names: tuple[str, ...] = ()
    refused: Mapping[int, Refused] | None = None

    @property
    def key(self) -> str:
        """Equal for queries that one call of the index can answer."""
        return json.dumps([self.kind, self.arguments], sort_keys=True)

    @property
    def cost(self) -> int:
        """What they take, in searches by an indexed image."""
        return max(1, len(self.items) * (ENCODING if self.kind == "pictures" else 1))


def answer_together(served: Served, group: Sequence[Queries]) -> list[Answers]:
    """Return the answers to some requests of one key, by one call of the index.

    Raises:
        LamellaError: as `Index.query`; one that is wrong fails all.
    """
    kind = group[0].kind
    items = [item for queries in group for item in queries.items]
    if kind == "names" and set(items) <= (known := served.ids_of(items)).keys():
        # A name that is not known is left to the index, which says so.
        kind, items = "ids", [known[name] for name in items]
    meters.QUERIES_TOGETHER.observe(float(len(items)))
    question: dict[str, Any] = {kind: items, **group[0].arguments}
    found = served.index.query(**question)
    kept = _Kept.of(found)
    answers: list[Answers] = []
    first = 0
    for queries in group:
        asked = items[first : first + len(queries.items)] if kind == "ids" else None
        answers.append(_answers(served, queries, found, kept, first, asked))
        first += len(queries.items)
    return answers


def _answers(
    served: Served,
    queries: Queries,
    found: Result,
    kept: "_Kept",
    first: int,
    ids: Sequence[int] | None,
) -> Answers:
    """Return the answers to one request, whose queries begin at a place of a result.

    Args:
        ids: of the images that were asked for, where that is what was asked for.
    """
    refused = queries.refused or {}
    answers: list[Answer] = []
    place = first
    for number in range(len(queries.items) + len(refused)):
        if number in refused:
            answers.append(_refusal(queries.names[number], refused[number]))
            continue
        name = queries.names[number] if queries.names else found.queries[place]
        image_id = None if ids is None else str(ids[number])
        answers.append(_answer(found, kept, place, name, image_id))
        place += 1
    whole = Answers(
        snapshot=served.snapshot.number,
        root_digest=served.snapshot.root_digest,
        fusion=fused_layers(found.fusion),
        answers=answers,
    )
    whole._kept = kept.table.schema
    return whole


def _answer(found: Result, kept: "_Kept", place: int, name: str, image_id: str | None) -> Answer:
    if place in found.refused:
        said = found.refused[place]
        return _refusal(name, refusal(said.reason, said.detail))
    hits = _hits(found, kept.of_query(place), place)
    certified = bool(found.certified[place])
    return Answer(query=name, image_id=image_id, certified=certified, refused=None, results=hits)


def _refusal(name: str, refused: Refused) -> Answer:
    return Answer(query=name, image_id=None, certified=False, refused=refused, results=[])


def refusal(reason: RefusalReason, detail: str) -> Refused:
    """Return why a picture could not be read."""
    return Refused(reason=reason.value, meaning=reason.meaning, detail=detail)


@dataclass(frozen=True, eq=False)
class _Kept:
    """The kept columns of all results of a call.

    Attributes:
        table: by their own names, the results of one query after those of another.
        starts: (Q + 1,), where those of each query begin.
    """

    table: Any
    starts: Int64s

    @classmethod
    def of(cls, found: Result) -> "_Kept":
        """Return those of a result."""
        table = found.to_arrow()
        names = [name for name in table.column_names if name.startswith(KEPT)]
        own = table.select(names).rename_columns([name.removeprefix(KEPT) for name in names])
        return cls(own, np.concatenate([[0], np.cumsum((found.ids >= 0).sum(axis=1))]))

    def of_query(self, place: int) -> list[dict[str, Any]]:
        """Return a row for each result of a query."""
        first, end = self.starts[place : place + 2].tolist()
        if not self.table.num_columns:
            return [{}] * (end - first)
        rows: list[dict[str, Any]] = self.table.slice(first, end - first).to_pylist()
        return rows


def _hits(found: Result, kept: Sequence[dict[str, Any]], place: int) -> list[Hit]:
    width = len(kept)
    values: list[list[list[float]]] = []
    for entry in found.fusion.layers:
        similarities = found.similarities[entry.layer][place, :width]
        mapped, parts = mapped_parts(similarities, entry)
        values.append([each.tolist() for each in (similarities, mapped, parts)])
    layers = [entry.layer for entry in found.fusion.layers]
    ids, scores = found.ids[place, :width].tolist(), found.scores[place, :width].tolist()
    return [
        Hit.model_construct(
            rank=n + 1,
            image_id=str(ids[n]),
            name=found.names[place, n],
            score=scores[n],
            similarities={layer: each[0][n] for layer, each in zip(layers, values, strict=True)},
            mapped={layer: each[1][n] for layer, each in zip(layers, values, strict=True)},
            parts={layer: each[2][n] for layer, each in zip(layers, values, strict=True)},
            meta=kept[n],
        )
        for n in range(width)
    ]


def fused_layers(fusion: FusionSpec) -> list[FusedLayer]:
    """Return a fusion as answers have it."""
    return [
        FusedLayer(layer=each.layer, t=each.t, p=each.p, weight=each.weight)
        for each in fusion.layers
    ]


def as_json(answers: Answers) -> bytes:
    """Return answers as JSON; numbers are written so that reading them gives the same bits."""
    return answers.model_dump_json().encode()


def as_arrow(answers: Answers) -> bytes:
    """Return answers as a stream of Arrow, a row a result: the columns of stored rankings.

    `query` is the place in the request; kept columns are `meta.NAME`. The metadata `lamella` of the
    schema has the rest, as JSON: the snapshot, the fusion, and of each query its name and why it
    was refused.
    """
    layers = [entry.layer for entry in answers.fusion]
    rows = [
        {
            "query": place,
            "query_name": answer.query,
            "rank": hit.rank,
            "image_id": int(hit.image_id),
            "name": hit.name,
            "score": hit.score,
            **{f"S.{layer}": hit.similarities[layer] for layer in layers},
            "certified": answer.certified,
            **{f"{KEPT}{name}": value for name, value in hit.meta.items()},
        }
        for place, answer in enumerate(answers.answers)
        for hit in answer.results
    ]
    rest = answers.model_dump(mode="json", exclude={"answers": {"__all__": {"results"}}})
    kept = [field.with_name(f"{KEPT}{field.name}") for field in answers._kept]
    schema = pa.schema([*rankings_schema(layers), *kept], {"lamella": json.dumps(rest)})
    out = io.BytesIO()
    with pa.ipc.new_stream(out, schema) as stream:
        stream.write_table(pa.Table.from_pylist(rows, schema))
    return out.getvalue()
