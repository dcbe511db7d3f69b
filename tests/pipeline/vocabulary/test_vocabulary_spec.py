"""What a vocabulary's spec and record accept."""

import pytest
from pydantic import ValidationError

from schemas.files import FileRef
from schemas.vocabulary import Vocabulary, VocabularySpec


def test_a_spec_reads_back_and_has_a_digest() -> None:
    spec = VocabularySpec(words=1_000, seed=3)
    assert VocabularySpec.from_json(spec.to_json()) == spec
    assert spec.digest() != VocabularySpec(words=1_000, seed=4).digest()


@pytest.mark.parametrize(
    "change",
    [
        {"words": 0},
        {"rounds": 2},
        {"seed": -1},
        {"seed": 1 << 63},
        {"tolerance": 1.0},
        {"tolerance": float("nan")},
        {"descriptors_per_image": 0},
        {"assigner": "ivf"},
        {"batch": 5},
    ],
)
def test_a_spec_refuses_what_cannot_be(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        VocabularySpec.model_validate(change)


def test_a_vocabulary_agrees_with_its_file() -> None:
    known = {"layer": "conv5", "words_requested": 9, "dimensions": 4, "spec": "a"}
    known |= {"extraction": "b", "rounds": ()}
    file = FileRef(path="centroids", size_bytes=128, sha256="0" * 64, rows=8)
    made = Vocabulary.model_validate({**known, "words": 8, "centroids": file})
    assert Vocabulary.from_json(made.to_json()) == made
    with pytest.raises(ValidationError, match="8 rows for 7 words"):
        Vocabulary.model_validate({**known, "words": 7, "centroids": file})
    with pytest.raises(ValidationError, match="10 words for 9 requested"):
        Vocabulary.model_validate({**known, "words": 10})
