"""Descriptors that become words as they come."""

import numpy as np
import pytest

from lamella.pipeline.errors import IncompatibleInputs
from lamella.pipeline.extract.activations import BatchActivations
from lamella.pipeline.extract.background_writer import at_once
from lamella.pipeline.extract.descriptors import Descriptors
from lamella.pipeline.index.describe import Describer
from lamella.pipeline.index.files import read_bags
from lamella.pipeline.index.one_pass import WordSink
from lamella.pipeline.store.commit import attempt, open_committed
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.vocabulary.assign import ExactAssigner
from lamella.schemas.vocabulary import EncodingSpec
from tests.builders import finish_whole

WORDS = np.eye(2, dtype=np.float32)


def batch(image_id: int, vectors: list[list[float]]) -> BatchActivations:
    ids, places = np.full(len(vectors), image_id), np.zeros(len(vectors), np.uint16)
    found = Descriptors(ids, places, places, np.array(vectors, np.float16))
    return BatchActivations(np.array([image_id]), {}, {"low": found}, ())


def test_bags_stand_in_the_order_of_ids_whatever_the_order_of_batches(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    store = LocalStore(tmp_path_factory.mktemp("store"))
    sink = WordSink("low", Describer(ExactAssigner(WORDS), EncodingSpec()), at_once)
    sink.add(batch(7, [[0, 1], [0.6, 0.8], [1, 0]]))  # nearest to words 1, 1, 0
    sink.add(batch(3, [[1, 0]]))
    with attempt(store, "activations/x-000000000000", "extract", "00000", "0" * 64) as work:
        # Image 5 has no descriptor.
        counts = sink.commit(work, "activations/x-000000000000", np.array([3, 5, 7]))
        record = finish_whole(work, **counts)
    assert counts == {"rows.low": 4, "words.low": 3, "empty.low": 1} | {
        "error.low": 400_195,  # of [.6, .8] to [0, 1]: .36 + .04, in float16
        "measured.low": 4,
    }
    image_ids, bags = read_bags(open_committed(store, record.files["low"]))
    assert image_ids.tolist() == [3, 5, 7]
    assert bags.offsets.tolist() == [0, 1, 1, 3]
    assert bags.words.tolist() == [0, 0, 1]
    assert bags.counts.tolist() == [1, 1, 2]


def test_words_for_other_dimensions_are_refused_by_name() -> None:
    sink = WordSink("low", Describer(ExactAssigner(WORDS), EncodingSpec()), lambda piece: piece())
    sink.add(batch(0, [[1, 0, 0]]))
    with pytest.raises(IncompatibleInputs, match="layer low, of 3 dimensions, cannot be given"):
        sink._take()()
