"""Open segments of a snapshot: what a shard server serves, in whatever process."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float64s, Int64s
from lamella.pipeline.errors import CorruptFile, IncompatibleInputs, InputError, one_line
from lamella.pipeline.index import residuals as aggregated
from lamella.pipeline.index.bags import BagsOfWords, concatenate, select
from lamella.pipeline.index.files import (
    check_finite,
    read_bags,
    read_dense,
    read_image_ids,
    read_postings,
    read_sketch,
)
from lamella.pipeline.index.postings import Postings
from lamella.pipeline.index.publish import read_frequencies, read_weights
from lamella.pipeline.index.residual_files import read_payload
from lamella.pipeline.index.residuals import Residuals
from lamella.pipeline.proposers.opened import open_frames, open_proposers
from lamella.pipeline.search.allowed import Allowed, Masks
from lamella.pipeline.search.candidates import Finder, find_reached
from lamella.pipeline.search.decide import decide, estimate
from lamella.pipeline.search.exact import lower_bounds, search_exact, similarities, top_by_layer
from lamella.pipeline.search.propose import Proposing, propose
from lamella.pipeline.search.score import bag_norms
from lamella.pipeline.search.segment import (
    Answer,
    DenseLayer,
    Features,
    Layer,
    LocalLayer,
    QueryBatch,
    ResidualLayer,
    SegmentData,
)
from lamella.pipeline.search.shortlist import Proposed
from lamella.pipeline.store.commit import WRONG_FORM, open_committed, read_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store
from lamella.schemas.files import FileRef
from lamella.schemas.query import FusionSpec, Weighting
from lamella.schemas.snapshot import IndexSnapshot, Reach, SegmentRef


class SegmentSearcher:
    """Answers for the images of its segments. Files are memory-mapped, so opening is cheap.

    Args:
        store_url: where the snapshot is.
        snapshot: what to open.
        keys: which of its segments; all by default.
        weighting: of visual words; the snapshot's by default.
        device: "cpu", or "cuda" to have a GPU propose what `exact` decides; it changes no answer.

    Raises:
        InputError: the segments do not fit on the card, or there is none.
    """

    def __init__(
        self,
        store_url: str,
        snapshot: IndexSnapshot,
        keys: Sequence[str] | None = None,
        weighting: Weighting | None = None,
        device: str = "cpu",
    ) -> None:
        self._store = store = open_store(store_url)
        self._snapshot = snapshot
        self._weights = layer_weights(store, snapshot, weighting or snapshot.weighting)
        numbered = enumerate(snapshot.segments)
        self._served = {n: s for n, s in numbered if keys is None or s.key in keys}
        wanted = list(self._served.values())
        self._allowed = Allowed(store, snapshot.model_copy(update={"segments": tuple(wanted)}))
        self.segments = [open_segment(store, snapshot, each, self._weights) for each in wanted]
        self._find: Finder = find_reached
        if device != "cpu":
            from lamella.pipeline.search.on_gpu import Card

            self._find = Card(self.segments, device).find_reached

    def ready(self) -> int:
        """Return how many images are served, once all segments are open."""
        return sum(len(segment) for segment in self.segments)

    def image_ids(self) -> NDArray[np.int64]:
        """Return the ids of the images served, (n,)."""
        return np.concatenate([segment.image_ids for segment in self.segments])

    def word_weights(self) -> dict[str, Float64s]:
        """Return the weight of every visual word of each local layer, (K,) float64."""
        return self._weights

    def bounds(
        self, queries: QueryBatch, spec: FusionSpec, k: int, where: str | None = None
    ) -> Float64s:
        """Return the k best lower bounds of F in a first look at these segments, (Q, k).

        Here and below, `where` is a filter: only images that it is true of are looked at.
        """
        return lower_bounds(self.segments, queries, spec, k, self._masks(where))

    def exact(
        self,
        queries: QueryBatch,
        spec: FusionSpec,
        k: int,
        floors: Float64s | None = None,
        where: str | None = None,
    ) -> Answer:
        """Return the k best of these segments, certified, without those below the floors (Q,)."""
        allowed, find = self._masks(where), self._find
        return search_exact(
            self.segments, queries, spec, k, floors=floors, find=find, allowed=allowed
        )

    def proposals(
        self, queries: QueryBatch, layers: Sequence[str], n: int, where: str | None = None
    ) -> list[list[Answer]]:
        """Return for each segment, layer by layer, the n best with their scores in all layers."""
        masks = self._masks(where)
        return [
            list(top_by_layer(segment, queries, layers, n, masks[number] if masks else None))
            for number, segment in enumerate(self.segments)
        ]

    def allowed_images(self, where: str) -> int:
        """Return how many of these images a filter is true of."""
        return sum(int(np.count_nonzero(mask)) for mask in self._allowed.masks(where))

    def proposed(
        self, queries: QueryBatch, spec: FusionSpec, reach: Reach, where: str | None = None
    ) -> tuple[int, list[Proposed]]:
        """Return how many images may be answers here, and the best that each layer proposes.

        Raises:
            LamellaError: as of `open_proposers`, the first time.
        """
        count = self.ready() if where is None else self.allowed_images(where)
        segments, frequencies = self._proposing
        masks = self._masks(where)
        lists = propose(segments, queries, spec, reach, self._weights, frequencies, masks)
        return count, estimate(self._by_number(), queries, spec, lists)

    def decided(
        self, queries: QueryBatch, spec: FusionSpec, k: int, query_of: Int64s, places: Int64s
    ) -> Answer:
        """Return the k best of proposed pairs, of those whose images are served here.

        Arguments as of `propose.decide`.
        """
        return decide(self._by_number(), queries, spec, k, query_of, places)

    def _by_number(self) -> dict[int, SegmentData]:
        """Return the segments by their number in the snapshot."""
        return dict(zip(self._served, self.segments, strict=True))

    @cached_property
    def _proposing(self) -> tuple[list[Proposing], dict[str, Int64s]]:
        """What proposes in each segment, and how many images hold each word; opened when asked."""
        snapshot, store = self._snapshot, self._store
        frames = open_frames(store, snapshot)
        proposing = [
            open_proposing(store, snapshot, number, segment, frames)
            for number, segment in zip(self._served, self.segments, strict=True)
        ]
        files = snapshot.document_frequencies
        return proposing, {name: read_frequencies(store, file) for name, file in files.items()}

    def _masks(self, where: str | None) -> Masks | None:
        return None if where is None else self._allowed.masks(where)

    def similarities(
        self, queries: QueryBatch, layers: Sequence[str]
    ) -> tuple[NDArray[np.int64], Float64s]:
        """Return the image ids (n,) and every similarity, (C, Q, n)."""
        tables = [similarities(segment, queries, layers) for segment in self.segments]
        return self.image_ids(), np.concatenate(tables, axis=2)

    def features(
        self, image_ids: Sequence[int], layers: Sequence[str]
    ) -> tuple[list[int], QueryBatch | None]:
        """Return which of some images are served here, and their stored layers as queries."""
        held: list[int] = []
        parts: list[dict[str, Features]] = []
        for segment in self.segments:
            wanted = np.asarray(image_ids, np.int64)
            rows = np.searchsorted(segment.image_ids, wanted)
            inside = rows < len(segment)
            inside[inside] = segment.image_ids[rows[inside]] == wanted[inside]
            if inside.any():
                held += wanted[inside].tolist()
                parts.append({name: _rows(segment, name, rows[inside]) for name in layers})
        return held, join_queries(parts) if parts else None


def layer_weights(
    store: Store, snapshot: IndexSnapshot, weighting: Weighting
) -> dict[str, Float64s]:
    """Return the weight of every visual word of each local layer, (K,) float64."""
    return read_weights(store, snapshot.document_frequencies, snapshot.indexed, weighting)


def open_segment(
    store: Store, snapshot: IndexSnapshot, segment: SegmentRef, weights: dict[str, Float64s]
) -> SegmentData:
    """Return a segment with all its layers; its files are checked by their SHA-256."""
    files = segment.files
    for name, kind in _kinds(snapshot).items():
        if kind == "vector" and f"{name}.sketch" not in files:
            raise IncompatibleInputs(
                f"segment {segment.key} of snapshot {snapshot.number} has no sketch of "
                f"{name}, it is from an earlier Lamella: run `lamella index` again"
            )
        if kind == "asmk" and f"{name}.payload" not in files:
            raise InputError(
                f"segment {segment.key} of snapshot {snapshot.number} has no residuals of {name}, "
                "and its vocabulary asks for them (encoding.kind is asmk): run `lamella index` "
                "again"
            )
    try:
        ids = read_committed(store, files["images"], read_image_ids)
        if len(ids) != segment.images:
            raise ValueError(f"it has {len(ids):,} images, the snapshot says {segment.images:,}")
        layers: dict[str, Layer] = {}
        for name, kind in _kinds(snapshot).items():
            if kind == "asmk":
                layers[name] = _residuals(store, files, name, len(weights[name]))
            elif kind == "bag":
                layers[name] = _local(store, files, name, weights[name])
            else:
                layers[name] = _dense(store, files, name)
        return SegmentData(ids, layers)
    except WRONG_FORM as error:
        raise CorruptFile(
            f"segment {segment.key} of snapshot {snapshot.number} has the files on record, and "
            f"they do not fit together: {one_line(error)}; so it was written wrong, by whoever "
            f"made {store.url}: index anew, or use a store that you trust"
        ) from error


def open_proposing(
    store: Store,
    snapshot: IndexSnapshot,
    number: int,
    opened: SegmentData,
    frames: Mapping[str, Any],
) -> Proposing:
    """Return what proposes in a segment, the `number`-th of the snapshot; files are checked.

    Args:
        frames: as `open_frames` returns them.

    Raises:
        LamellaError: as of `open_proposers`.
        CorruptFile: a proposer is not of these images.
    """
    segment = snapshot.segments[number]
    proposers = open_proposers(store, snapshot, segment, frames)
    try:
        return Proposing.of(opened, number, proposers)
    except WRONG_FORM as error:
        raise CorruptFile(
            f"segment {segment.key} of snapshot {snapshot.number} has the files on record, and "
            f"they do not fit together: {one_line(error)}; index anew, or use a store that you "
            "trust"
        ) from error


def _kinds(snapshot: IndexSnapshot) -> dict[str, Literal["vector", "bag", "asmk"]]:
    """Return what pictures are in each layer."""
    return {
        layer.name: snapshot.vocabularies[layer.name].encoding.kind
        if layer.kind == "local"
        else "vector"
        for layer in snapshot.extraction.layers
    }


def _residuals(store: Store, files: Mapping[str, FileRef], layer: str, words: int) -> ResidualLayer:
    bags, postings = _inverted(store, files, layer, words)
    bags.check_words(postings.words)
    payload, dimensions = read_committed(store, files[f"{layer}.payload"], read_payload)
    return ResidualLayer(bags, postings, payload, dimensions)


def _local(store: Store, files: Mapping[str, FileRef], layer: str, weights: Float64s) -> LocalLayer:
    bags, postings = _inverted(store, files, layer, len(weights))
    return LocalLayer(bags, postings, weights, bag_norms(bags, weights))


def _inverted(
    store: Store, files: Mapping[str, FileRef], layer: str, words: int
) -> tuple[BagsOfWords, Postings]:
    """Return the words of a segment's images by image and by word, checked."""
    _, bags = read_committed(store, files[f"{layer}.bags"], read_bags)
    postings = read_committed(store, files[f"{layer}.postings"], read_postings)
    bags.check_words(words)
    postings.check_rows(len(bags))
    return bags, postings


def _dense(store: Store, files: Mapping[str, FileRef], layer: str) -> DenseLayer:
    _, vectors, norms = read_committed(store, files[f"{layer}.dense"], read_dense)
    axes = open_committed(store, files[f"{layer}.axes"])
    sketch = read_committed(store, files[f"{layer}.sketch"], lambda path: read_sketch(path, axes))
    return DenseLayer(vectors, norms, sketch)


def _rows(segment: SegmentData, name: str, rows: NDArray[np.int64]) -> Features:
    if name not in segment.layers:
        raise InputError(f"the index has no layer {name}: it has {', '.join(segment.layers)}")
    layer = segment.layers[name]
    if isinstance(layer, LocalLayer):
        return select(layer.bags, rows)
    if isinstance(layer, ResidualLayer):
        try:
            return layer.of(rows)
        except ValueError as error:
            raise CorruptFile(
                f"layer {name} has residuals that do not fit together: {error}; its segment was "
                "written wrong; index anew, or use a store that you trust"
            ) from error
    vectors = layer.vectors[rows]
    # Checking all vectors of a segment as it is opened would take too long.
    check_finite(segment.image_ids[rows], vectors, name)
    return vectors


def join_queries(parts: Sequence[dict[str, Features]]) -> QueryBatch:
    """Return one batch of the queries of all parts, in order."""
    joined: dict[str, Features] = {}
    for name, first in parts[0].items():
        values = [part[name] for part in parts]
        if isinstance(first, BagsOfWords):
            joined[name] = concatenate([v for v in values if isinstance(v, BagsOfWords)])
        elif isinstance(first, Residuals):
            held = [v for v in values if isinstance(v, Residuals)]
            joined[name] = aggregated.concatenate(held)
        else:
            joined[name] = np.concatenate([v for v in values if isinstance(v, np.ndarray)])
    return QueryBatch(joined)


def take_queries(batch: QueryBatch, rows: Sequence[int]) -> QueryBatch:
    """Return some queries of a batch, in the order named."""
    index = np.asarray(rows, np.int64)
    taken: dict[str, Features] = {}
    for name, value in batch.layers.items():
        if isinstance(value, BagsOfWords):
            taken[name] = select(value, index)
        elif isinstance(value, Residuals):
            taken[name] = aggregated.select(value, index)
        else:
            taken[name] = value[index]
    return QueryBatch(taken)
