"""Extract and encode in one pass: pictures in, bags of words and global vectors out.

Descriptors are kept in memory only until they have their words. They are rounded to float16 as if
they were stored, and assigned by the same assigner as in two passes, so bags and segments have the
same bytes.

Bags and global vectors lie in one folder, keyed by what decides activations and by the words, and
are committed by one done record. So a shard is whole or absent: a picture that is refused late and
read on a later try changes vectors and bags together, and no case of two records with one missing
can arise.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.errors import IncompatibleInputs
from lamella.pipeline.extract.extraction import Extraction
from lamella.pipeline.extract.taken import Taken, lacks
from lamella.pipeline.index.bags import BagsOfWords
from lamella.pipeline.index.describe import Described, Describes
from lamella.pipeline.index.encode import (
    Encoding,
    encoding_inputs,
    join_words,
    open_describer,
    put_words,
    read_words,
    select_words,
)
from lamella.pipeline.index.residuals import Residuals
from lamella.pipeline.store.commit import Attempt
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.vocabulary.measured import measured_counts
from lamella.schemas.extraction import LayerSpec
from lamella.schemas.files import ROWS
from lamella.schemas.vocabulary import EncodingKind, Vocabulary

if TYPE_CHECKING:
    from lamella.pipeline.extract.activations import BatchActivations
    from lamella.pipeline.extract.background_writer import Do, Piece
    from lamella.pipeline.extract.descriptors import Descriptors
    from lamella.pipeline.extract.sink import MakeSink, Sink


@dataclass(frozen=True)
class WordEncoder:
    """Assigns words to the descriptors of local layers: a vocabulary for each layer."""

    vocabularies: Mapping[str, Vocabulary]

    def inputs(self, extraction: str) -> str:
        """Return the digest of what decides the files; see `extract.stage.Encoder`."""
        return encoding_inputs(extraction, self.vocabularies)

    def open(self, store: Store, otherwise: "MakeSink") -> "MakeSink":
        """Open the assigners; return what makes a sink of words for each local layer."""
        describers = {
            layer: _InTurn(open_describer(store, vocabulary))
            for layer, vocabulary in self.vocabularies.items()
        }

        def make(layer: LayerSpec, path: Path, do: "Do") -> "Sink":
            if layer.kind == "local":
                kind = self.vocabularies[layer.name].encoding.kind
                return WordSink(layer.name, describers[layer.name], do, kind)
            return otherwise(layer, path, do)

        return make

    def encoding(self, extraction: Extraction) -> Encoding:
        """Return the bags that were made with an extraction by this encoder.

        What decides them is the same as in two passes, and so are the folder of the segments that
        are made of them and its bytes.
        """
        if extraction.encoded is None:
            raise ValueError("this extraction kept descriptors and made no words")
        inputs = self.inputs(extraction.decided)
        return Encoding(inputs, extraction, self.vocabularies, extraction.encoded)


class _InTurn:
    """A describer behind a lock: two shards may overlap in a worker, but its buffers serve one."""

    def __init__(self, describer: Describes[Any]) -> None:
        self._describer = describer
        self._turn = threading.Lock()
        self.of_images = describer.of_images

    def describe(self, owners: NDArray[np.int64], descriptors: NDArray[np.float32]) -> Described:
        """See `Describes.describe`."""
        with self._turn:
            return self._describer.describe(owners, descriptors)


class WordSink:
    """Collects a layer's descriptors, and assigns their words once there are enough.

    One batch has too few descriptors for a fast product with thousands of words. A descriptor's
    word does not depend on the others, so how many are compared at once changes nothing.
    """

    def __init__(
        self, layer: str, describer: Describes[Any], do: "Do", kind: EncodingKind = "bag"
    ) -> None:
        self.layer = layer
        self._kind: EncodingKind = kind
        self._describer = describer
        self._do = do
        self._waiting: list[Descriptors] = []
        self._waiting_bytes = 0
        self._parts: list[Described] = []
        self._taken: list[tuple[NDArray[np.int64], BagsOfWords | Residuals]] = []

    def take(self, store: Store, taken: Sequence[Taken]) -> None:
        """Read the words of pictures that are at hand."""
        for part in taken:
            file, wanted = part.encoded.files[self.layer], np.array(part.old_ids, np.int64)
            ids, found = read_words(store, file, self._kind)
            at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
            if not np.array_equal(ids[at], wanted):
                raise lacks(file)
            self._taken.append((np.array(part.new_ids, np.int64), select_words(found, at)))

    def add(self, batch: "BatchActivations") -> None:
        """Add the layer's descriptors."""
        from lamella.pipeline.extract.sink import GROUP_BYTES

        if self.layer in batch.descriptors:
            found = batch.descriptors[self.layer]
            self._waiting.append(found)
            self._waiting_bytes += found.vectors.nbytes
            if self._waiting_bytes >= GROUP_BYTES:
                self._do(self._take())

    def commit(self, work: Attempt, folder: str, image_ids: NDArray[np.int64]) -> dict[str, int]:
        """Add the bags of all images to the attempt."""
        if self._waiting:
            self._take()()
        at_hand = np.concatenate([np.empty(0, np.int64), *(ids for ids, _ in self._taken)])
        read = np.setdiff1d(image_ids, at_hand, assume_unique=True)
        parts = [self._describer.of_images(self._parts, read), *(some for _, some in self._taken)]
        order = np.argsort(np.concatenate([read, at_hand]), kind="stable")
        found = select_words(join_words(parts), order)
        counts = {f"{ROWS}{self.layer}": sum(len(part.owners) for part in self._parts)}
        counts |= measured_counts(self.layer, (part.squared_distances for part in self._parts))
        return counts | put_words(work, self.layer, folder, image_ids, found)

    def close(self) -> None:
        """Nothing is open."""

    def _take(self) -> "Piece":
        """Return a piece of work: assign words to the waiting descriptors."""
        found, self._waiting, self._waiting_bytes = self._waiting, [], 0

        def assign() -> None:
            owners = np.concatenate([each.image_ids for each in found])
            vectors = np.concatenate([each.vectors for each in found]).astype(np.float32)
            try:
                self._parts.append(self._describer.describe(owners, vectors))
            except ValueError as error:
                raise IncompatibleInputs(
                    f"the descriptors of layer {self.layer}, of {vectors.shape[1]:,} dimensions, "
                    f"cannot be given the words of this job: {error}; take words that were made "
                    "for them"
                ) from error

        return assign
