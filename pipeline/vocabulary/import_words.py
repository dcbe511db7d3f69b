"""Import an exchanged vocabulary into this store, for its descriptors."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from lamella.pipeline.arrays import Float32s, UInt32s
from lamella.pipeline.errors import IncompatibleInputs, InputError
from lamella.pipeline.extract.extraction import Extraction
from lamella.pipeline.run.drive import complete
from lamella.pipeline.run.step import Counts, Do, Runner, StoreStep, Whole
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import Attempt, create_once, read_committed, sha256_of
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import parse_record, read_record
from lamella.pipeline.vocabulary.checkpoint import read_health, write_centroids
from lamella.pipeline.vocabulary.choose import EXACT_UP_TO
from lamella.pipeline.vocabulary.exchange import (
    Exchanged,
    check_recipe,
    read_exchanged,
    read_json,
    recipe_digest,
)
from lamella.pipeline.vocabulary.finish import choose_probes
from lamella.pipeline.vocabulary.ivf import Cells, first_cells, neighbours_of
from lamella.pipeline.vocabulary.ivf_files import write_cells, write_neighbours
from lamella.pipeline.vocabulary.projection import project, write_projection
from lamella.pipeline.vocabulary.rounds import HELD_ROWS
from lamella.pipeline.vocabulary.sample import draw_sample
from lamella.schemas.base import digest_of
from lamella.schemas.extraction import ExtractionSpec
from lamella.schemas.files import FileRef
from lamella.schemas.job import JobConfig
from lamella.schemas.vocabulary import Vocabulary

PROBED_CAP = 50
"""Descriptors a picture on which the number of probes is chosen, if the JSON gives none."""


def words_folder(job: JobConfig) -> Path:
    """Return the folder that a job imports its vocabulary from."""
    return Path(job.vocabulary_from or "").expanduser().absolute()  # for workers elsewhere


def find_import(folder: Path, layer: str) -> tuple[Path, str]:
    """Return the JSON of a layer's words in a folder, and its SHA-256.

    Raises:
        InputError: there is none; the message lists the layers that are there.
    """
    path = folder / f"{tree.slug(layer)}.json"
    try:
        return path.absolute(), sha256_of(path)
    except OSError:
        there = ", ".join(sorted(each.name for each in folder.glob("*.json"))) or "no JSON"
        raise InputError(
            f"layer {layer} takes its words from {path}, which cannot be read; {folder} has "
            f"{there}: give the folder that `lamella vocabulary export` made"
        ) from None


def says_probes(json_path: Path) -> bool:
    """Say whether words can be imported without descriptors: exact, or with probes given.

    Raises:
        InputError: the JSON describes no vocabulary.
    """
    said = read_json(json_path)
    return said.cells is not None or said.words <= EXACT_UP_TO


def import_inputs(sha256: str, made_for: str, layer: str) -> str:
    """Return the digest of all that decides a layer's imported words; the JSON names all files.

    `made_for` is the digest of the activations they are tried on, or of a descriptor's recipe where
    there are no activations yet.
    """
    return digest_of(["import", sha256, made_for, layer])


@dataclass(frozen=True)
class ImportWork:
    """Checks exchanged words against the descriptors here, and writes them into the store."""

    layer: str
    json_path: Path
    sha256: str
    extraction: ExtractionSpec
    descriptors: tuple[FileRef, ...] | None

    def open(self, store: Store) -> Do[Whole]:
        def take(task: Whole, work: Attempt) -> Counts:
            words = self._read()
            dimensions = words.centroids.shape[1]
            if words.projection is not None:
                dimensions = words.projection.descriptor_dimensions
            self._check_dimensions(store, dimensions)
            cells, neighbours, probes = self._cells(store, words)
            folder = f"{work.folder}/rounds"
            work.write("centroids", folder, "arrow", partial(write_centroids, words.centroids))
            if cells is not None:
                work.write("cells", folder, "cells.arrow", partial(write_cells, cells))
            if neighbours is not None:
                write = partial(write_neighbours, neighbours)
                work.write("neighbours", folder, "near.arrow", write)
            if words.projection is not None:
                write = partial(write_projection, words.projection)
                work.write("projection", folder, "projection.arrow", write)
            if words.health is not None:
                said = words.health.to_json()
                work.write("health", folder, "json", lambda path: path.write_bytes(said) and 1)
            return {"dimensions": words.centroids.shape[1], "probes": probes}

        return take

    def _read(self) -> Exchanged:
        path, found = find_import(self.json_path.parent, self.json_path.stem)
        if found != self.sha256:
            raise InputError(
                f"{path} has SHA-256 {found[:12]}, the job took words of {self.sha256[:12]}: put "
                "that file back, or index anew"
            )
        words = read_exchanged(path)
        check_recipe(words, self.extraction, self.layer)
        return words

    def _check_dimensions(self, store: Store, dimensions: int) -> None:
        for reference in (self.descriptors or ())[:1]:
            schema = read_committed(store, reference, pq.read_schema)
            found = schema.field("vector").type.byte_width // 2
            if found != dimensions:
                raise IncompatibleInputs(
                    f"the words of {self.json_path.name} are for {dimensions:,} dimensions, the "
                    f"descriptors of layer {self.layer} have {found:,}: export them again"
                )

    def _cells(self, store: Store, words: Exchanged) -> tuple[Cells | None, UInt32s | None, int]:
        """Return cells, neighbours and probes, made here where the exchange has none."""
        if words.cells is None and len(words.centroids) <= EXACT_UP_TO:
            return None, None, 0
        cells = words.cells or first_cells(words.centroids)
        neighbours = neighbours_of(words.centroids, cells)
        if words.probes:
            return cells, neighbours, words.probes
        if self.descriptors is None:
            raise InputError(probes_wanted(self.json_path))
        rows = self._some_rows(store, words, self.descriptors)
        return cells, neighbours, choose_probes(words.centroids, cells, neighbours, rows)[0]

    def _some_rows(
        self, store: Store, words: Exchanged, descriptors: tuple[FileRef, ...]
    ) -> Float32s:
        """Return descriptors of this store, of the first shard that has any."""
        for reference in descriptors:
            sample, _ = read_committed(
                store, reference, lambda path: draw_sample(path, PROBED_CAP, seed=0)
            )
            if len(sample):
                some = sample.rows(slice(0, HELD_ROWS))
                if words.projection is None:
                    return some.descriptors()
                return project(words.projection, some.bits).astype(np.float32)
        return np.empty((0, words.centroids.shape[1]), np.float32)


def probes_wanted(json_path: Path) -> str:
    """Return the error for words that must be tried on descriptors where none are kept."""
    return (
        f"{json_path} has more than {EXACT_UP_TO:,} words and does not say into how many cells to "
        'look, which is tried on descriptors: run once with activations.keep = "all" '
        "(--keep-activations all), then export the words of that index and give those"
    )


def import_vocabulary(
    store: Store,
    runner: Runner,
    spec: ExtractionSpec,
    layer: str,
    folder: Path,
    sha256: str,
    extraction: Extraction | None = None,
) -> Vocabulary:
    """Return a layer's imported words, imported now or earlier.

    Args:
        folder: where `LAYER.json` and its arrays lie, for every worker.
        sha256: of that JSON.
        extraction: the descriptors on which the words are tried; left out, they are imported
            untried, once for all extractions of this recipe.

    Raises:
        StageFailed: the words are damaged, or were made for other descriptors.
    """
    recipe = recipe_digest(spec, layer)
    inputs = import_inputs(sha256, recipe if extraction is None else extraction.inputs, layer)
    key = tree.keyed(layer, inputs)
    path = tree.VOCABULARY.at(keyed=key, layer=layer)
    if store.exists(path):
        return read_record(store, path, Vocabulary)
    into = tree.SEED.folder(keyed=key, layer=layer)
    work = ImportWork(
        layer,
        folder / f"{tree.slug(layer)}.json",
        sha256,
        spec,
        tuple(extraction.descriptors(layer).values()) if extraction is not None else None,
    )
    step = StoreStep(tree.IMPORT, store.url, into, inputs, work, of_stage=f"vocabulary {layer}")
    (taken,) = complete(store, runner, step, [Whole("import")])
    centroids = taken.files["centroids"]
    health = None
    if "health" in taken.files:
        health = read_committed(store, taken.files["health"], read_health)
    vocabulary = Vocabulary(
        layer=layer,
        words=centroids.rows,
        words_requested=centroids.rows,
        dimensions=taken.counts["dimensions"],
        spec=sha256,
        extraction="",
        recipe=recipe,
        imported=True,
        rounds=(),
        health=health,
        centroids=centroids,
        cells=taken.files.get("cells"),
        neighbours=taken.files.get("neighbours"),
        probes=taken.counts["probes"],
        projection=taken.files.get("projection"),
    )
    return parse_record(store, path, Vocabulary, create_once(store, path, vocabulary.to_json()))
