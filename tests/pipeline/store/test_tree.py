"""Every path that the tree makes, it reads back, as what it was made for."""

import pytest

from lamella.pipeline.store import tree
from lamella.pipeline.store.tree import FILES, STEPS, FileKind, StepKind
from lamella.schemas.files import DoneRecord

PARTS: dict[str, str | int] = {
    "keyed": "a.name-0123456789ab",
    "layer": "b11",
    "run": "mine",
    "number": 12,
    "round": 3,
    "token": "0123456789ab",
    "key": "0123456789abcdef",
    "tag": "before-cleanup",
    "by": "name",
    "job": "20261130T190400Z-0123abcd",
    "digest": "0123456789abcdef" * 4,
}


def name_of(kind: StepKind) -> str:
    return kind.name


@pytest.mark.parametrize("kind", FILES, ids=lambda kind: kind.form.text)
def test_a_file_that_stands_by_itself_is_read_back(kind: FileKind) -> None:
    found = tree.read(kind.at(**PARTS))
    assert found is not None
    assert found.row is kind
    assert (found.mend, found.record) == (kind.mend, kind.record)
    assert found.folder == kind.folder(**PARTS)


@pytest.mark.parametrize("step", STEPS, ids=name_of)
def test_files_of_a_step_are_read_back(step: StepKind) -> None:
    folder = step.folder(**PARTS)
    done = tree.read(tree.done(folder, "00007"))
    assert done is not None
    assert (done.kind, done.record, done.folder, done.key) == (
        *("record", DoneRecord),
        *(folder, "00007"),
    )
    data = tree.data_file(folder, "00007", "0123456789ab", "held.arrow")
    placed = tree.data_file(
        tree.layer_folder(folder, "a layer"), "00007", "0123456789ab", "parquet"
    )
    for path, place, suffix in ((data, "", "held.arrow"), (placed, "a-layer", "parquet")):
        found = tree.read(path)
        assert found is not None
        assert (found.kind, found.place, found.suffix) == ("data", place, suffix)
        assert (found.folder, found.key) == (folder, "00007")
        assert step in found.steps
    verdict = tree.read(tree.verdict(folder, "00007", "0" * 32))
    assert verdict is not None
    assert (verdict.kind, verdict.folder, verdict.key) == ("verdict", folder, "00007")


@pytest.mark.parametrize("step", STEPS, ids=name_of)
def test_steps_have_names_of_their_own_and_share_what_belongs_to_a_folder(step: StepKind) -> None:
    assert [each.name for each in STEPS].count(step.name) == 1
    beside = [each for each in STEPS if each.form == step.form]
    assert {each.summary for each in beside} == {step.summary}
    assert {each.until for each in beside} == {step.until}
    assert {each.mend for each in beside} == {step.mend}


def test_what_stands_over_a_step_is_named_from_its_files() -> None:
    path = tree.done(tree.SUM.folder(**PARTS), "sum-00000")
    found = tree.read(path)
    assert found is not None
    assert found.summary() == tree.VOCABULARY.at(**PARTS)
    assert found.until() == tree.done(tree.ROUND.folder(**PARTS), "00003")


@pytest.mark.parametrize(
    "path",
    [
        *("notes.txt", "jobs/notes.txt", "jobs/../jobs/a-0123456789ab.json"),
        *("snapshots/1.json", "runs/a/b/c.json", "corpora/a-0123456789ab/done/../x.json"),
        *("bags/a-0123456789ab/b11/00000.arrow", "bags/b11/00000.0123456789ab.arrow"),
        *("corpora/a-0123456789ab/images/deep/00000.0123456789ab.parquet", "", "jobs", "/"),
    ],
)
def test_other_paths_are_not_ours(path: str) -> None:
    assert tree.read(path) is None
