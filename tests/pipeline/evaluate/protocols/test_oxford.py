"""Oxford5k and Paris6k: from folders of text files, and what of them is not there."""

import json
from pathlib import Path

import numpy as np
import pytest

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.protocols.oxford import OXFORD, PARIS, oxford, paris
from lamella.pipeline.evaluate.truth import (
    GroundTruth,
    GroundTruthQuery,
    Release,
    score_queries,
)

SHARED = Path(__file__).parents[5] / "shared" / "data"


def write_oxford(folder: Path, **files: str) -> Path:
    lists = {
        "query": "oxc1_a_1 1 2 30.5 40\n",
        "good": "a_1\n\na_2\n",
        "ok": "a_3\n",
        "junk": "a_4\r\n",
    }
    for kind, text in (lists | files).items():
        (folder / f"a_1_{kind}.txt").write_text(text)
    return folder


def test_oxford_reads_corners_and_lists(tmp_path: Path) -> None:
    names = [f"images/a_{place}.jpg" for place in (1, 2, 4, 5)]
    query = oxford(names, write_oxford(tmp_path)).queries[0]
    assert query == GroundTruthQuery(
        name="images/a_1.jpg",
        positives=frozenset({"images/a_1.jpg", "images/a_2.jpg"}),
        junk=frozenset({"images/a_4.jpg"}),
        box=(1, 2, 30.5, 40),
        missing=frozenset({"a_3"}),
    )
    assert oxford(names, tmp_path, "full").queries[0].box is None


def test_oxford_counts_missing_answers_as_missed(tmp_path: Path) -> None:
    names = ["a_1.jpg", "a_2.jpg", "a_4.jpg", "a_5.jpg"]
    truth = oxford(names, write_oxford(tmp_path))
    # junk a_4 leaves; a_1 at 0, a_5 at 1, a_2 at 2; a_3 never: (1 + (1 / 2 + 2 / 3) / 2) / 3
    got = score_queries(truth, names, np.array([[0.9, 0.1, 0.8, 0.5]]))
    assert got[0] == pytest.approx(0.5277777777777778)


def test_oxford_refuses_a_corpus_without_the_query(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a_1_query\.txt asks for a_1, not among 1 pictures"):
        oxford(["a_2.jpg"], write_oxford(tmp_path))


@pytest.mark.parametrize(
    "line", ["", "a_1 1 2 3", "a_1 1 2 x 4", "a_1 5 2 3 4", "a_1 0 0 nan 4", "a_1 0 0 inf 4"]
)
def test_oxford_refuses_a_malformed_query_line(tmp_path: Path, line: str) -> None:
    with pytest.raises(InputError, match=r"one line|two corners"):
        oxford(["a_1.jpg"], write_oxford(tmp_path, query=line))


def test_oxford_refuses_a_folder_without_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds 0"):
        oxford(["a_1.jpg"], tmp_path)


def test_oxford_refuses_a_missing_list(tmp_path: Path) -> None:
    (write_oxford(tmp_path) / "a_1_junk.txt").unlink()
    with pytest.raises(InputError, match=r"a_1_junk\.txt"):
        oxford(["a_1.jpg"], tmp_path)


NAMES = ["o/a_1.jpg", "o/a_2.jpg", "o/a_3.jpg", "o/a_4.jpg"]


def test_a_missing_query_file_is_named_and_its_archive(tmp_path: Path) -> None:
    write_oxford(tmp_path)
    (tmp_path / "a_2_query.txt").write_text("a_2 0 0 5 5")
    (tmp_path / "a_1_query.txt").unlink()
    with pytest.raises(InputError, match=r"gt_files_170407\.tgz; .* lacks a_1_query\.txt: unpack"):
        oxford(NAMES, tmp_path)


def test_the_files_are_found_below_the_given_folder(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "gt_files_170407"
    folder.mkdir(parents=True)
    write_oxford(folder)
    assert oxford(NAMES, tmp_path) == oxford(NAMES, folder)
    kinds = ("query", "good", "ok", "junk")
    assert oxford(NAMES, tmp_path).files == tuple(folder / f"a_1_{kind}.txt" for kind in kinds)


def test_the_files_of_the_other_data_set_are_refused_by_name(tmp_path: Path) -> None:
    for kind in ("query", "good", "ok", "junk"):
        (tmp_path / f"eiffel_1_{kind}.txt").write_text("")
    with pytest.raises(InputError, match=r"holds those of paris_120310\.tgz: .* --protocol paris"):
        oxford(NAMES, tmp_path)
    for kind in ("query", "good", "ok", "junk"):
        (tmp_path / f"eiffel_1_{kind}.txt").rename(tmp_path / f"all_souls_1_{kind}.txt")
    with pytest.raises(InputError, match="--protocol oxford"):
        paris(NAMES, tmp_path)


def test_each_data_set_finds_its_own_files_where_both_lie(tmp_path: Path) -> None:
    for folder, landmark in (("gt_files_170407", "all_souls"), ("paris_120310", "defense")):
        (tmp_path / folder).mkdir()
        write_oxford(tmp_path / folder)
        for file in sorted((tmp_path / folder).iterdir()):
            file.rename(file.with_name(f"{landmark}_1_{file.name.removeprefix('a_1_')}"))
    assert oxford(NAMES, tmp_path).files[0].parent.name == "gt_files_170407"
    assert paris(NAMES, tmp_path).files[0].parent.name == "paris_120310"


def test_a_query_without_right_answers_is_left_out_and_said(tmp_path: Path) -> None:
    write_oxford(tmp_path)
    for kind, text in {"query": "a_2 0 0 5 5", "good": "", "ok": "", "junk": "a_1"}.items():
        (tmp_path / f"a_2_{kind}.txt").write_text(text)
    truth = oxford(NAMES, tmp_path)
    assert [query.name for query in truth.queries] == ["o/a_1.jpg"]
    assert truth.left_out == (("o/a_2.jpg", "no right answer"),)
    write_oxford(tmp_path, good="", ok="")
    with pytest.raises(InputError, match=r"gives 0 \(2 left out; o/a_1\.jpg: no right answer\)"):
        oxford(NAMES, tmp_path)


def test_missing_queries_are_counted(tmp_path: Path) -> None:
    write_oxford(tmp_path)
    for kind, text in {"query": "a_9 0 0 5 5", "good": "a_9", "ok": "", "junk": ""}.items():
        (tmp_path / f"a_2_{kind}.txt").write_text(text)
    with pytest.raises(InputError, match=r"asks for a_9, .* \(1 of 2 queries are not\)"):
        oxford(NAMES, tmp_path)
    with pytest.raises(InputError, match=r"asks for a_1, .* \(2 of 2 queries are not\)"):
        oxford(["o/a_3.jpg"], tmp_path)


def test_paris_reads_folders_and_flat_names_alike(tmp_path: Path) -> None:
    lists = {"query": "paris_eiffel_000001 1 2 3 4", "good": "", "ok": "paris_eiffel_000001"}
    lists["junk"] = "paris_general_000002"
    for kind, text in lists.items():
        (tmp_path / f"eiffel_1_{kind}.txt").write_text(text)
    there = ["paris/eiffel/paris_eiffel_000001.jpg", "paris/general/paris_general_000002.jpg"]
    damaged = "paris/louvre/paris_louvre_000136.jpg"
    truth = paris([*there, damaged, "distractors/cat.jpg"], tmp_path)
    assert truth.protocol == "paris roi"
    assert truth.queries[0].name == there[0]
    assert truth.queries[0].junk == {there[1]}
    # one of the 20 damaged files, mended by someone: a distractor, not of the 6,392
    assert truth.release == Release(held=2, pictures=6392, queries=55, damaged=20)
    flat = [name.rpartition("/")[2] for name in there]
    assert paris(flat, tmp_path).queries[0].name == flat[0]


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the data sets are not at {SHARED}")
    return SHARED


def corpus(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder.parent)) for file in folder.glob("*/*.jpg"))


def test_the_real_oxford_files_on_constructed_rankings(shared: Path) -> None:
    names = corpus(shared / "oxford5k")
    truth = oxford(names, shared / "oxford5k" / "gt_files_170407")
    assert len(truth.queries) == 30
    assert not truth.missing
    assert all(query.name in query.positives for query in truth.queries)
    perfect = np.array([[name in query.positives for name in names] for query in truth.queries])
    junk = np.array([[name in query.junk for name in names] for query in truth.queries])
    assert score_queries(truth, names, perfect + 2.0 * junk).tolist() == [1.0] * 30
    # one wrong picture first: positive i at rank i + 1, so from i / (i + 1) to (i + 1) / (i + 2)
    for row, query in zip(perfect, truth.queries, strict=True):
        wrong = next(
            place for place, name in enumerate(names) if name not in query.positives | query.junk
        )
        scores = row.astype(np.float64)
        scores[wrong] = 2.0
        count = len(query.positives)
        expected = sum((i / (i + 1) + (i + 1) / (i + 2)) / 2 for i in range(count)) / count
        one = GroundTruth("one", "mAP", (query,))
        assert score_queries(one, names, scores[None])[0] == pytest.approx(expected)


def official_names(shared: Path, folder: str) -> list[str]:
    """Return the names of all pictures of a data set, from the list of its pickle."""
    content = (shared / "ground_truth" / folder / f"gnd_{folder}.json").read_text()
    return [f"{stem}.jpg" for stem in json.loads(content)["imlist"]]


def test_the_official_files_have_55_queries_over_all_pictures(shared: Path) -> None:
    for folder, protocol, count in (("oxford5k", oxford, 5063), ("paris6k", paris, 6392)):
        names = official_names(shared, folder)
        assert len(names) == count
        truth = protocol(names, shared / "ground_truth")
        assert len(truth.queries) == 55
        assert len(truth.files) == 220
        assert not truth.missing
        assert all(query.name in query.positives for query in truth.queries)
        damaged = 20 if folder == "paris6k" else 0
        assert truth.release == Release(count, count, 55, damaged)


def test_the_damaged_files_of_paris_belong_to_no_query(shared: Path) -> None:
    assert len(PARIS.damaged) == 20
    folder = shared / "ground_truth" / "paris6k" / "paris_120310"
    named = {
        line.split()[0]
        for file in folder.glob("*.txt")
        for line in file.read_text().splitlines()
        if line.strip()
    }
    assert not named & PARIS.damaged
    stems = {Path(name).stem for name in official_names(shared, "paris6k")}
    assert not stems & PARIS.damaged
    assert len(stems | PARIS.damaged) == 6412  # files of the release
    assert all(PARIS.pictures.fullmatch(stem) for stem in PARIS.damaged)
    assert not OXFORD.damaged
