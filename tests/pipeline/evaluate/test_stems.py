"""Stems are those of pathlib, but quick; a folder of the corpus is taken by whole parts."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.pipeline.evaluate.stems import inside, stem_of

PART = st.text("ab.-", min_size=1, max_size=6).filter(lambda part: part.strip("."))


@given(st.lists(PART, min_size=1, max_size=3))
def test_a_stem_is_that_of_pathlib(parts: list[str]) -> None:
    name = "/".join(parts)
    assert stem_of(name) == PurePosixPath(name).stem


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a/b/all_souls_000013.jpg", "all_souls_000013"),
        ("x.tar.gz", "x.tar"),
        (".hidden", ".hidden"),
        ("a.b/c", "c"),
        ("ends.", "ends."),
    ],
)
def test_stems_by_hand(name: str, stem: str) -> None:
    assert stem_of(name) == stem


def test_all_names_are_inside_no_folder() -> None:
    assert inside(["a/1", "2"], None) == ["a/1", "2"]
    assert inside(["a/1", "a/b/2", "ab/3"], "a/b/") == ["a/b/2"]
