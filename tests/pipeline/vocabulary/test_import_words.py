"""Words from another store: taken to the bit, or refused in one line."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lamella.pipeline.errors import InputError, StageFailed
from lamella.pipeline.extract.extraction import Extraction
from lamella.pipeline.index.encode import open_assigner
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.upkeep.verify import verify_store
from lamella.pipeline.vocabulary import import_words
from lamella.pipeline.vocabulary.exchange import export_vocabulary
from lamella.pipeline.vocabulary.import_words import find_import, import_vocabulary, says_probes
from lamella.pipeline.vocabulary.stage import train_vocabulary
from lamella.schemas.extraction import ExtractionSpec
from lamella.schemas.vocabulary import ProjectionSpec, Vocabulary, VocabularySpec
from tests.pipeline.vocabulary.activations import LAYER, given_activations
from tests.pipeline.vocabulary.vectors import clustered

ROWS = clustered(2_000, 16, 80)
OTHERS = clustered(1_000, 16, 80, seed=1)


def exported(folder: Path, spec: VocabularySpec) -> tuple[Store, Vocabulary]:
    store, extraction = given_activations(folder / "trained", ROWS)
    vocabulary = train_vocabulary(store, SerialRunner(), extraction, LAYER, spec)
    export_vocabulary(store, vocabulary, extraction.spec, folder / "words")
    return store, vocabulary


def take(store: Store, extraction: Extraction, words: Path) -> Vocabulary:
    _, sha256 = find_import(words, LAYER)
    spec = extraction.spec
    return import_vocabulary(store, SerialRunner(), spec, LAYER, words, sha256, extraction)


@pytest.mark.parametrize(
    "spec",
    [
        VocabularySpec(words=60, assigner="cells", rounds=4),
        VocabularySpec(words=60, assigner="exact", rounds=4),
        VocabularySpec(words=60, rounds=4, projection=ProjectionSpec(dimensions=5, whiten=True)),
    ],
    ids=["cells", "exact", "projected"],
)
def test_imported_words_are_given_to_the_same_descriptors(
    tmp_path: Path, spec: VocabularySpec
) -> None:
    store, vocabulary = exported(tmp_path, spec)
    other, extraction = given_activations(tmp_path / "other", OTHERS)
    taken = take(other, extraction, tmp_path / "words")
    assert (taken.imported, taken.rounds, taken.words) == (True, (), 60)
    assert (taken.health, taken.probes) == (vocabulary.health, vocabulary.probes)
    rows = OTHERS.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(
        open_assigner(other, taken).assign(rows).words,
        open_assigner(store, vocabulary).assign(rows).words,
    )
    assert take(other, extraction, tmp_path / "words") == taken
    damage = [each.path for each in verify_store(other).damage]
    assert not [path for path in damage if path.startswith("vocabularies/")]


def test_words_of_another_recipe_are_refused_with_what_differs(tmp_path: Path) -> None:
    exported(tmp_path, VocabularySpec(words=60, rounds=4))
    other, extraction = given_activations(tmp_path / "other", OTHERS)
    preprocess = extraction.spec.preprocess.model_copy(update={"short_edge": 320})
    spec: ExtractionSpec = extraction.spec.model_copy(update={"preprocess": preprocess})
    changed = replace(extraction, spec=spec)
    with pytest.raises(StageFailed, match=r"preprocess\.short_edge is 256, .* here it is 320"):
        take(other, changed, tmp_path / "words")
    assert not list((tmp_path / "other").rglob("vocabulary.json"))


def test_words_that_were_changed_since_are_refused(tmp_path: Path) -> None:
    exported(tmp_path, VocabularySpec(words=60, rounds=4))
    words = tmp_path / "words"
    other, extraction = given_activations(tmp_path / "other", OTHERS)
    array = words / "b11.npy"
    array.write_bytes(array.read_bytes()[:-1] + b"\x01")
    with pytest.raises(StageFailed, match=r"b11\.npy .*SHA-256"):
        take(other, extraction, words)
    described = words / "b11.json"
    _, sha256 = find_import(words, LAYER)
    described.write_text(json.dumps(json.loads(described.read_text()) | {"words": 61}))
    with pytest.raises(StageFailed, match=rf"the job took words of {sha256[:12]}"):
        import_vocabulary(other, SerialRunner(), extraction.spec, LAYER, words, sha256, extraction)


def test_words_for_other_dimensions_are_refused(tmp_path: Path) -> None:
    exported(tmp_path, VocabularySpec(words=60, rounds=4))
    other, extraction = given_activations(tmp_path / "other", clustered(400, 12, 20))
    with pytest.raises(
        StageFailed, match=r"for 16 dimensions, the descriptors of layer b11 have 12"
    ):
        take(other, extraction, tmp_path / "words")


def test_a_layer_without_words_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    exported(tmp_path, VocabularySpec(words=60, rounds=4))
    with pytest.raises(
        InputError, match=r"layer b5 takes its words from .*b5\.json.* has b11\.json"
    ):
        find_import(tmp_path / "words", "b5")


def test_words_without_descriptors_to_try_are_the_same_for_any_pictures(tmp_path: Path) -> None:
    exported(tmp_path, VocabularySpec(words=60, assigner="cells", rounds=4))
    _, sha256 = find_import(tmp_path / "words", LAYER)
    identities = set()
    for name, rows in (("a", ROWS), ("b", OTHERS)):
        other, extraction = given_activations(tmp_path / name, rows)
        alone = import_vocabulary(
            other, SerialRunner(), extraction.spec, LAYER, tmp_path / "words", sha256
        )
        identities |= {alone.identity(), take(other, extraction, tmp_path / "words").identity()}
    assert len(identities) == 1


def test_words_whose_cells_are_to_be_tried_need_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(tmp_path, VocabularySpec(words=60, assigner="exact", rounds=4))
    described, sha256 = find_import(tmp_path / "words", LAYER)
    assert says_probes(described)
    monkeypatch.setattr(import_words, "EXACT_UP_TO", 59)
    assert not says_probes(described)
    other, extraction = given_activations(tmp_path / "other", OTHERS)
    with pytest.raises(StageFailed, match=r'run once with activations\.keep = "all"'):
        import_vocabulary(other, SerialRunner(), extraction.spec, LAYER, tmp_path / "words", sha256)
    tried = take(other, extraction, tmp_path / "words")
    assert tried.probes > 0
    gone = replace(extraction, encoded=extraction.records)
    with pytest.raises(InputError, match="activations were not kept: the descriptors of layer b11"):
        take(other, replace(gone, inputs="1" * 64), tmp_path / "words")
    with pytest.raises(InputError, match="activations were not kept: the descriptors of layer b11"):
        train_vocabulary(other, SerialRunner(), gone, LAYER, VocabularySpec(words=60))
