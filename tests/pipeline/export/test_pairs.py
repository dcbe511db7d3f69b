"""All pairs above a score: none lost, each once, against the sum over all pairs in float64."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

import lamella
from lamella.pipeline.errors import InputError
from lamella.pipeline.export import pairs as pairs_module
from lamella.pipeline.export.pairs import check_threshold, find_pairs, usual_threshold
from lamella.pipeline.index.publish import read_weights
from lamella.pipeline.store.local import LocalStore
from lamella.schemas.query import FusionSpec, LayerMap
from lamella.schemas.snapshot import IndexSnapshot
from tests.pipeline.export.copied import COPIES, Copied, asking

HEAD = FusionSpec(layers=(LayerMap(layer="head"),))


def plainly(
    store: Path, snapshot: IndexSnapshot, fusion: FusionSpec
) -> dict[tuple[int, int], float]:
    """Return F of all pairs, by ids, the lower first: cosines, maps and sum as in the paper."""
    frequencies, images = snapshot.document_frequencies, snapshot.indexed
    weights = read_weights(LocalStore(store), frequencies, images, snapshot.weighting)
    total: dict[tuple[int, int], float] = {}
    with lamella.open(store) as index:
        for layer in fusion.layers:
            if layer.layer == "head":
                table = index.vectors("head")
                rows = np.array(table["vector"].to_pylist(), np.float64)
            else:
                table = index.bags(layer.layer)
                rows = np.zeros((table.num_rows, len(weights[layer.layer])))
                for row, bag in zip(rows, table.to_pylist(), strict=True):
                    row[bag["words"]] = bag["counts"] * weights[layer.layer][bag["words"]]
            ids = table["image_id"].to_pylist()
            lengths = np.linalg.norm(rows, axis=1)
            cosines = rows @ rows.T / np.where(lengths > 0, lengths, 1)[:, None]
            cosines = np.clip(cosines / np.where(lengths > 0, lengths, 1), 0, 1)
            for a, b in itertools.permutations(range(len(ids)), 2):
                s, t, p = cosines[a, b], layer.t, layer.p
                mapped = t + (1 - t) * ((s - t) / (1 - t)) ** p if t < s and t < 1 else s
                if ids[a] < ids[b]:
                    key = (ids[a], ids[b])
                    total[key] = total.get(key, 0.0) + layer.weight * mapped
    return total


def between(scores: dict[tuple[int, int], float], wanted: int) -> float:
    """Return a threshold that about so many pairs reach, far from the score of any."""
    ordered = np.sort(list(scores.values()))[::-1]
    gaps = ordered[:-1] - ordered[1:]
    place = wanted + int(np.argmax(gaps[wanted : wanted + 20]))
    assert gaps[place] > 1e-6
    return float(ordered[place] + ordered[place + 1]) / 2


@pytest.mark.parametrize("wanted", [80, 250])
@pytest.mark.parametrize("cut", [False, True], ids=["one segment", "nine segments"])
@pytest.mark.parametrize("fused", ["both layers", "no words"])
def test_pairs_are_those_of_all_pairs_in_float64(
    copied: Copied, tmp_path: Path, fused: str, cut: bool, wanted: int
) -> None:
    """With 3 answers asked for at first, the 13 copies need three runs."""
    snapshot = copied.snapshot_cut if cut else copied.snapshot
    store = shutil.copytree(copied.cut if cut else copied.whole, tmp_path / "store")
    fusion = snapshot.fusion if fused == "both layers" else HEAD
    scores = plainly(store, snapshot, fusion)
    above = between(scores, wanted)
    right = {pair: score for pair, score in scores.items() if score >= above}
    found = find_pairs(*asking(store, snapshot, fusion, above, k=3)).table.to_pylist()
    assert {(row["image_id"], row["other_id"]) for row in found} == set(right)
    assert len(found) == len(right)
    for row in found:
        assert row["score"] == pytest.approx(right[row["image_id"], row["other_id"]], abs=1e-9)
    order = [(-row["score"], row["image_id"], row["other_id"]) for row in found]
    assert order == sorted(order)


def test_both_cuts_give_the_same_table_and_a_score_is_that_of_the_lower_id(
    copied: Copied, tmp_path: Path
) -> None:
    tables = []
    for name, snapshot in (("whole", copied.snapshot), ("cut", copied.snapshot_cut)):
        store = shutil.copytree(getattr(copied, name), tmp_path / name)
        place, coordinator, question = asking(store, snapshot, snapshot.fusion, 1.2)
        tables.append(find_pairs(place, coordinator, question).table)
    assert tables[0].equals(tables[1])
    first = tables[0].slice(0, 1).to_pylist()[0]
    with lamella.open(copied.whole) as index:
        answer = index.query(ids=first["image_id"], k=len(index)).to_arrow().to_pylist()
    (same,) = [row for row in answer if row["image_id"] == first["other_id"]]
    assert (same["score"], same["name"]) == (first["score"], first["other_name"])


def test_pictures_with_full_answers_alone_are_asked_again(copied: Copied, tmp_path: Path) -> None:
    """13 copies have 12 like them each: 3 answers are full, 30 are as many as there are."""
    store = shutil.copytree(copied.whole, tmp_path / "store")
    fusion = copied.snapshot.fusion
    found = find_pairs(*asking(store, copied.snapshot, fusion, 1.9999, k=3), into="same")
    assert [(run.run, run.k, run.queries) for run in found.runs] == [
        ("same", 3, copied.snapshot.indexed),
        ("same.k24", 24, COPIES + 1),
    ]
    assert found.table.num_rows == (COPIES + 1) * COPIES // 2
    again = find_pairs(*asking(store, copied.snapshot, fusion, 1.9999, k=3), into="same")
    assert again.table.equals(found.table)
    assert again.runs == found.runs


def test_more_like_it_than_can_be_asked_for_is_an_error(
    copied: Copied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs_module, "MOST_ANSWERS", 3)
    store = shutil.copytree(copied.whole, tmp_path / "store")
    asked = asking(store, copied.snapshot, copied.snapshot.fusion, 1.9999, k=3)
    with pytest.raises(InputError, match=r"has 3 images like it or more.*higher --above than"):
        find_pairs(*asked)


def test_a_long_name_leaves_no_room_for_runs_that_ask_on(copied: Copied) -> None:
    asked = asking(copied.whole, copied.snapshot, copied.snapshot.fusion, 1.9)
    with pytest.raises(InputError, match=r"at most 30 letters here.*got 31"):
        find_pairs(*asked, into="x" * 31)


def test_thresholds_that_identical_pictures_do_not_reach_are_refused() -> None:
    fusion = FusionSpec(
        layers=(LayerMap(layer="high", t=0.2, p=0.45), LayerMap(layer="low", weight=0.5))
    )
    assert usual_threshold(fusion) == 1.35
    check_threshold(1.35, fusion)
    for above in (1.6, 1.5, 0.0):
        with pytest.raises(InputError, match=r"less than 1\.5.*1 of high \+ 0\.5 of low.*got"):
            check_threshold(above, fusion)
