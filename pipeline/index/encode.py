"""The encode stage: local descriptors of a shard become bags of words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.errors import CorruptFile, one_line
from lamella.pipeline.extract.extraction import Extraction, check_not_freed
from lamella.pipeline.extract.tables import LOCAL, read_image_ids
from lamella.pipeline.index import residuals
from lamella.pipeline.index.bags import BagsOfWords, concatenate, select
from lamella.pipeline.index.describe import Described, Describer, Describes
from lamella.pipeline.index.describe_residuals import ResidualDescriber
from lamella.pipeline.index.files import read_bags, write_bags
from lamella.pipeline.index.residual_files import read_residuals, write_residuals
from lamella.pipeline.index.residuals import Residuals
from lamella.pipeline.run.drive import OnProgress, complete, quiet, read_all_done
from lamella.pipeline.run.step import Counts, Do, Runner, StoreStep
from lamella.pipeline.signs import signed
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import WRONG_FORM, Attempt, read_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.tables import binary_vectors_of, column, open_parquet
from lamella.pipeline.vocabulary.assign import Assigner
from lamella.pipeline.vocabulary.checkpoint import read_centroids
from lamella.pipeline.vocabulary.choose import CARD_FROM, exact_assigner
from lamella.pipeline.vocabulary.ivf import CellsAssigner
from lamella.pipeline.vocabulary.ivf_files import read_cells, read_neighbours
from lamella.pipeline.vocabulary.measured import measured_counts
from lamella.pipeline.vocabulary.projection import ProjectingAssigner, read_projection
from lamella.schemas.base import digest_of
from lamella.schemas.extraction import ExtractionSpec
from lamella.schemas.files import DoneRecord, FileRef
from lamella.schemas.vocabulary import EncodingKind, Vocabulary


@dataclass(frozen=True)
class EncodeTask:
    """A shard's record of extraction, and the key of what it is, as `outcome_key` gives it."""

    key: str
    extracted: DoneRecord


@dataclass(frozen=True)
class EncodeWork:
    """Opens the assigners of all local layers once."""

    vocabularies: Mapping[str, Vocabulary]

    @property
    def uses_gpu(self) -> bool:
        """Whether a vocabulary has enough words for a GPU to be worth it."""
        return any(
            vocabulary.cells is None and vocabulary.words >= CARD_FROM
            for vocabulary in self.vocabularies.values()
        )

    def open(self, store: Store) -> Do[EncodeTask]:
        describers: dict[str, Describes[Any]] = {
            layer: open_describer(store, vocabulary)
            for layer, vocabulary in self.vocabularies.items()
        }

        def encode(task: EncodeTask, work: Attempt) -> Counts:
            files = task.extracted.files
            image_ids = read_committed(store, files["images"], read_image_ids)
            words: dict[str, int] = {}
            for layer, describer in describers.items():
                check_not_freed(task.extracted, layer)
                parts = _described(store, files.get(layer), describer)
                found = describer.of_images(parts, image_ids)
                words |= put_words(work, layer, work.folder, image_ids, found)
                words |= measured_counts(layer, (part.squared_distances for part in parts))
            return {"images": len(image_ids)} | words

        return encode


def _described(store: Store, file: FileRef | None, describer: Describes[Any]) -> list[Described]:
    """Return the words of a file of local descriptors; there is none where no image gave one."""
    if file is None:
        return []
    return read_committed(store, file, lambda path: describe_file(path, describer))


def open_describer(
    store: Store, vocabulary: Vocabulary
) -> Describes[BagsOfWords] | Describes[Residuals]:
    """Return what describes pictures by a vocabulary. Raises CorruptFile as `open_assigner`."""
    assigner = open_assigner(store, vocabulary)
    if vocabulary.encoding.kind == "asmk" and vocabulary.centroids is not None:
        centroids = read_committed(store, vocabulary.centroids, read_centroids)
        return ResidualDescriber(assigner, vocabulary.encoding, centroids)
    return Describer(assigner, vocabulary.encoding)


def open_assigner(store: Store, vocabulary: Vocabulary) -> Assigner:
    """Return a vocabulary's assigner: with or without a projection, exact or by cells.

    Raises:
        CorruptFile: its files do not hold words, or do not fit together.
    """
    if vocabulary.centroids is None:
        raise ValueError(f"vocabulary {vocabulary.layer} has no file of centroids")
    centroids = read_committed(store, vocabulary.centroids, read_centroids)
    cells = neighbours = None
    if vocabulary.cells is not None:
        cells = read_committed(store, vocabulary.cells, read_cells)
    if vocabulary.neighbours is not None:
        neighbours = read_committed(store, vocabulary.neighbours, read_neighbours)
    try:
        assigner: Assigner = (
            exact_assigner(centroids)
            if cells is None
            else CellsAssigner(centroids, cells, vocabulary.probes, neighbours)
        )
    except WRONG_FORM as error:
        raise CorruptFile(
            f"{vocabulary.centroids.path} and the files of its vocabulary were written wrong, by "
            f"whoever made {store.url}: {one_line(error)}; index anew, or use a store that you "
            "trust"
        ) from error
    if vocabulary.projection is None:
        return assigner
    projection = read_committed(store, vocabulary.projection, read_projection)
    return ProjectingAssigner(projection, assigner)


def describe_file(path: Path, describer: Describes[Any]) -> list[Described]:
    """Return the words of a file of local descriptors, part by part, in one pass over it."""
    parts: list[Described] = []
    with open_parquet(path, LOCAL) as file:
        for group in signed(range(file.metadata.num_row_groups)):
            table = file.read_row_group(group)
            owners = column(table, "image_id").astype(np.int64)
            vectors = binary_vectors_of(table, "vector", np.float16)
            parts.append(describer.describe(owners, vectors.astype(np.float32)))
    return parts


def put_words(
    work: Attempt,
    layer: str,
    folder: str,
    image_ids: NDArray[np.int64],
    found: BagsOfWords | Residuals,
) -> dict[str, int]:
    """Add a layer's bags or residuals to an attempt in a stage's folder; return what a record
    counts of them.
    """
    place = tree.layer_folder(folder, layer)
    if isinstance(found, Residuals):
        bags = found.bags
        work.write(layer, place, "arrow", lambda path: write_residuals(image_ids, found, path))
    else:
        bags = found
        work.write(layer, place, "arrow", lambda path: write_bags(image_ids, bags, path))
    empty = int(np.count_nonzero(np.diff(bags.offsets) == 0))
    return {f"words.{layer}": len(bags.words), f"empty.{layer}": empty}


def read_words(
    store: Store, file: FileRef, kind: EncodingKind
) -> tuple[NDArray[np.int64], BagsOfWords | Residuals]:
    """Return what describes the images of a shard, as `put_words` wrote it: ids, rising, and bags
    or residuals.
    """
    if kind == "asmk":
        return read_committed(store, file, read_residuals)
    return read_committed(store, file, read_bags)


def join_words(parts: Sequence[BagsOfWords | Residuals]) -> BagsOfWords | Residuals:
    """Return the images of all parts, one part after the other; all are of one kind."""
    bags = [part for part in parts if isinstance(part, BagsOfWords)]
    if len(bags) == len(parts):
        return concatenate(bags)
    return residuals.concatenate([part for part in parts if isinstance(part, Residuals)])


def select_words(
    found: BagsOfWords | Residuals, rows: NDArray[np.int64]
) -> BagsOfWords | Residuals:
    """Return the bags or residuals of these rows, in this order."""
    if isinstance(found, BagsOfWords):
        return select(found, rows)
    return residuals.select(found, rows)


@dataclass(frozen=True)
class Encoding:
    """Bags of words of a whole corpus, and the extraction they come from.

    Attributes:
        inputs: the digest of what decides the bags of any picture: its recipe and the words.
        records: of each shard; those of the extraction where both were made in one pass.
    """

    inputs: str
    extraction: Extraction
    vocabularies: Mapping[str, Vocabulary]
    records: tuple[DoneRecord, ...]


def encoding_inputs(extraction: str, vocabularies: Mapping[str, Vocabulary]) -> str:
    """Return the digest of what decides bags; `extraction` is that of what decides activations."""
    identities = {layer: vocabulary.identity() for layer, vocabulary in vocabularies.items()}
    return digest_of([extraction, identities])


def from_high_to_low(
    spec: ExtractionSpec, vocabularies: Mapping[str, Vocabulary]
) -> dict[str, Vocabulary]:
    """Return vocabularies in the order of the layers, as the folder of their bags names them.

    Those of a record that was read come by name, as its JSON has them.
    """
    return {
        layer.name: vocabularies[layer.name] for layer in spec.layers if layer.name in vocabularies
    }


def encoding_place(decided: str, vocabularies: Mapping[str, Vocabulary]) -> tuple[str, str]:
    """Return the folder of bags and the digest of what decides them; all corpora share it.

    Args:
        vocabularies: from the high to the low layer.
    """
    inputs = encoding_inputs(decided, vocabularies)
    return tree.ENCODE.folder(
        keyed=tree.keyed("-".join(vocabularies) or "no-words", inputs)
    ), inputs


def find_encoding(
    store: Store, extraction: Extraction, vocabularies: Mapping[str, Vocabulary]
) -> Encoding | None:
    """Return the bags of a corpus, None where a shard's are missing."""
    folder, inputs = encoding_place(extraction.decided, vocabularies)
    records = read_all_done(store, folder, extraction.keys)
    done = tuple(record for record in records if record is not None)
    if len(done) < len(records):
        return None
    return Encoding(inputs, extraction, vocabularies, done)


def encode_corpus(
    store: Store,
    runner: Runner,
    extraction: Extraction,
    vocabularies: Mapping[str, Vocabulary],
    *,
    on_progress: OnProgress = quiet,
) -> Encoding:
    """Return the bags of every shard in every local layer, making those that are missing."""
    folder, inputs = encoding_place(extraction.decided, vocabularies)
    work = EncodeWork(dict(vocabularies))
    records = complete(
        store,
        runner,
        StoreStep(tree.ENCODE, store.url, folder, inputs, work, uses_gpu=work.uses_gpu),
        [
            EncodeTask(key, record)
            for key, record in zip(extraction.keys, extraction.records, strict=True)
        ],
        units=lambda task: task.extracted.counts["indexed"],
        on_progress=on_progress,
    )
    return Encoding(inputs, extraction, vocabularies, tuple(records))
