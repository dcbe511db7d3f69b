"""Revisited Oxford and Paris: what is right at each difficulty, on a small truth of our own."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.protocols.revisited import read_revisited, revisited
from lamella.pipeline.evaluate.truth import Release, score_queries
from lamella.pipeline.jobs.evaluating import ground_truth

SHARED = Path(__file__).parents[5] / "shared" / "data"

NAMES = ["jpg/q0.jpg", *(f"jpg/i{number}.jpg" for number in range(6)), "jpg/q1.jpg", "far/d.jpg"]
SMALL = {
    "imlist": [f"i{number}" for number in range(6)],
    "qimlist": ["q0", "q1"],
    "gnd": [
        {"bbx": [1, 2, 30.5, 40], "easy": [0], "hard": [1, 2], "junk": [3]},
        {"bbx": [0, 0, 9, 9], "easy": [4, 5], "hard": [], "junk": []},
    ],
}


@pytest.fixture
def truth_file(tmp_path: Path) -> Path:
    file = tmp_path / "gnd_small.pkl"
    file.write_bytes(pickle.dumps(SMALL))
    return file


def jpg(*stems: str) -> frozenset[str]:
    return frozenset(f"jpg/{stem}.jpg" for stem in stems)


@pytest.mark.parametrize(
    ("difficulty", "right", "junk"),
    [
        ("easy", ("i0",), ("i1", "i2", "i3")),
        ("medium", ("i0", "i1", "i2"), ("i3",)),
        ("hard", ("i1", "i2"), ("i0", "i3")),
    ],
)
def test_what_is_right_and_what_leaves_depends_on_the_difficulty(
    truth_file: Path, difficulty: Any, right: tuple[str, ...], junk: tuple[str, ...]
) -> None:
    query = revisited("roxford", NAMES, truth_file, difficulty).queries[0]
    assert query.name == "jpg/q0.jpg"
    assert query.positives == jpg(*right)
    assert query.junk == jpg(*junk, "q0", "q1")  # no query picture is in the database
    assert query.box == (1, 2, 30.5, 40)


def test_a_query_without_right_answers_is_left_out_of_the_mean(truth_file: Path) -> None:
    assert len(revisited("roxford", NAMES, truth_file, "medium").queries) == 2
    assert len(revisited("roxford", NAMES, truth_file, "hard").queries) == 1


def test_the_score_is_that_of_a_database_without_queries_and_junk(truth_file: Path) -> None:
    truth = revisited("rparis", NAMES, truth_file, "medium")
    assert truth.protocol == "rparis medium roi"
    #                q0   i0   i1   i2   i3    i4   i5   q1    d
    scores = [[1.0, 0.9, 0.3, 0.2, 0.95, 0.5, 0.1, 0.99, 0.0]]
    # q0, q1 and i3 leave: i0 first, i4, i1, i2: (1 + (1 / 2 + 2 / 3) / 2 + (2 / 3 + 3 / 4) / 2) / 3
    both = np.array(scores * 2)
    got = score_queries(truth, NAMES, both)[0]
    assert got == pytest.approx((1 + (1 / 2 + 2 / 3) / 2 + (2 / 3 + 3 / 4) / 2) / 3)


def test_a_right_answer_that_the_corpus_lacks_is_missed(truth_file: Path) -> None:
    names = [name for name in NAMES if name != "jpg/i1.jpg"]
    assert revisited("roxford", names, truth_file).missing == {"i1"}


def test_a_query_that_the_corpus_lacks_is_a_wrong_input(truth_file: Path) -> None:
    with pytest.raises(InputError, match=r"asks for q1, not among 7 pictures \(1 of 2 .*index all"):
        revisited("roxford", NAMES[:7], truth_file)


def test_the_protocol_needs_its_file_and_takes_json_too(truth_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="protocol rparis needs --truth"):
        ground_truth("rparis", NAMES)
    same = tmp_path / "gnd_small.json"
    same.write_text(json.dumps(SMALL))
    found = ground_truth("roxford", NAMES, truth=same, box="full", difficulty="hard")
    assert found == revisited("roxford", NAMES, truth_file, "hard", "full")
    assert found.queries[0].box is None


FIRST: dict[str, Any] = {"bbx": [1, 2, 3, 4], "easy": [0], "hard": [], "junk": []}
CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"easy": [1]}, "has numbers from 0 to 0 in easy"),
    ({"easy": [-1]}, "has numbers from 0 to 0 in easy"),
    ({"easy": [True]}, "has numbers from 0 to 0 in easy"),
    ({"easy": [0.0]}, "has numbers from 0 to 0 in easy"),
    ({"hard": [0]}, "has an answer of gnd[0] in one list"),
    ({"bbx": [3, 2, 1, 4]}, "has corners x1 < x2"),
    ({"bbx": [1, 2, 3, float("nan")]}, "has corners x1 < x2"),
    ({"bbx": [1, 2, 3]}, "has corners x1 < x2"),
]
"""Changes of an entry that make it wrong, and what is said of each."""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1], "has a dictionary of imlist"),
        ({"imlist": ["a"], "qimlist": ["q"]}, "has a dictionary of imlist"),
        ({"imlist": "a", "qimlist": ["q"], "gnd": [FIRST]}, "has a list of names in imlist"),
        ({"imlist": ["a", "a"], "qimlist": ["q"], "gnd": [FIRST]}, "has each name once in imlist"),
        ({"imlist": ["a"], "qimlist": ["a"], "gnd": [FIRST]}, "keeps queries out of imlist"),
        ({"imlist": ["a"], "qimlist": ["q"], "gnd": []}, "has 1 entries in gnd"),
        ({"imlist": ["a"], "qimlist": ["q"], "gnd": [{"ok": []}]}, "has bbx, easy, hard and junk"),
        *(
            ({"imlist": ["a"], "qimlist": ["q"], "gnd": [FIRST | change]}, said)
            for change, said in CHANGES
        ),
    ],
)
def test_a_file_that_is_not_such_a_truth_is_refused_by_place(
    content: object, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "gnd.pkl"
    file.write_bytes(pickle.dumps(content))
    with pytest.raises(InputError) as refused:
        read_revisited(file)
    assert said in str(refused.value)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the official files are not on this machine")
@pytest.mark.parametrize(("name", "images"), [("roxford5k", 4993), ("rparis6k", 6322)])
def test_the_official_pickles_say_what_the_open_copies_say(name: str, images: int) -> None:
    file = SHARED / "ground_truth" / "roxford_rparis" / f"gnd_{name}.pkl"
    read = read_revisited(file)
    assert len(read) == 70
    assert read == read_revisited(file.with_suffix(".json"))
    content = json.loads(file.with_suffix(".json").read_text())
    assert len(content["imlist"]) == images
    names = [f"{stem}.jpg" for stem in (*content["imlist"], *content["qimlist"])]
    with_answers = [
        len(revisited("roxford", names, file, difficulty).queries)
        for difficulty in ("easy", "medium", "hard")
    ]
    assert with_answers == ([68, 70, 70] if name == "roxford5k" else [70, 70, 70])
    truth = revisited("roxford", names, file.parent / file.name, "easy")
    assert truth.release == Release(images + 70, images + 70, 70)
    assert [reason for _, reason in truth.left_out] == ["no easy answer"] * (70 - with_answers[0])
