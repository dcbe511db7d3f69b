"""Two pictures of one id are found and named."""

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.pipeline.corpus import image_table
from lamella.pipeline.corpus.identity import image_id_of
from lamella.pipeline.errors import InputError
from lamella.pipeline.index.promotions import current_snapshot
from lamella.pipeline.index.same_ids import first_equal
from lamella.pipeline.store.local import LocalStore
from tests.tiny import tiny_index, tiny_pictures


@given(st.lists(st.lists(st.integers(0, 2**63 - 1), unique=True, max_size=5), max_size=4))
def test_an_id_of_two_segments_is_found(parts: list[list[int]]) -> None:
    every = [each for part in parts for each in part]
    twice = {each for each in every if every.count(each) > 1}
    found = first_equal([np.sort(np.array(part, np.int64)) for part in parts])
    assert (found in twice) if twice else (found is None)


@pytest.mark.parametrize("same", [0, 2**62, 2**63 - 1])
def test_the_ends_of_ranges_belong_to_one(same: int) -> None:
    assert first_equal([np.array([same]), np.array([same])]) == same
    assert first_equal([np.array([same])]) is None


def test_a_corpus_with_two_pictures_of_one_id_is_refused_and_they_are_named(
    tmp_path: Path,
) -> None:
    pictures = tiny_pictures(tmp_path / "pictures", broken=0)

    def alike(container: str, name: str, *rest: object) -> int:
        return 7 if name in ("01.png", "05.png") else image_id_of(container, name, *rest)  # type: ignore[arg-type]

    with (
        mock.patch.object(image_table, "image_id_of", alike),
        pytest.raises(InputError, match=r"'01\.png' and '05\.png' have the same id 7, .* rename"),
    ):
        tiny_index(tmp_path / "store", pictures)
    assert current_snapshot(LocalStore(tmp_path / "store")) is None
