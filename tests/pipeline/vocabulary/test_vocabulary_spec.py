"""What a vocabulary's spec and record accept."""

import pytest
from pydantic import ValidationError

from lamella.schemas.files import FileRef
from lamella.schemas.vocabulary import ProjectionSpec, RoundReport, Vocabulary, VocabularySpec

KNOWN: dict[str, object] = {
    "layer": "conv5",
    "words": 8,
    "words_requested": 9,
    "dimensions": 4,
    "spec": "a",
    "extraction": "b",
    "rounds": (),
}


def file(path: str, digit: str = "0", rows: int = 8) -> FileRef:
    """Return a reference to a file."""
    return FileRef(path=path, size_bytes=128, sha256=digit * 64, rows=rows)


def vocabulary(**change: object) -> Vocabulary:
    """Return a vocabulary of 8 words."""
    return Vocabulary.model_validate(KNOWN | change)


def test_a_spec_reads_back_and_has_a_digest() -> None:
    spec = VocabularySpec(words=1_000, seed=3, batch=0.25, projection=ProjectionSpec(dimensions=9))
    assert VocabularySpec.from_json(spec.to_json()) == spec
    for change in ({"seed": 4}, {"batch": 0.5}, {"full_pass": False}, {"assigner": "cells"}):
        assert spec.digest() != spec.model_copy(update=change).digest()


@pytest.mark.parametrize(
    "change",
    [
        {"words": 0},
        {"words": (1 << 24) + 1},
        {"rounds": 2},
        {"seed": -1},
        {"seed": 1 << 63},
        {"tolerance": 1.0},
        {"tolerance": float("nan")},
        {"descriptors_per_image": 0},
        {"descriptors": 0},
        {"assigner": "hnsw"},
        {"batch": 5},
        {"batch": 0.0},
        {"batch": float("nan")},
        {"projection": {"dimensions": 0}},
        {"clusters": 5},
    ],
)
def test_a_spec_refuses_what_cannot_be(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        VocabularySpec.model_validate(change)


@pytest.mark.parametrize(
    "change",
    [{"share": 0.0}, {"share": 1.1}, {"recall": 1.1}, {"held_error": float("inf")}, {"split": -1}],
)
def test_a_report_refuses_what_cannot_be(change: dict[str, object]) -> None:
    known = {"round": 0, "share": 0.5, "objective": 1, "changed": 1, "empty_words": 0}
    known |= {"imbalance": 1}
    assert RoundReport.model_validate(known).held_error is None
    with pytest.raises(ValidationError):
        RoundReport.model_validate(known | change)


def test_a_vocabulary_agrees_with_its_file() -> None:
    made = vocabulary(centroids=file("centroids"))
    assert Vocabulary.from_json(made.to_json()) == made
    with pytest.raises(ValidationError, match="8 rows for 7 words"):
        vocabulary(words=7, centroids=file("centroids"))
    with pytest.raises(ValidationError, match="10 words for 9 requested"):
        vocabulary(words=10)


def test_cells_and_probes_go_together() -> None:
    assert vocabulary(cells=file("cells", rows=3), probes=5).probes == 5
    with pytest.raises(ValidationError, match="go together; got 0 probes"):
        vocabulary(cells=file("cells", rows=3))
    with pytest.raises(ValidationError, match="go together; got 5 probes"):
        vocabulary(probes=5)


def test_a_vocabulary_names_all_its_files() -> None:
    made = vocabulary(
        centroids=file("centroids"),
        counts=file("counts"),
        cells=file("cells"),
        probes=2,
        projection=file("projection"),
        held=file("held"),
        sample=(file("sample-0"), file("sample-1")),
    )
    assert sorted(each.path for each in made.files()) == [
        "cells", "centroids", "counts", "held", "projection", "sample-0", "sample-1",
    ]  # fmt: skip
    assert vocabulary().files() == ()


def test_another_attempt_makes_the_same_vocabulary() -> None:
    def made(path: str, digit: str = "0") -> Vocabulary:
        return vocabulary(centroids=file(path, digit), sample=(file(f"{path}-sample"),))

    assert made("one").identity() == made("two").identity()
    assert made("one").identity() != made("one", "1").identity()
    # What it was trained on may be forgotten, and it stays what it is.
    assert made("one").identity() == vocabulary(centroids=file("one")).identity()
