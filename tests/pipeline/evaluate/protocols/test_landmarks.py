"""Google Landmarks v2: queries, answers and who scores them, from its CSV files."""

from pathlib import Path

import numpy as np
import pytest

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.protocols.landmarks import landmarks
from lamella.pipeline.evaluate.truth import GroundTruthQuery, Release, score_queries

SOLUTION = """id,images,Usage
00a1,11b1 11b2 11b9,Private
00a2,11b2,Public
00a3,None,Ignored
00a4,,Private
"""
NAMES = [
    *("test/0/0/a/00a1.jpg", "test/0/0/a/00a2.jpg", "test/0/0/a/00a3.jpg"),
    *("index/1/1/b/11b1.jpg", "index/1/1/b/11b2.jpg", "index/1/1/b/11b3.jpg"),
]
TEST = frozenset(NAMES[:3])


@pytest.fixture
def solution(tmp_path: Path) -> Path:
    file = tmp_path / "retrieval_solution_v2.1.csv"
    file.write_text(SOLUTION)
    return file


def test_public_and_private_are_two_parts_without_the_test_set(solution: Path) -> None:
    public, private = landmarks(NAMES, solution)
    assert (public.protocol, private.protocol) == ("gldv2 public", "gldv2 private")
    assert public.metric_name == "mAP@100"
    assert public.queries == (GroundTruthQuery(NAMES[1], frozenset({NAMES[4]}), TEST),)
    assert private.queries == (
        GroundTruthQuery(NAMES[0], frozenset(NAMES[3:5]), TEST, missing=frozenset({"11b9"})),
    )
    assert private.left_out == (("00a4", "no right answer"),)
    assert public.release is None


def test_scores_are_those_of_a_database_without_the_test_set(solution: Path) -> None:
    public, private = landmarks(NAMES, solution)
    scores = np.array([[1.0, 0.9, 0.8, 0.1, 0.2, 0.3]])
    # 11b3, 11b2, 11b1 are left; 11b9 is missed: (1 / 2 + 2 / 3) / 3, and 1 / 2 for the public one
    assert score_queries(private, NAMES, scores)[0] == pytest.approx((1 / 2 + 2 / 3) / 3)
    assert score_queries(public, NAMES, scores)[0] == 0.5


def test_the_lists_beside_the_solution_say_what_the_data_set_has(solution: Path) -> None:
    index = solution.with_name("index.csv")
    index.write_text("id\n11b1\n11b2\n11b3\n11b9\n")
    test = solution.with_name("test.csv")
    test.write_text("id\n00a1\n00a2\n00a3\n00a4\n00a5\n")
    names = [*NAMES, "test/0/0/a/00a5.jpg"]
    public, private = landmarks(names, solution.parent)
    assert private.release == Release(held=3, pictures=4, queries=1)
    assert private.files == (solution, index, test)
    assert public.queries[0].junk == {*TEST, "test/0/0/a/00a5.jpg"}


def test_of_two_versions_the_newer_is_read(solution: Path) -> None:
    solution.with_name("retrieval_solution_v2.0.csv").write_text("id,images,Usage\nx,y,Public\n")
    assert landmarks(NAMES, solution.parent)[0].files == (solution,)


def test_a_query_that_the_corpus_lacks_is_refused_and_counted(solution: Path) -> None:
    with pytest.raises(InputError, match=r"asks for 00a1, .* \(2 of 2 queries are not\): index"):
        landmarks(NAMES[2:], solution)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "columns id, images, Usage"),
        ("id,images\n", "columns id, images, Usage"),
        ("id,images,Usage\n", "has 0 rows"),
        ("id,images,Usage\nx,y,Secret\n", "has line 2"),
        ("id,images,Usage\n,y,Public\n", "has line 2"),
        ("id,images,Usage\nx,y\n", "has line 2"),
        ("id,images,Usage\nx,y,z,Public\n", "has line 2"),
        ("id,images,Usage\nx,y,Public\nx,z,Public\n", "x again in line 3"),
    ],
)
def test_another_file_is_refused_by_place(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "retrieval_solution_v2.1.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=said):
        landmarks(NAMES, file)


def test_a_list_of_another_form_is_refused(solution: Path) -> None:
    solution.with_name("index.csv").write_text("url,id\n")
    with pytest.raises(InputError, match=r"index\.csv has ids in its first column"):
        landmarks(NAMES, solution)


def test_a_row_longer_than_python_s_csv_allows_is_read(tmp_path: Path) -> None:
    answers = " ".join(f"{number:016x}" for number in range(20_000))
    file = tmp_path / "retrieval_solution_v2.1.csv"
    file.write_text(f"id,images,Usage\n00a1,{answers},Private\n")
    (private,) = landmarks(NAMES, file)
    assert private.queries[0].relevant == 20_000
