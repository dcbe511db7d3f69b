"""What approximate training does to rankings: the low layer alone, words by cells and by all words.

EfficientNet-Lite0's b11, 5,000 words from 250 (Oxford) or 100 (UKB) descriptors a picture, three
seeds each, by the commands that a person would give. Corpora: Oxford's 605 pictures, 30 queries cut
to their boxes, mAP; UKB's 300 pictures among all others but the DVD covers, N-S.
`VOCABULARY_SEEDS` gives another number of seeds.
"""

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lamella.cluster.commands.cli import app
from tests.benchmarks.descriptors import SHARED, copy_pictures
from tests.benchmarks.record import Measurement, write_record

WORDS = 5_000
SEEDS = int(os.environ.get("VOCABULARY_SEEDS", "3"))
UKB_FOLDERS = ("ukbench", "oxford5k", "holidays", "kth_buildings", "grocery_packages")
CORPORA: dict[str, tuple[tuple[str, ...], int, list[str]]] = {
    "oxford": (
        ("oxford5k",),
        250,
        ["--truth", str(SHARED / "data/oxford5k/gt_files_170407"), "--box", "roi"],
    ),
    "ukb": (UKB_FOLDERS, 100, []),
}


def lamella(*arguments: str) -> Any:
    """Run a command with --json and return what it says."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        app([*arguments, "--json"], standalone_mode=False)
    return json.loads(said.getvalue())


def score(store: Path, pictures: Path, corpus: str, assigner: str, seed: int) -> float:
    """Return the score of the low layer alone with words trained so."""
    _, cap, options = CORPORA[corpus]
    job = store.parent / f"{corpus}-{assigner}-{seed}.toml"
    job.write_text(
        f"[vocabulary]\nwords = {WORDS}\ndescriptors_per_image = {cap}\nseed = {seed}\n"
        f'assigner = "{assigner}"\n'
    )
    lamella("index", str(pictures), "--into", str(store), "--job", str(job))
    found = lamella("evaluate", str(store), "--protocol", corpus, "--layers", "b11", *options)
    return float(next(row["score"] for row in found["report"]["rows"] if row["kind"] == "alone"))


@pytest.mark.bench
def test_rankings_do_not_suffer(tmp_path: Path) -> None:
    if not (SHARED / "data").exists():
        pytest.skip("the corpora are in ../shared/data")
    measurements = []
    for corpus, (folders, _, _) in CORPORA.items():
        pictures = copy_pictures(folders, tmp_path / corpus)
        scores = {
            assigner: [
                score(tmp_path / f"{corpus}-store", pictures, corpus, assigner, seed)
                for seed in range(SEEDS)
            ]
            for assigner in ("cells", "exact")
        }
        print(corpus, scores, flush=True)
        measurements.append(
            Measurement(
                f"{corpus}, low layer alone",
                {"words": WORDS, "seeds": SEEDS},
                float(np.mean(scores["cells"])),
                float(np.mean(scores["exact"])),
                "exact k-means, same words",
                "N-S" if corpus == "ukb" else "mAP",
            )
        )
    write_record("vocabulary_retrieval.json", measurements)
