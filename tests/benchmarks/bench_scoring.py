"""Scoring a run: seconds and memory of a large one, and agreement with others on real photographs.

The large run is drawn: `SCORED_QUERIES` (100,000) queries of 100 of a million pictures, in which
the query itself and five others are right. ir-measures reads the same run and qrels from the files
that are exported, and computes the same measures. Each side has a process of its own. Seconds are
those of processors, as the machine may be shared.

The real runs are those of Oxford (605 pictures, 30 queries, its junk) and UKB (300 pictures) by the
commands that a person would give.
"""

import json
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from lamella.pipeline.evaluate.measures import parse_measures
from lamella.pipeline.evaluate.qrels import Qrels, read_qrels, to_truth, write_qrels
from lamella.pipeline.evaluate.run_report import report_scores, unknown_ranked
from lamella.pipeline.evaluate.score_ranked import score_ranked
from lamella.pipeline.jobs.ranking_copies import write_trec
from lamella.pipeline.jobs.rankings import schema_of
from lamella.pipeline.jobs.scoring import ranked_file, ranked_run
from lamella.pipeline.store.local import LocalStore
from lamella.schemas.rankings import QueryRun
from tests.benchmarks.descriptors import SHARED
from tests.benchmarks.record import Measurement, write_json, write_record
from tests.command_line import lamella
from tests.pipeline.jobs.ranked import ranked, stored

QUERIES = int(os.environ.get("SCORED_QUERIES", "100000"))
K, PICTURES, A_BATCH, RIGHT = 100, 1_000_000, 1_000, 5
MEASURES = ("AP", "RR", "P@10", "R@10", "R@100", "nDCG@10")


def name_of(picture: int) -> str:
    return f"{picture // 1000:04d}/{picture:07d}.jpg"


def drawn_batches() -> Iterator[tuple[list[int], NDArray[np.int64]]]:
    """Yield queries and the pictures that they find, (B, K), no picture twice."""
    for first in range(0, QUERIES, A_BATCH):
        asked = list(range(first, min(first + A_BATCH, QUERIES)))
        starts = np.random.default_rng(first).integers(0, PICTURES, (len(asked), 1))
        yield asked, (starts + 7919 * np.arange(K)) % PICTURES


def make(folder: Path) -> QueryRun:
    """Make the run in a store, and its qrels and TREC run beside it."""
    run = ranked(folder, ([],))
    schema, files, judged = schema_of(run), [], {}
    for number, (asked, found) in enumerate(drawn_batches()):
        rows, places = found.size, np.tile(np.arange(K), len(asked))
        names = pa.array([name_of(picture) for picture in found.ravel().tolist()])
        scores = 1 / (places + 2.0)
        columns = {
            "query": np.repeat(asked, K),
            "query_name": np.repeat([name_of(query) for query in asked], K),
            "rank": places + 1,
            "image_id": found.ravel(),
            "name": names,
            "score": scores,
            "S.high": scores,
            "S.low": scores,
            "certified": np.ones(rows, bool),
        }
        table = pa.table({name: columns[name] for name in schema.names}).cast(schema)
        files.append(
            stored(folder, table, f"runs/mine/rankings/{number:05d}.{number:012x}.parquet")
        )
        for query, pictures in zip(asked, found[:, 3:60:14].tolist(), strict=True):
            right = dict.fromkeys(map(name_of, pictures), 1)
            judged[name_of(query)] = {**right, name_of(query): 2}
    counts = {"queries": QUERIES, "answered": QUERIES, "certified": QUERIES, "k": K}
    run = run.model_copy(update={**counts, "rankings": tuple(files), "images": PICTURES})
    write_qrels(Qrels("drawn", judged), folder / "drawn.qrels")
    write_trec(LocalStore(folder), run, folder / "drawn.run")
    return run


def ours(folder: Path, run: QueryRun | None) -> dict[str, Any]:
    """Return the parts of the time of scoring the stored run, or the file, and the scores."""
    names = [name_of(picture) for picture in range(PICTURES)]  # as image tables give them
    clock = [time.process_time()]
    found = (
        ranked_file(folder / "drawn.run") if run is None else ranked_run(LocalStore(folder), run)
    )
    clock.append(time.process_time())
    truth = to_truth(read_qrels(folder / "drawn.qrels"), names)
    unknown = unknown_ranked(found, names)
    clock.append(time.process_time())
    measures = parse_measures(MEASURES)
    scored = score_ranked(found, truth, "run mine", measures)
    clock.append(time.process_time())
    report_scores(
        *(scored, truth, measures),
        run="mine",
        snapshot="a" * 64,
        qrels=None,
        depth=K,
        complete=False,
        unknown=((), unknown),
        elapsed_seconds=0.0,
    )
    clock.append(time.process_time())
    np.save(folder / "ours.npy", np.stack(list(scored.scored.scores.values())))
    parts = ("read run", "qrels and names", "score", "intervals")
    return dict(zip(parts, np.diff(clock).round(2).tolist(), strict=True))


def theirs(folder: Path, run: QueryRun | None) -> dict[str, Any]:
    """Return the time that ir-measures takes for the same, from files; and keep the scores."""
    import ir_measures

    began = time.process_time()
    measures = [ir_measures.parse_measure(name) for name in MEASURES]
    found = list(
        ir_measures.iter_calc(
            measures,
            ir_measures.read_trec_qrels(str(folder / "drawn.qrels")),
            ir_measures.read_trec_run(str(folder / "drawn.run")),
        )
    )
    seconds = time.process_time() - began
    places = {name_of(query): query for query in range(QUERIES)}
    scores = np.full((len(MEASURES), QUERIES), np.nan)
    for each in found:
        scores[MEASURES.index(str(each.measure)), places[each.query_id]] = each.value
    np.save(folder / "theirs.npy", scores)
    return {"read and score": round(seconds, 2)}


def apart(side: Callable[..., dict[str, Any]], folder: Path, run: QueryRun | None) -> Any:
    """Return the seconds of a side and its peak memory, in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        seconds = pool.submit(side, folder, run).result()
        peak = pool.submit(_peak_gb).result()
    return seconds, round(sum(seconds.values()), 2), peak


def _peak_gb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2)


@pytest.mark.bench
def test_a_large_run_is_scored(tmp_path: Path) -> None:
    pytest.importorskip("ir_measures")
    run = make(tmp_path)
    peer, peer_s, peer_gb = apart(theirs, tmp_path, None)
    measurements = []
    for name, given in (("stored run", run), ("TREC run", None)):
        parts, seconds, peak_gb = apart(ours, tmp_path, given)
        print(name, parts, f"{seconds} s {peak_gb} GB; ir-measures", peer, f"{peer_gb} GB")
        own, other = np.load(tmp_path / "ours.npy"), np.load(tmp_path / "theirs.npy")
        assert np.abs(own - other).max() <= 1e-9, "all scores of all queries are equal"
        sizes = {"queries": QUERIES, "k": K, "seconds": seconds, "peak_gb": peak_gb}
        sizes |= {"peer_seconds": peer_s, "peer_peak_gb": peer_gb, "equal": own.size} | parts
        rates = (QUERIES / seconds, QUERIES / peer_s)
        peer_name = "ir-measures, from the exported files"
        measurements.append(Measurement(name, sizes, *rates, peer_name, "queries/s"))
    write_record("scoring.json", measurements)


CORPORA: dict[str, tuple[str, tuple[str, ...]]] = {
    "oxford": ("oxford5k/images", ("--truth", str((SHARED / "data/oxford5k").resolve()))),
    "ukb": ("ukbench/full", ()),
}


@pytest.mark.bench
@pytest.mark.parametrize("corpus", list(CORPORA))
def test_exports_of_real_rankings_score_the_same_elsewhere(corpus: str, tmp_path: Path) -> None:
    if not (SHARED / "data").exists():
        pytest.skip("the corpora are in ../shared/data")
    ir_measures = pytest.importorskip("ir_measures")
    pytrec_eval = pytest.importorskip("pytrec_eval")
    folder, options = CORPORA[corpus]
    options = tuple(f"{each}/gt_files_170407" if "/" in each else each for each in options)
    store = tmp_path / "store"
    said = lamella(
        *("index", (SHARED / "data" / folder).resolve(), "--into", store, "--engine", "serial")
    )
    assert said.returncode == 0, said.stderr
    query = ("query", store, "--queries", "snapshot", "-k", 100, "--into", "all")
    assert lamella(*query, "--engine", "serial").returncode == 0
    names = ("AP", "RR", "P@10", "R@100", "nDCG@10", "AP@20", "Rprec")
    files = [tmp_path / name for name in ("qrels", "run", "scores.parquet")]
    outs = ("--qrels-out", files[0], "--run-out", files[1], "--scores", files[2])
    asked = ("--protocol", corpus, *options, "--measure", ",".join(names), *outs)
    said = lamella("evaluate", store, "--run", "all", *asked, "--json")
    assert said.returncode == 0, said.stderr
    rows = pq.read_table(files[2]).to_pylist()
    scores = {(row["query"], name): row[name] for row in rows for name in names}
    measures = [ir_measures.parse_measure(name) for name in names]
    judged = list(ir_measures.read_trec_qrels(str(files[0])))
    ranking = list(ir_measures.read_trec_run(str(files[1])))
    equal = sum(
        abs(scores[each.query_id, str(each.measure)] - each.value) <= 1e-9
        for each in ir_measures.iter_calc(measures, judged, ranking)
    )
    theirs_of = {"AP": "map", "RR": "recip_rank", "P@10": "P_10", "R@100": "recall_100"}
    with files[0].open() as right, files[1].open() as found:
        evaluator = pytrec_eval.RelevanceEvaluator(
            pytrec_eval.parse_qrel(right), {"map", "recip_rank", "P", "recall"}
        )
        values = evaluator.evaluate(pytrec_eval.parse_run(found))
    same = sum(
        abs(scores[query, name] - found[theirs]) <= 1e-9
        for query, found in values.items()
        for name, theirs in theirs_of.items()
    )
    means = {row["measure"]: row["score"] for row in json.loads(said.stdout)["report"]["measures"]}
    counts = {"ir-measures": (equal, len(scores)), "pytrec_eval": (same, 4 * len(rows))}
    print(corpus, len(rows), "queries", counts, means)
    write_json(f"scoring_{corpus}.json", {"equal": counts, "means": means, "queries": len(rows)})
    assert equal == len(scores)
    assert same == 4 * len(rows)
