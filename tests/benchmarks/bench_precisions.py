"""What half precision wins and costs on a CPU: passes a second, cosines, and answers.

    PRECISIONS_PICTURES=8 LAMELLA_SHARED=../shared \\
        .venv/bin/python -m pytest -m bench -s tests/benchmarks/bench_precisions.py

Speed depends on the CPU: the file says which it is and what it has in hardware; where it has
nothing, PyTorch computes half precision slowly, and that is measured too. Cosines and answers
depend little on it: every CPU rounds what a layer gives to the same 8 bits, and only the order of
float32 sums differs. Answers are those of the default network through the whole system, with words
of the corpus: Oxford's queries and UKB's, over the pictures of both. The store is kept, so that a
picture goes through the network once. Without hardware that takes a quarter of an hour of processor
time in bfloat16, for 905 pictures.
"""

import os
from dataclasses import asdict
from pathlib import Path

import pytest

from lamella.pipeline.bench.extract_steps import choose_pictures
from lamella.pipeline.bench.passes import compare_passes
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.evaluate.protocols.oxford import oxford
from lamella.pipeline.evaluate.protocols.ukb import ukb
from lamella.pipeline.jobs.settings import load_job
from lamella.pipeline.products.cpu import this_cpu
from lamella.schemas.extraction import Precision
from tests.benchmarks.bench_answers import opened, score, table_of
from tests.benchmarks.descriptors import SHARED, copy_pictures
from tests.benchmarks.photographs import CORES, NETWORKS, photographs
from tests.benchmarks.record import write_json
from tests.builders import index_into

KEPT = Path("build/bench/precisions")
PICTURES = int(os.environ.get("PRECISIONS_PICTURES", "8"))
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
FOLDERS = ("ukbench", "oxford5k")
SHOWN = ("head", "p15", "published", "scaled", "best of sweep")


@pytest.mark.bench
@pytest.mark.parametrize("network", NETWORKS)
def test_passes(network: str, tmp_path: Path) -> None:
    folder = photographs(tmp_path / "pictures", PICTURES)
    spec, weights = NETWORKS[network].spec(tmp_path)
    specs = [spec.model_copy(update={"precision": each}) for each in PRECISIONS]
    chosen = choose_pictures(str(folder), PICTURES, DecodeLimits())
    found = compare_passes(chosen, specs, weights, threads=CORES)
    for each in found:
        print(network, each)
    value = {"cpu": asdict(this_cpu()), "load": os.getloadavg()[0], "network": network}
    write_json(f"precisions-{network}.json", value | {"passes": [asdict(each) for each in found]})


@pytest.mark.bench
def test_answers_of_half_precision() -> None:
    if not (SHARED / "data").exists():
        pytest.skip("the photographs are in ../shared/data")
    pictures = KEPT / "pictures"
    if not pictures.exists():
        copy_pictures(FOLDERS, pictures)
    found: dict[str, object] = {"cpu": asdict(this_cpu())}
    for precision in PRECISIONS:
        settings = {"network.precision": precision, "gate.removed": 1.0, "gate.added": 1.0}
        snapshot = index_into(KEPT / "store", pictures, job=load_job(None, settings), threads=CORES)
        place, coordinator, names = opened(KEPT / "store", snapshot)
        truths = {
            "oxford": oxford(names, SHARED / "data" / "oxford5k" / "gt_files_170407"),
            "ukb": ukb(names),
        }
        for corpus, truth in truths.items():
            table = table_of(score(place, coordinator, names, truth))
            rows = {name: table[name] for name in SHOWN}
            print(precision, corpus, {name: round(row["score"], 4) for name, row in rows.items()})
            found[f"{precision}, {corpus}"] = rows
    write_json("precisions-answers.json", found)
