"""Export layers of a snapshot into a folder for other programs."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from lamella.pipeline.arrays import Int64s
from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.export.arrays import write_npy
from lamella.pipeline.export.clusters import CLUSTER_FILES, train_centres, write_clusters
from lamella.pipeline.export.folder import check_free, whole_folder
from lamella.pipeline.export.formats import Format
from lamella.pipeline.export.layers import read_vectors, read_words
from lamella.pipeline.export.readme import readme
from lamella.pipeline.export.vectors import (
    Batch,
    check_installed,
    write_vectors,
)
from lamella.pipeline.export.words import write_words
from lamella.pipeline.index.publish import read_frequencies
from lamella.pipeline.index.weighting import idf, word_weights
from lamella.pipeline.names import layers_meant
from lamella.pipeline.proposers.library import faiss_module
from lamella.pipeline.run.drive import OnProgress, Progress, quiet
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.tables import ROW_GROUP, write_parquet_parts
from lamella.schemas.extraction import LayerSpec
from lamella.schemas.snapshot import IndexSnapshot
from lamella.schemas.vocabulary import WEIGHT_SCALE

EXPORT_FORMAT = 1
"""The version of `export.json` and of the folder's layout."""

NAMES: Any = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
    ]
)

Held = TypeVar("Held")


@dataclass(frozen=True)
class Wanted:
    """What is to be exported.

    Attributes:
        layers: names; all of the snapshot if there is none.
        format: of vectors; Parquet if it is None.
        unit: divide every vector, and every row of words, by its length.
        weighted: multiply counts of words by their weights in the snapshot.
        clusters: how many clusters of each global layer to find, if any.
    """

    layers: tuple[str, ...] = ()
    format: Format | None = None
    unit: bool = False
    weighted: bool = False
    clusters: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Exporting:
    """An export under way: where it reads, where it writes, what is wanted."""

    store: Store
    snapshot: IndexSnapshot
    folder: Path
    wanted: Wanted
    images: ImageTable
    on_progress: OnProgress

    def path(self, name: str) -> Path:
        """Return where a file goes. Raises InputError: another one of the export is there."""
        path = self.folder / name
        if path.exists():
            raise InputError(
                f"two files of this export would be called {name}: export its layers one by one, "
                "or in another format"
            )
        return path

    def told(
        self, batches: Iterator[tuple[Int64s, Held]], stage: str
    ) -> Iterator[tuple[Int64s, Held]]:
        """Pass batches on, and tell the progress of a stage in images."""
        done, total = 0, self.snapshot.indexed
        self.on_progress(Progress(stage, done, total, done, total))
        for ids, values in batches:
            yield ids, values
            done += len(ids)
            self.on_progress(Progress(stage, done, total, done, total))


def export_layers(
    store: Store,
    snapshot: IndexSnapshot,
    target: Path,
    wanted: Wanted,
    on_progress: OnProgress = quiet,
) -> dict[str, Any]:
    """Write layers into a new folder, which appears once all is there; return its `export.json`.

    Rows are in the order of image ids, so the files have the same bytes however the corpus is cut
    into segments (but for Lance, which names files at random).

    Raises:
        UnknownLayer: the snapshot has no such layer.
        InputError: something is at `target`; what is wanted does not fit the layers, or needs a
            package that is not installed.
        StoreError: a file of the store is missing or damaged.
        DoesNotFit: there is too little memory or disk.
    """
    layers = _chosen(snapshot, wanted)
    format = wanted.format or "parquet"
    check_free(target)
    if any(layer.kind == "global" for layer in layers):
        check_installed(format)
        if wanted.clusters is not None:
            faiss_module()
    with whole_folder(target) as folder:
        images = ImageTable(store, snapshot)
        task = Exporting(store, snapshot, folder, wanted, images, on_progress)
        facts: dict[str, Any] = {
            "export_format": EXPORT_FORMAT,
            "corpus": snapshot.corpus,
            "snapshot": snapshot.number,
            "root_digest": snapshot.root_digest,
            "images": snapshot.indexed,
            "layers": [
                _vectors(task, layer, format) if layer.kind == "global" else _words(task, layer)
                for layer in layers
            ],
        }
        _write_names(task, {layer["format"] for layer in facts["layers"]})
        (folder / "README.md").write_text(readme(facts), encoding="utf-8")
        facts["files"] = {
            str(path.relative_to(folder)): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        text = json.dumps(facts, indent=2, ensure_ascii=False)
        (folder / "export.json").write_text(f"{text}\n", encoding="utf-8")
    return facts


def _chosen(snapshot: IndexSnapshot, wanted: Wanted) -> list[LayerSpec]:
    """Return the layers to export, from high to low. Raises as `export_layers`."""
    known = snapshot.extraction.layers
    names = [layer.name for layer in known]
    named = layers_meant(f"snapshot {snapshot.number}", wanted.layers, names) or names
    layers = [layer for layer in known if layer.name in named]
    listed = ", ".join(layer.name for layer in layers)
    kinds = {layer.kind for layer in layers}
    if "global" not in kinds:
        for option, given, thing in (
            ("--format", wanted.format, "a format of vectors"),
            ("--clusters", wanted.clusters, "for layers of vectors"),
        ):
            if given is not None:
                raise InputError(
                    f"{option} is {thing}, and {listed} has words, which go into a sparse matrix "
                    f"(.npz): leave {option} out, or name a global layer: {_of(known, 'global')}"
                )
    if "local" not in kinds and wanted.weighted:
        raise InputError(
            f"--weighted is for layers of words, and {listed} has vectors: leave it out, or name "
            f"a local layer: {_of(known, 'local')}"
        )
    return layers


def _of(layers: Sequence[LayerSpec], kind: str) -> str:
    return ", ".join(layer.name for layer in layers if layer.kind == kind) or "there is none"


def _vectors(task: Exporting, spec: LayerSpec, format: Format) -> dict[str, Any]:
    """Write a global layer, and its clusters; return what `export.json` says of it."""
    layer, wanted = read_vectors(task.store, task.snapshot, spec.name), task.wanted

    def batches(stage: str, *, unit: bool) -> Iterator[Batch]:
        return task.told(layer.batches(unit=unit), f"{stage} {layer.name}")

    unit = wanted.unit or format == "faiss"
    names_of = task.images.names_of
    path = task.path(f"{layer.name}.{format}")
    write_vectors(format, layer, batches("export", unit=unit), names_of, path)
    facts: dict[str, Any] = {
        "name": layer.name,
        "kind": spec.kind,
        "format": format,
        "shape": [len(layer.image_ids), layer.dimensions],
        "dtype": "float32",
        "unit": unit,
    }
    if wanted.clusters is None:
        return facts
    drawn = batches("draw", unit=True)
    centres = train_centres(layer, drawn, wanted.clusters, wanted.seed, task.on_progress)
    found = batches("decide", unit=False)
    paths = [task.path(f"{layer.name}.{each}") for each in CLUSTER_FILES]
    sizes = write_clusters(centres, found, names_of, *paths)
    return facts | {
        "clusters": wanted.clusters,
        "seed": wanted.seed,
        "largest_cluster": int(sizes.max()),
        "empty_clusters": int(np.count_nonzero(sizes == 0)),
    }


def _words(task: Exporting, spec: LayerSpec) -> dict[str, Any]:
    """Write a local layer; return what `export.json` says of it."""
    snapshot, wanted = task.snapshot, task.wanted
    layer = read_words(task.store, snapshot, spec.name)
    frequencies = read_frequencies(task.store, snapshot.document_frequencies[spec.name])
    encoding = snapshot.vocabularies[spec.name].encoding
    weights = None
    counted = "counts of descriptors"
    if encoding.kind == "bag" and encoding.power != 1:
        counted = f"{WEIGHT_SCALE} times counts to the power {encoding.power:g}"
    if wanted.weighted:
        weights = word_weights(snapshot.weighting, frequencies, snapshot.indexed)
        counted += f", times the {snapshot.weighting} weight of the word"

    def batches(what: str) -> Iterator[Any]:
        return task.told(layer.batches(), f"export {layer.name} {what}")

    path = task.path(f"{layer.name}.npz")
    dtype = write_words(layer, batches, path, weights=weights, unit=wanted.unit)
    np.save(task.path(f"{layer.name}.idf.npy"), idf(frequencies, snapshot.indexed))
    return {
        "name": layer.name,
        "kind": spec.kind,
        "format": "npz",
        "shape": [len(layer.image_ids), layer.words],
        "dtype": dtype.name,
        "unit": wanted.unit,
        "values": counted,
        "entries": layer.entries,
        "encoding": encoding.kind,
    }


def _write_names(task: Exporting, formats: set[str]) -> None:
    """Write which image each row is, for the formats that do not have it beside the values.

    Raises:
        InputError: a name has a line break, and names were to stand in lines.
    """
    ids = task.images.image_ids()
    parts = [ids[start : start + ROW_GROUP] for start in range(0, len(ids), ROW_GROUP)]
    named = ((part, task.images.names_of(part)) for part in parts)
    if formats & {"faiss", "npz"}:
        tables = (
            pa.Table.from_arrays([pa.array(part), names], schema=NAMES)
            for part, names in task.told(named, "export names")
        )
        write_parquet_parts(tables, NAMES, task.path("names.parquet"))
        named = ((part, task.images.names_of(part)) for part in parts)
    if "npy" in formats:
        with task.path("ids.npy").open("wb") as file:
            write_npy(file, ids.dtype, ids.shape, parts)
        with task.path("names.txt").open("w", encoding="utf-8", newline="\n") as lines:
            for _, names in task.told(named, "export names as text"):
                lines.writelines(f"{_in_a_line(name)}\n" for name in names.to_pylist())


def _in_a_line(name: str) -> str:
    if "\n" in name or "\r" in name:
        raise InputError(
            f"names.txt has a name in each line, and {one_line(repr(name), 200)} has a line break: "
            "take --format parquet"
        )
    return name
