"""What is said of words: worked by hand, and against slow counting over a real index."""

from collections import Counter

import numpy as np
import pytest

from lamella.pipeline.diagnostics.inspect import (
    CorpusUse,
    Kept,
    corpus_use,
    inspect_layer,
    kept_of,
    local_layers,
    round_lines,
    word_lines,
)
from lamella.pipeline.errors import InputError, UnknownLayer
from lamella.pipeline.index.files import read_bags
from lamella.pipeline.index.publish import read_frequencies
from lamella.pipeline.index.shards import shards_of
from lamella.pipeline.store.commit import open_committed
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.protocol import Store
from lamella.schemas.vocabulary import RoundReport, VocabularyHealth
from tests.conftest import Indexed


@pytest.fixture(scope="module")
def store(indexed: Indexed) -> Store:
    return LocalStore(indexed.store)


def use(counts: list[int], pictures: list[int], images: int = 10) -> CorpusUse:
    return CorpusUse(np.array(counts, np.int64), np.array(pictures, np.int64), images)


def test_burstiness_is_the_mean_count_in_pictures_that_have_the_word() -> None:
    # 12 descriptors in 6 pictures, 5 in 5, none, 30 in 5
    found = use([12, 5, 0, 30], [6, 5, 0, 5])
    assert found.burstiness().tolist() == [2.0, 1.0, 0.0, 6.0]
    assert found.most_bursty(2) == (3, 0)


def test_a_word_in_few_pictures_is_not_called_bursty() -> None:
    assert use([40, 10], [4, 5]).most_bursty(8) == (1,)
    # where there are only four pictures, four are enough
    assert use([40, 4], [4, 4], images=4).most_bursty(8) == (0, 1)


def test_most_used_words_fall_and_the_lower_word_goes_first_among_equals() -> None:
    assert use([3, 7, 0, 7], [1, 1, 0, 1]).most_used(8) == (1, 3, 0)
    assert use([3, 7, 0, 7], [1, 1, 0, 1]).most_used(1) == (1,)


def test_drawn_words_are_used_ones_and_the_same_for_a_seed() -> None:
    found = use([1] * 50 + [0] * 50, [1] * 50 + [0] * 50)
    drawn = found.drawn(8, 3, but=range(40))
    assert drawn == found.drawn(8, 3, but=range(40)) == tuple(sorted(drawn))
    assert len(drawn) == 8
    assert set(drawn) <= set(range(40, 50))
    assert found.drawn(99, 3, but=range(49)) == (49,)


def test_word_lines_worked_by_hand() -> None:
    (line,) = word_lines(use([12, 4], [6, 1]), [0])
    assert (line.count, line.share, line.pictures, line.burstiness) == (12, 0.75, 6, 2.0)


def test_no_descriptor_at_all_divides_by_nothing() -> None:
    none = use([0, 0], [0, 0], images=0)
    assert none.most_used(3) == none.most_bursty(3) == none.drawn(3, 0) == ()
    assert none.burstiness().tolist() == [0.0, 0.0]


def test_a_fall_is_between_full_rounds() -> None:
    reports = [
        RoundReport(
            round=number, share=share, objective=objective, changed=0, empty_words=0, imbalance=1
        )
        for number, (share, objective) in enumerate([(0.5, 9), (1, 4), (1, 3), (1, 0), (1, 0)])
    ]
    falls = [line.fall for line in round_lines(reports)]
    # none before two full rounds; (4 - 3) / 4; (3 - 0) / 3; nothing is left to fall by
    assert falls == [None, None, 0.25, 1.0, None]


def test_use_is_what_counting_image_by_image_gives(indexed: Indexed, store: Store) -> None:
    snapshot = indexed.snapshot
    counts: Counter[int] = Counter()
    pictures: Counter[int] = Counter()
    for segment in snapshot.segments:
        _, bags = read_bags(open_committed(store, segment.files["p15.bags"]))
        for image in range(len(bags)):
            mine = slice(int(bags.offsets[image]), int(bags.offsets[image + 1]))
            for word, count in zip(bags.words[mine], bags.counts[mine], strict=True):
                counts[int(word)] += int(count)
                pictures[int(word)] += 1
    found = corpus_use(store, snapshot, "p15")
    assert len(snapshot.segments) > 1
    assert found.images == snapshot.indexed == 48
    assert found.counts.tolist() == [counts[word] for word in range(len(found.counts))]
    assert found.pictures.tolist() == [pictures[word] for word in range(len(found.counts))]
    stored = read_frequencies(store, snapshot.document_frequencies["p15"])
    assert found.pictures.tolist() == stored.tolist()


def test_a_layer_is_told_whole_and_plainly(indexed: Indexed, store: Store) -> None:
    health = inspect_layer(store, indexed.snapshot, "p15", listed=3)
    plain = health.plain()
    assert plain["words"] == indexed.snapshot.vocabularies["p15"].words
    assert len(plain["rounds"]) == len(indexed.snapshot.vocabularies["p15"].rounds)
    assert plain["corpus"]["descriptors"] == int(health.use.counts.sum())
    assert [line["word"] for line in plain["most_used"]] == list(health.use.most_used(3))
    assert plain["corpus"]["mean_burstiness"] >= 1.0


def test_the_sample_of_a_training_is_found(indexed: Indexed, store: Store) -> None:
    kept = kept_of(store, indexed.snapshot.vocabularies["p15"])
    assert len(kept.sample) == len(shards_of(store, indexed.snapshot))
    assert all(store.exists(file.path) for file in kept.sample)


def test_what_a_vocabulary_names_of_its_training_is_taken(indexed: Indexed, store: Store) -> None:
    vocabulary = indexed.snapshot.vocabularies["p15"]
    files = kept_of(store, vocabulary).sample[:1]
    health = VocabularyHealth(
        held_rows=50,
        held_error=0.25,
        recall=0.5,
        entropy=1,
        evenness=1,
        dead=0,
        largest_share=1,
        imbalance=1,
    )
    named = vocabulary.model_copy(update={"sample": files, "health": health})
    assert kept_of(store, named) == Kept(files, 50, 0.25, 0.5)
    none = health.model_copy(update={"held_rows": 0})
    named = vocabulary.model_copy(update={"sample": files, "health": none})
    assert kept_of(store, named) == Kept(files, 0, None, None)


def test_a_layer_without_words_is_unknown(indexed: Indexed) -> None:
    assert local_layers(indexed.snapshot) == local_layers(indexed.snapshot, "p15") == ("p15",)
    with pytest.raises(UnknownLayer, match="no visual words of a layer 'head': it has those of p"):
        local_layers(indexed.snapshot, "head")
    none = indexed.snapshot.model_copy(update={"vocabularies": {}})
    with pytest.raises(InputError, match="no local layer, so no visual words"):
        local_layers(none)
