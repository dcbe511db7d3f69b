"""The page of a reproduction: its tables, what it does not claim, names that are not trusted."""

from pathlib import Path

from lamella.pipeline.reproduce.page import render
from lamella.pipeline.reproduce.planning import NotRun, Program, Wanted
from lamella.pipeline.reproduce.signs import Records
from lamella.pipeline.reproduce.tables import (
    choice_tables,
    other_tables,
    paper_tables,
    transfer_tables,
)
from tests.pipeline.reproduce.made import fused, record

PROGRAM = Program(Wanted(Path("into")), (), (), (), ())
RECORDS: Records = {
    ("vgg16", "oxford"): record(
        "vgg16", "oxford", {"c4_1": 0.5}, fused(("fc1", "c4_1"), 0.5, 0.625, at=9), pictures=True
    ),
    ("efficientnet_lite0", "ukb"): record(
        "efficientnet_lite0", "ukb", {"head": 3.5}, fused(("head", "b11"), 3.0, 3.5)
    ),
    ("efficientnet_lite0", "oxford"): record(
        "efficientnet_lite0", "oxford", {"head": 0.5}, fused(("head", "b11"), 0.5, 0.25, at=7)
    ),
}


def test_the_tables_have_the_papers_figures_beside_ours() -> None:
    tables = {table.name: table for table in paper_tables(RECORDS)}
    assert list(tables) == ["T1", "T5", "T2", "T3", "T6", "T7", "T4", "T8"]
    assert {name for name, table in tables.items() if table.run} == {"T5", "T6", "T8"}
    cells = dict(tables["T5"].rows)["c4_1"]
    assert [cell.text for cell in cells] == [".504", ".500", ".872", "–", "2.91", "–"]
    oxford = dict(tables["T6"].rows)["fc1 + c4_1"][:2]
    assert [cell.text for cell in oxford] == [".561 → .573", "✓ .500 → .625"]
    assert oxford[1].kind == "agree"
    assert dict(tables["T6"].rows)["fc1 + c3_1"][1].kind == "none"


def test_other_networks_stand_in_tables_of_their_own_that_say_so() -> None:
    tables = other_tables(RECORDS)
    assert [table.name for table in tables] == [
        "alone-efficientnet_lite0",
        "fused-efficientnet_lite0",
    ]
    assert all("not in the paper" in table.title for table in tables)
    ((label, cells),) = tables[1].rows
    assert label == "head + b11"
    assert [cell.kind for cell in cells] == ["agree", "disagree"]


def test_table_8_has_no_fusion_of_ours_in_the_place_of_one_of_the_papers() -> None:
    conv = record("vgg16", "oxford", {"c5_1": 0.5}, fused(("c5_1", "c4_1"), 0.5, 0.75))
    tables = {table.name: table for table in paper_tables({**RECORDS, ("vgg16", "oxford"): conv})}
    assert not [label for label, _ in tables["T8"].rows if label.startswith("here: VGG-16")]
    cells = dict({table.name: table for table in paper_tables(RECORDS)}["T8"].rows)
    assert cells["here: VGG-16, two layers"][0].note == "fc1 + c4_1"
    assert "here: EfficientNet-Lite0 (not in the paper), two layers" in cells


def test_the_matrix_has_a_row_a_data_set_and_the_settings_that_none_chose() -> None:
    (table,) = transfer_tables(RECORDS)
    assert table.columns == ("scored on UKB", "scored on Oxford5k")
    labels = [label for label, _ in table.rows]
    assert labels[:2] == [
        "chosen on UKB: t 0, p 0.05",
        "chosen on Oxford5k: t 0.1, p 0.15",
    ]
    assert len(labels) == 5
    assert [cell.note for cell in table.rows[0][1]] == ["own best", "-.250"]
    assert len(choice_tables(RECORDS)) == 2


def test_the_page_is_one_file_that_says_what_was_not_run() -> None:
    missing = NotRun("alexnet, <all>", "its weights are not here", "lamella reproduce --weights x")
    html = render(PROGRAM, RECORDS, [missing])
    assert "1 of the 1 pairs" in html
    assert "alexnet, &lt;all&gt;" in html
    assert "lamella reproduce --weights x" in html
    assert "<script" not in html
    assert "one &lt;script&gt;.jpg" in html
    assert "\x1b" not in html
    assert 'src="http' not in html
    assert "url(http" not in html
    assert "500 (published: 50,000), 3.0 descriptors each" in html
    assert html.count("<figure") == 4  # the curves, and a map for each record


def test_with_nothing_run_the_page_still_has_the_tables() -> None:
    html = render(PROGRAM, {}, [])
    assert "no network of the paper" in html
    assert html.count("not run</em>") == 8
