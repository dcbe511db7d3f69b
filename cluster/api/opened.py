"""An index opened in this process: the door through which Python code asks it."""

import operator
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, SupportsIndex, get_args

import pyarrow as pa

from lamella.asking import Opened
from lamella.pictures import Picture
from lamella.pipeline.cores import available_cores
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.sandbox import end_idle_processes
from lamella.pipeline.errors import InputError, NoAccess, StoreUnavailable, one_line
from lamella.pipeline.evaluate.pair import Explanation
from lamella.pipeline.jobs.query_run import Batch
from lamella.pipeline.jobs.rankings import ranking_table
from lamella.pipeline.jobs.resolve import chosen_snapshot
from lamella.pipeline.names import layers_meant
from lamella.pipeline.products.choice import Choice, use
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.text import counted
from lamella.result import Refusal, Result, result_of
from lamella.schemas.job import ProductKind
from lamella.schemas.rankings import rankings_schema
from lamella.schemas.refusals import RefusalReason
from lamella.schemas.snapshot import IndexSnapshot
from lamella.tables import features_table, images_table, layer_table
from lamella.vectors import Vectors


def open(
    store: str | os.PathLike[str],
    *,
    at: int | str | None = None,
    weights: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    limits: DecodeLimits | None = None,
    products: Choice | None = None,
) -> "Index":
    """Open a snapshot of an index, to be asked. Nothing is written into the store.

    Opening reads the snapshot's record alone. Segments and the network are opened when they are
    first needed, and stay open.

    Args:
        store: what `lamella.index` or `lamella index` made: a folder, or s3://bucket/prefix, of
            which copies are kept in a cache on this machine.
        at: the number or the tag of a snapshot; the promoted one by default.
        weights: a local file of the network's weights, where the index was made with such a one.
        threads: for decoding and the network; one a core by default. It changes no answer.
        limits: what one picture of a query may cost; by default as much as a corpus can allow.
        products: "float32", "bfloat16", "int8" or "auto": the numbers of products that propose on
            CPUs, in all of this process from now on; what was said last by default, and "auto" at
            first. They change no answer.

    Raises:
        InputError: there is no store, or no such snapshot, or no snapshot yet.
        NewerFormat: a newer Lamella wrote it.
        NoAccess: this user may not read it.
        StoreError: it is damaged, or does not answer.
    """
    try:
        url = os.fspath(store)
        number = at if at is None or isinstance(at, str) else operator.index(at)
        threads = available_cores() if threads is None else operator.index(threads)
    except TypeError as error:
        raise InputError(
            "lamella.open takes a path or an s3:// address, a whole number or a tag as `at`, and "
            f"a whole number as `threads`: {error}"
        ) from None
    if threads < 1:
        raise InputError(f"threads must be at least 1; got {threads}")
    if products is not None:
        if products not in (*get_args(ProductKind), "auto"):
            raise InputError(
                f"products are float32, bfloat16, int8 or auto; got {one_line(repr(products), 100)}"
            )
        use(products)
    with _reading(url):
        opened = open_store(url)
        snapshot = chosen_snapshot(opened, number)
    given = None if weights is None else Path(weights)
    return Index(Opened(opened, snapshot, given, threads, limits))


@contextmanager
def _reading(url: str) -> Iterator[None]:
    """Give errors of the system the names of ours."""
    try:
        yield
    except PermissionError as error:
        raise NoAccess(
            f"{error.filename or url} must be readable to open an index, and this user may not "
            f"read it ({error.strerror}): ask for reading rights to all of {url}"
        ) from error
    except OSError as error:
        raise StoreUnavailable(
            f"{url} cannot be read on this machine ({one_line(error)}): see that its disk or "
            "server answers, and try again"
        ) from error


class Index:
    """A snapshot that answers queries in this process; made by `lamella.open`.

    What it answers is what `lamella query` stores, to the last bit. It may be shared by threads:
    their calls are answered one after the other. Close it, or use it in a `with` block, to let its
    network and segments go; tables and results that it gave stay valid.
    """

    def __init__(self, opened: Opened) -> None:
        self.url = opened.store.url
        self.snapshot: IndexSnapshot = opened.snapshot
        self._lock = threading.Lock()
        self._opened: Opened | None = opened

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the network, the segments and idle decoders go. A second time does nothing."""
        with self._lock:
            self._opened = None
        end_idle_processes()

    def __len__(self) -> int:
        """How many images queries can find."""
        return self.snapshot.indexed

    def __repr__(self) -> str:
        return (
            f"<lamella.Index {self.url}, snapshot {self.snapshot.number}: "
            f"{counted(len(self), 'image')}, layers {', '.join(self.layers)}>"
        )

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers, from high to low."""
        return tuple(layer.name for layer in self.snapshot.extraction.layers)

    def query(
        self,
        pictures: Picture | Iterable[Picture] | None = None,
        *,
        ids: int | Iterable[int] | None = None,
        names: str | Iterable[str] | None = None,
        vectors: Mapping[str, Vectors] | None = None,
        k: int = 10,
        mode: Literal["exact", "candidates", "paper"] = "exact",
        recall: float | None = None,
        expand: int = 0,
        layers: str | Sequence[str] | None = None,
        t: float | Sequence[float] | None = None,
        p: float | Sequence[float] | None = None,
        w: float | Sequence[float] | None = None,
        fusion: Literal["published", "scaled"] | None = None,
        profile: Literal["paper", "production"] | None = None,
        exclude_self: bool = False,
        above: float | None = None,
        where: str | None = None,
    ) -> Result:
        """Return the k best images of each query.

        Give one of `pictures`, `ids` and `names`, each a single one or several, or `vectors`. A
        picture that cannot be read is named in `refused` of the result, and the others are
        answered.

        Args:
            pictures: paths, bytes, images of Pillow, or arrays (H, W, 3) uint8 in RGB; mixed as
                you like. 64 of them are read and encoded at a time.
            ids: of indexed images, which then ask for their like.
            names: of indexed images; of several of one name the first.
            vectors: by layer, of layers that were indexed by given vectors: an array (Q, D), a row
                a query, or a file of vectors by name, as `lamella.index` takes it. Beside pictures
                they are those of the pictures; alone they are asked by themselves, where all fused
                layers are such.
            k: at least 1.
            mode: `exact` is certified to be what scoring every image gives; `candidates` fuses the
                1,000 best of each layer, or what proposers find, where the index has them;
                `paper` fuses those of the high layer alone.
            recall: of an index with proposers, in mode candidates: what share of the exact answers
                is to be found, .95 by default.
            expand: 0 to 100; search twice, the second time by the mean of each query and so many of
                its best pictures. It helps where many pictures show one thing, and hurts where a
                query has one right answer. Scores and `certified` are of the expanded queries.
            layers: fuse these alone.
            t: thresholds of the maps, high layer first; the snapshot's by default.
            p: powers, likewise.
            w: weights of the layers in the sum, likewise.
            fusion: `published` has the paper's t and p and weights of 1, `scaled` weights by how
                similar random pictures are in each layer; t, p and w go before.
            profile: weights of visual words: `production` is tf-idf, `paper` is tf.
            exclude_self: leave an indexed image out of its own answer, which then has k others.
            above: the least score of an answer; a query may then have fewer than k.
            where: a filter, such as `year >= 2020 and startswith(name, "cats/")`: only images that
                it is true of are answers, and there may be fewer than k. See FORMAT.md.

        Raises:
            InputError: something is no picture, or no image of the index; a value out of range;
                pictures are to be left out of their own answers; or the index was closed.
            UnknownLayer: the snapshot has no such layer.
            StoreError, DecoderUnavailable: the store or this machine failed.
        """
        with self._turn() as opened:
            search_settings: dict[str, Any] = {"k": k, "mode": mode, "expand": expand}
            search_settings |= {
                "recall": recall,
                "exclude_self": exclude_self,
                "above": above,
                "where": where,
            }
            question = opened.question(search_settings, layers, t, p, w, fusion, profile)
            question.check("pictures" if ids is None and names is None else "images")
            question.target(opened.snapshot)
            question.check_filter(opened.images)
            search, spec = question.search, question.fusion
            fused = [entry.layer for entry in spec.layers]
            queries, batches = opened.asked(pictures, ids, names, fused, vectors)
            coordinator = opened.coordinator(question.weighting)
            answers: list[Any] = []
            refused: dict[int, Refusal] = {}
            for places, batch in batches:
                refused |= _refusals(queries, batch)
                if batch.features is not None:
                    features = question.expanded(coordinator, batch.features)
                    answer = question.answer(coordinator, batch.ids, features)
                    table = ranking_table(batch.ids, batch.names, answer, spec, opened.images)
                    answers.append((places, answer, opened.images.with_kept(table)))
            like = opened.images.with_kept(rankings_schema(fused).empty_table())
            return result_of(queries, search.k, spec, answers, refused, search.expand, like)

    def explain(
        self,
        query: Picture | SupportsIndex,
        result: str | SupportsIndex,
        *,
        layers: str | Sequence[str] | None = None,
        t: float | Sequence[float] | None = None,
        p: float | Sequence[float] | None = None,
        w: float | Sequence[float] | None = None,
        fusion: Literal["published", "scaled"] | None = None,
        profile: Literal["paper", "production"] | None = None,
        source: str | os.PathLike[str] | None = None,
    ) -> Explanation:
        """Return why an image of the index has its rank for a query.

        With S, f(S) and w f(S) of each layer; exact ranks by each layer alone, by their plain sum
        and by the mapped fusion, of all images; the images beside it; and the visual words that
        both pictures share, with what each adds to S, and where it is on both. For the places both
        pictures go through the network again; a picture that is gone or has changed is explained
        without, and `query.note` or `result.note` says so.

        Args:
            query: a name or an id of the index, or a picture as `query` takes them. A text is the
                name of an indexed image if there is one, else the path of a file.
            result: a name or an id of the index.
            layers, t, p, w, fusion, profile: as in `query`.
            source: where the indexed pictures lie now, in the form that `lamella.index` takes;
                where they were, by default.

        Raises:
            InputError: there is no such picture, several have that name, or it cannot be read; the
                query is the result; a value is out of range; or the index was closed.
            UnknownLayer: the snapshot has no such layer.
            StoreError, DecoderUnavailable: the store or this machine failed.
        """
        with self._turn() as opened:
            question = opened.question({}, layers, t, p, w, fusion, profile)
            return opened.explained(query, result, question, source)

    def features(
        self,
        pictures: Picture | Iterable[Picture] | None = None,
        *,
        ids: int | Iterable[int] | None = None,
        names: str | Iterable[str] | None = None,
    ) -> pa.Table:
        """Return what the index sees of each query, as a row of a table.

        Columns: query (its place in the call), query_name; for each global layer LAYER.vector,
        D float32; for each local one LAYER.words and LAYER.counts, lists of uint32, words rising,
        and where the encoding is asmk LAYER.residuals, a list of float16 or of signs for each word;
        refusal and detail, null where the picture could be read. Features of a refused picture
        are null, and so are given vectors of pictures, which have none. Arguments and errors are
        those of `query`.
        """
        with self._turn() as opened:
            computed = [layer.name for layer in self.snapshot.extraction.computed]
            layers = self.layers if pictures is None else computed
            queries, batches = opened.asked(pictures, ids, names, layers)
            parts: list[Any] = []
            refused: dict[int, Refusal] = {}
            for places, batch in batches:
                refused |= _refusals(queries, batch)
                if batch.features is not None:
                    parts.append((places, batch.features.layers))
            return features_table(queries, parts, refused, opened.segments[0])

    def vectors(self, layer: str) -> pa.Table:
        """Return a global layer of all indexed images: image_id, and vector, D float32.

        Raises:
            UnknownLayer: there is no such layer.
            InputError: it is a local one, which has `bags`; or the index was closed.
        """
        return self._layer(layer, "global")

    def bags(self, layer: str) -> pa.Table:
        """Return a local layer of all indexed images: image_id, words and counts.

        Lists of uint32: the visual words that an image has, rising, and how often.

        Raises:
            UnknownLayer: there is no such layer.
            InputError: it is a global one, which has `vectors`; or the index was closed.
        """
        return self._layer(layer, "local")

    def images(self) -> pa.Table:
        """Return a row for every picture of the corpus, in the order of ids.

        Columns: image_id; name, container, offset, size_bytes, sha256, format, width, height,
        refusal and detail, as FORMAT.md tells of an image table; `meta.NAME` of each kept column;
        indexed: queries can find it.
        """
        with self._turn() as opened:
            return images_table(opened.store, self.snapshot, opened.image_ids)

    @contextmanager
    def _turn(self) -> Iterator[Opened]:
        """Have one call at a time: compiled loops share their threads, and caches are plain."""
        with self._lock, _reading(self.url):
            if self._opened is None:
                raise InputError(
                    f"an index answers while it is open, and this one of {self.url} was closed: "
                    "open it again with lamella.open"
                )
            yield self._opened

    def _layer(self, name: str, kind: Literal["global", "local"]) -> pa.Table:
        with self._turn() as opened:
            kinds = {layer.name: layer.kind for layer in self.snapshot.extraction.layers}
            (name,) = layers_meant(f"snapshot {self.snapshot.number}", [name], self.layers)
            if kinds[name] != kind:
                method = "bags" if kind == "global" else "vectors"
                raise InputError(
                    f"layer {name} is {kinds[name]}, and a {kind} one is wanted here: take "
                    f"{method}({name!r})"
                )
            return layer_table(opened.segments, name)


def _refusals(queries: Sequence[str], batch: Batch) -> Mapping[int, Refusal]:
    """Return the refused pictures of a batch by their place in the call."""
    return {
        row["query"]: Refusal(queries[row["query"]], RefusalReason(row["reason"]), row["detail"])
        for row in batch.refusals.to_pylist()
    }
