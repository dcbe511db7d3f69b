"""How far words from elsewhere lie from the pictures of an index, and when that is too far."""

import json

import pytest

from lamella.pipeline.index.words_fit import LARGEST_RATIO, WordsFit, fits_of
from lamella.schemas.files import DoneRecord
from lamella.schemas.vocabulary import Vocabulary, VocabularyHealth


def health(held_rows: int = 10, held_error: float = 0.5) -> VocabularyHealth:
    return VocabularyHealth(
        held_rows=held_rows,
        held_error=held_error,
        recall=1.0,
        entropy=1.0,
        evenness=1.0,
        dead=0,
        largest_share=0.5,
        imbalance=1.0,
    )


def vocabulary(health: VocabularyHealth | None, *, imported: bool = True) -> Vocabulary:
    return Vocabulary(
        layer="low",
        words=2,
        words_requested=2,
        dimensions=4,
        spec="s",
        extraction="",
        imported=imported,
        rounds=(),
        health=health,
    )


def record(**counts: int) -> DoneRecord:
    named = {name.replace("_", "."): count for name, count in counts.items()}
    return DoneRecord(stage="encode", key="00000", inputs="i", counts=named, commit_id="c")


ONE, TWO = record(error_low=600_000, measured_low=1), record(error_low=900_000, measured_low=3)


def test_the_error_is_the_mean_over_all_rows_of_all_shards() -> None:
    fit = fits_of({"low": vocabulary(health())}, [ONE, TWO])["low"]
    assert (fit.layer, fit.rows, fit.own_error) == ("low", 4, 0.5)
    assert fit.error == pytest.approx(0.375)  # (.6 + .9) / 4
    assert fit.ratio == pytest.approx(0.75)
    assert fit.well
    assert "fit these pictures: the mean squared error here is 0.3750 on 4 descriptors" in fit.text


def test_the_warning_begins_at_the_threshold() -> None:
    below, at = (WordsFit("low", 10, LARGEST_RATIO + more, 1.0) for more in (-1e-6, 0.0))
    assert (below.far, below.well, at.far, at.well) == (False, True, True, False)
    assert "do not fit" in at.text
    assert "1.4500 on 10 descriptors, on the pictures" in at.text
    assert "it was 1.0000, a ratio of 1.45 (too high from 1.45). Train words" in at.text


@pytest.mark.parametrize("none", [None, health(0, 0.0), health(5, 0.0)])
def test_without_an_error_to_compare_with_there_is_no_ratio(none: VocabularyHealth | None) -> None:
    fit = fits_of({"low": vocabulary(none)}, [ONE])["low"]
    assert fit.error == pytest.approx(0.6)
    assert (fit.own_error, fit.ratio) == (None, None)
    assert not fit.far
    assert not fit.well
    assert "nothing to compare with: the mean squared error here is 0.6000 on 1" in fit.text
    assert json.loads(json.dumps(fit.plain()))["ratio"] is None


def test_words_that_were_trained_here_are_not_judged() -> None:
    assert fits_of({"low": vocabulary(health(), imported=False)}, [ONE]) == {}


def test_records_of_earlier_versions_are_left_out() -> None:
    old = record(words_low=5, empty_low=0)
    words = {"low": vocabulary(health())}
    assert fits_of(words, [old]) == {}
    assert fits_of(words, [old, ONE]) == fits_of(words, [ONE])
    assert fits_of(words, []) == {}


def test_a_record_is_the_same_with_and_without_the_error() -> None:
    old = record(words_low=5, empty_low=0)
    new = record(words_low=5, empty_low=0, error_low=1, measured_low=5)
    assert old.content() == new.content()
