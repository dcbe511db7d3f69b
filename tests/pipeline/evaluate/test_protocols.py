"""Ground truth by the rules of each data set, from names alone or with its official files."""

from pathlib import Path

import numpy as np
import pytest

from lamella.pipeline.errors import InputError, MismatchedQueries
from lamella.pipeline.evaluate.protocols import groups, holidays, oxford, ukb
from lamella.pipeline.evaluate.truth import GroundTruth, GroundTruthQuery, score_queries

UKB = [f"full/ukbench{number:05d}.jpg" for number in range(8)]
SHARED = Path(__file__).parents[4] / "shared" / "data"


def test_ukb_groups_by_number_and_every_picture_is_a_query() -> None:
    truth = ukb([*UKB, "other/cat.jpg"])
    assert truth.metric_name == "N-S"
    assert [query.name for query in truth.queries] == UKB
    assert truth.queries[5].positives == frozenset(UKB[4:])


def test_ukb_counts_what_a_group_lacks_as_missing() -> None:
    truth = ukb(UKB[:3])
    assert truth.missing == {"ukbench00003"}
    assert truth.queries[0].relevant == 4


def test_ukb_scores_the_query_among_the_four() -> None:
    scores = np.eye(8)  # each finds itself; ties by image id bring 0, 1, 2 (or 0 to 3) next
    got = score_queries(ukb(UKB), UKB, scores)
    # 0: itself, 1, 2, 3 = 4; 3: itself, 0, 1, 2 = 4; 4: itself, 0, 1, 2 = 1
    assert got.tolist() == [4, 4, 4, 4, 1, 1, 1, 1]


def test_ukb_refuses_a_corpus_without_its_names() -> None:
    with pytest.raises(InputError, match="0 of 1 names are: use the protocol `groups`"):
        ukb(["cat.jpg"])


def test_one_picture_number_in_two_folders_is_refused() -> None:
    with pytest.raises(InputError, match="ukbench00000 is both"):
        ukb([*UKB, "copy/ukbench00000.png"])


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


def test_holidays_removes_the_query_and_groups_by_number() -> None:
    names = ["j/100000.jpg", "j/100001.jpg", "j/100100.jpg", "j/100101.jpg", "j/d7.jpg"]
    truth = holidays(names)
    assert [(query.name, set(query.positives)) for query in truth.queries] == [
        ("j/100000.jpg", {"j/100001.jpg"}),
        ("j/100100.jpg", {"j/100101.jpg"}),
    ]
    # the query's own place does not matter: it leaves, and its one positive comes first
    scores = np.array([[1.0, 0.9, 0.1, 0.1, 0.1], [0.9, 0.1, 1.0, 0.5, 0.1]])
    assert score_queries(truth, names, scores).tolist() == [1.0, 0.25]


def test_holidays_does_not_give_a_group_without_query_to_the_group_before(tmp_path: Path) -> None:
    names = ["100000.jpg", "100001.jpg", "100101.jpg", "100102.jpg"]
    with pytest.raises(InputError, match=r"group 1001 has 100101, 100102 .* but not 100100"):
        holidays(names)
    listed = tmp_path / "holidays_images.dat"
    listed.write_text("100000.jpg\n100001.jpg\n100101.jpg\n")
    with pytest.raises(InputError, match="group 1001 has 100101 in the corpus but not 100100"):
        holidays(names, listed)


def test_holidays_list_decides_who_belongs_and_who_is_missed(tmp_path: Path) -> None:
    listed = tmp_path / "holidays_images.dat"
    listed.write_text("100000.jpg\n100001.jpg\n100002.jpg\n")
    truth = holidays(["100000.jpg", "100002.jpg", "100100.jpg", "100101.jpg"], listed)
    assert [query.name for query in truth.queries] == ["100000.jpg"]
    assert truth.missing == {"100001"}


def test_a_lone_holidays_number_is_a_distractor() -> None:
    assert len(holidays(["100000.jpg", "100001.jpg", "123456.jpg"]).queries) == 1


def test_holidays_refuses_other_names() -> None:
    with pytest.raises(InputError, match="0 groups"):
        holidays(["cat.jpg"])


def test_groups_by_parent_folder_leave_the_query_out() -> None:
    truth = groups(["a/1.jpg", "a/2.jpg", "b/1.jpg"])
    assert truth.queries == (
        GroundTruthQuery("a/1.jpg", frozenset({"a/2.jpg"}), remove_self=True),
        GroundTruthQuery("a/2.jpg", frozenset({"a/1.jpg"}), remove_self=True),
    )


def test_groups_by_pattern() -> None:
    truth = groups(["s/obj1_1.JPG", "c/obj1_t1.JPG", "x.jpg"], r"(obj[0-9]+)_")
    assert [query.name for query in truth.queries] == ["s/obj1_1.JPG", "c/obj1_t1.JPG"]


def test_groups_of_four_can_be_scored_as_n_s() -> None:
    truth = groups(UKB[:4], metric="N-S")
    assert truth.queries[0].positives == frozenset(UKB[:4])
    assert not truth.queries[0].remove_self
    with pytest.raises(InputError, match="needs groups of 4; group 'full' has 3: use mAP"):
        groups(UKB[:3], metric="N-S")


@pytest.mark.parametrize(
    ("pattern", "message"), [("(", "regular expression"), ("a", "has 0"), ("(z)", "groups of 1")]
)
def test_groups_refuse_a_pattern_that_groups_nothing(pattern: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        groups(["a/1.jpg", "a/2.jpg"], pattern)


def test_truth_refuses_what_cannot_be_scored() -> None:
    with pytest.raises(InputError, match="at least 1 right answer"):
        GroundTruthQuery("a", frozenset())
    with pytest.raises(InputError, match="b is both"):
        GroundTruthQuery("a", frozenset({"b"}), frozenset({"b"}))
    with pytest.raises(InputError, match="at least 1 query"):
        GroundTruth("x", "mAP", ())


def test_scores_of_another_corpus_are_refused() -> None:
    with pytest.raises(MismatchedQueries, match=r"got \(8, 7\), not \(8, 8\)"):
        score_queries(ukb(UKB), UKB, np.zeros((8, 7)))
    with pytest.raises(InputError, match="not among 7"):
        score_queries(ukb(UKB), [f"{name}x" for name in UKB[:7]], np.zeros((8, 7)))


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


def test_the_full_official_oxford_and_paris_folders(shared: Path) -> None:
    for folder, files in (("oxford5k", "gt_files_170407"), ("paris6k", "paris_120310")):
        gt_folder = shared / "ground_truth" / folder / files
        stems = {
            line.split()[0].removeprefix("oxc1_")
            for file in gt_folder.glob("*.txt")
            for line in file.read_text().splitlines()
            if line.strip()
        }
        truth = oxford(sorted(f"{stem}.jpg" for stem in stems), gt_folder)
        assert len(truth.queries) == 55
        assert all(query.name in query.positives for query in truth.queries)


def test_the_official_holidays_list_has_500_groups(shared: Path) -> None:
    listed = shared / "ground_truth" / "holidays" / "holidays_images.dat"
    truth = holidays(listed.read_text().split(), listed)
    assert len(truth.queries) == 500
    assert sum(query.relevant for query in truth.queries) == 991


def test_the_real_holidays_and_ukb_subsets(shared: Path) -> None:
    names = corpus(shared / "holidays")
    assert len(holidays(names, shared / "holidays" / "holidays_images.dat").queries) == 13
    assert len(holidays(names).queries) == 13
    assert len(ukb([*corpus(shared / "ukbench"), *names]).queries) == 300
