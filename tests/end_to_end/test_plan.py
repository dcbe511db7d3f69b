"""A plan before a run, and beside it: on real code, a small corpus, and the command line."""

import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from rich.console import Console

from lamella.cluster.commands.show_plan import show_plan
from lamella.pipeline.errors import InputError
from lamella.pipeline.jobs.indexing import prepare
from lamella.pipeline.journey import Journey
from lamella.pipeline.plan.history import keep_plan, last_plan
from lamella.pipeline.plan.make import make_plan
from lamella.pipeline.plan.probe import spread
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.records import read_record
from lamella.pipeline.store.s3 import client
from lamella.pipeline.store.storage import open_store
from lamella.schemas.job_record import JobRecord
from lamella.schemas.plan import Plan
from tests.builders import SMALL, small_job
from tests.command_line import complaint, lamella
from tests.conftest import Indexed
from tests.end_to_end.commands import Stores, exported
from tests.tiny import tiny_index, tiny_job, tiny_pictures

SERIAL = ("--engine", "serial")
FACTOR = 1.25
"""Within which the bytes of a plan are those of the run, here: half the pictures are tried, and
a training of few rounds takes one more or fewer."""


@pytest.fixture(scope="module")
def planned(planted: Path) -> Plan:
    """The plan of the planted corpus, from half of its pictures."""
    return make_plan(prepare(str(planted), small_job(engine__kind="serial")), sample=24)


def test_a_sample_is_spread_evenly_and_its_seed_decides() -> None:
    found = spread(1_000, 10, seed=1)
    assert [number // 100 for number in found] == list(range(10))
    assert found == spread(1_000, 10, seed=1) != spread(1_000, 10, seed=2)
    assert spread(3, 10, seed=0) == [0, 1, 2]
    for seed in range(20):
        assert len(set(spread(11, 10, seed))) == 10


def test_the_bytes_of_a_plan_are_those_of_the_run(planned: Plan, indexed: Indexed) -> None:
    store = LocalStore(indexed.store)
    job = read_record(store, indexed.snapshot.job, JobRecord)
    stored = Journey(store, job).look().size_bytes(store)
    told: defaultdict[str, float] = defaultdict(float)
    for each in planned.stored:
        told[each.stage] += each.size_bytes.mean if each.kept else 0
    assert set(told) == set(stored)
    wrong = {
        stage: (told[stage], size)
        for stage, size in stored.items()
        if not size / FACTOR < told[stage] < size * FACTOR
    }
    assert not wrong


def test_a_plan_says_what_a_person_asks(planned: Plan) -> None:
    assert (planned.entries, planned.sampled, planned.pictures.mean) == (48, 24, 48)
    assert planned.shards == 4  # cut as the run will cut them
    assert planned.segments == 2  # of 25 pictures on average; which, only the pictures tell
    assert [stage.name for stage in planned.stages] == [
        "corpus",
        "extract",
        "vocabulary p15",
        "encode",
        "index",
    ]
    extract = planned.stages[1]
    assert list(extract.steps) == ["read", "decode", "forward", "descriptors", "write"]
    assert all(extract.steps[name].mean > 0 for name in ("read", "decode", "forward", "write"))
    assert extract.per_second.mean == pytest.approx(48 / extract.seconds.mean)
    assert extract.per_second.error > 0
    assert planned.hours.mean == pytest.approx(sum(s.seconds.mean for s in planned.stages) / 3600)
    assert set(planned.memory) == {"extract", "vocabulary p15", "index"}
    assert planned.fits
    if planned.machine.gpus:
        assert planned.hours_by_gpus is not None
        assert list(planned.hours_by_gpus) == [1, 8, 64]
    else:
        # What no GPU has measured is not told.
        assert planned.hours_by_gpus is None
        hours = [planned.hours_by_workers[n].mean for n in (1, 8, 64)]
        assert hours == sorted(hours, reverse=True)


def test_a_plan_is_shown_whole_on_a_terminal_of_80_columns(planned: Plan) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    show_plan(console, planned)
    shown = console.export_text()
    for said in ("48 files", "vocabulary p15", "decode", "hours on", "activations p15", "put"):
        assert said in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "\\n" not in shown
    assert shown.splitlines()[-1].startswith("fits: disk ")
    show_plan(console, planned.model_copy(update={"fits": False, "refusals": ("a > b: c",)}))
    assert console.export_text().splitlines()[-1] == "does not fit: a > b"


@contextmanager
def counted() -> Iterator[Counter[tuple[str, str]]]:
    """Count what is asked of local stores inside the block, by folder and verb."""
    found: Counter[tuple[str, str]] = Counter()

    def counting(name: str) -> Any:
        verb = getattr(LocalStore, name)

        def call(store: LocalStore, path: str, *rest: Any, **named: Any) -> Any:
            found[path.split("/")[0], name] += 1
            return verb(store, path, *rest, **named)

        return call

    with ExitStack() as stack:
        for name in ("put", "create", "read", "local_path"):
            stack.enter_context(mock.patch.object(LocalStore, name, counting(name)))
        yield found


def test_requests_are_those_of_the_run_or_a_few_more(tmp_path: Path) -> None:
    pictures = tiny_pictures(tmp_path / "pictures", broken=0)
    plan = make_plan(prepare(str(pictures), tiny_job(engine__kind="serial")))
    with counted() as asked:
        tiny_index(tmp_path / "store", pictures)

    def made(folder: str) -> int:
        return asked[folder, "put"] + asked[folder, "create"]

    def read(folder: str) -> int:
        return asked[folder, "read"] + asked[folder, "local_path"]

    told = plan.requests
    assert made("corpora") + made("looks") == told["corpus"]["put"]
    assert made("activations") == told["extract"]["put"]
    assert made("bags") == told["encode"]["put"]
    assert made("segments") == told["index"]["put"]
    assert made("totals") == 2  # which are told with the snapshot
    assert made("vocabularies") <= 1.5 * told["vocabulary p15"]["put"]
    everything = sum(each.get("get", 0) for each in told.values())
    folders = ("corpora", "looks", "activations", "vocabularies", "bags", "segments", "totals")
    # Opening a local file looks it up twice, for its size and for itself.
    assert sum(map(read, folders)) <= 2 * everything


def test_with_words_at_hand_the_plan_is_of_one_pass(stores: Stores) -> None:
    words = str(exported(stores))
    job = tiny_job(vocabulary_from=words, engine__kind="serial")
    plan = make_plan(prepare(str(stores.pictures), job))
    assert [stage.name for stage in plan.stages] == ["corpus", "extract", "index"]
    assert "words p15" in plan.stages[1].steps
    kinds = {each.kind for each in plan.stored if each.stage == "extract"}
    assert "bags p15" in kinds
    assert "activations p15" not in kinds
    assert "encode" not in plan.requests
    assert (plan.refused, plan.pictures.mean) == (1, 5)
    kept = make_plan(
        prepare(str(stores.pictures), tiny_job(vocabulary_from=words, activations__keep="all"))
    )
    assert "activations p15" in {each.kind for each in kept.stored}
    assert kept.subject != plan.subject


def test_pictures_and_store_in_s3_are_planned(bucket: str, tmp_path: Path) -> None:
    for path in tiny_pictures(tmp_path / "pictures").iterdir():
        client().put(bucket, f"pictures/{path.name}", path.read_bytes())
    plan = make_plan(prepare(f"s3://{bucket}/pictures", tiny_job(engine__kind="serial")))
    assert (plan.entries, plan.refused) == (6, 1)
    assert plan.requests["corpus, pictures"] == plan.requests["extract, pictures"] == {"get": 6}
    store = open_store(f"s3://{bucket}/store", create=True)
    keep_plan(store, plan)
    assert last_plan(store, plan.name, plan.subject) == plan


def test_a_disk_that_is_too_small_and_too_many_words_are_refused(stores: Stores) -> None:
    prepared = prepare(str(stores.pictures), tiny_job(vocabulary__words=100_000))
    plan = make_plan(prepared, free_bytes=1_000)
    assert not plan.fits
    assert "for 100,000 words: a word needs at least one" in plan.refusals[0]
    assert "of the store's disk" in plan.refusals[1]


def test_what_cannot_be_read_gives_no_plan(tmp_path: Path) -> None:
    pictures = tiny_pictures(tmp_path / "pictures", 3, broken=3)
    with pytest.raises(InputError, match="of 3 files that were tried none gave activations"):
        make_plan(prepare(str(pictures), tiny_job()))


def job_file(folder: Path) -> Path:
    """Write the settings of small jobs as a person would."""
    path = folder / "job.toml"
    lines = [f'{key} = "{v}"' if isinstance(v, str) else f"{key} = {v}" for key, v in SMALL.items()]
    path.write_text("\n".join(lines))
    return path


def test_the_commands_plan_and_index_meet_in_the_store(tmp_path: Path) -> None:
    pictures, store = tiny_pictures(tmp_path / "pictures"), tmp_path / "store"
    job = job_file(tmp_path)
    given = (pictures, "--into", store, "--job", job, "--words", 8, *SERIAL)

    told = lamella("plan", *given, "--json")
    assert told.returncode == 0, told.stderr
    plan = json.loads(told.stdout)
    assert plan["fits"]
    assert plan["entries"] == 6
    assert (store / plan["kept"]).is_file()

    # What changes no cost makes no other plan.
    first = lamella("index", *given, "--fusion", "scaled", "--json")
    rows = {row["stage"]: row for row in json.loads(first.stdout)["plan"]}
    assert list(rows) == ["corpus", "extract", "vocabulary p15", "encode", "index"]
    for row in rows.values():
        assert row["seconds"] > 0
        assert row["planned_seconds"] > 0
        assert row["note"] == ""
        assert np.isfinite([row["per_second"], row["planned_bytes"], row["size_bytes"]]).all()
    again = lamella("index", *given)
    assert "planned → measured in this run" in again.stdout
    assert again.stdout.count("done before") == 5
    assert json.loads(lamella("verify", store, "--json").stdout)["damaged"] == []


def test_a_plan_that_does_not_fit_ends_with_one_line_and_code_1(tmp_path: Path) -> None:
    pictures = tiny_pictures(tmp_path / "pictures")
    asked = ("plan", pictures, "--job", job_file(tmp_path), "--words", 9_000_000, *SERIAL, "--json")
    refused = lamella(*asked)
    assert "9,000,000 words: a word needs at least one" in complaint(refused, code=1)
    plan = json.loads(refused.stdout)
    assert plan["fits"] is False
    assert plan["refusals"]
    assert plan["error"] == {
        "code": 1,
        "kind": "DoesNotFit",
        "message": complaint(refused, code=1).removeprefix("lamella: "),
    }


def test_a_plan_says_that_a_job_would_stop_for_its_refused_pictures(tmp_path: Path) -> None:
    pictures = tiny_pictures(tmp_path / "pictures", 8, broken=4)
    call = ("plan", pictures, "--layers", "head", *SERIAL)
    line = complaint(lamella(*call), code=1)
    assert "4 of 8 pictures that were tried are refused (4 truncated), 50.0%; the job" in line
    assert "allows 10.0% and would stop: mend them or raise --max-refused" in line
    enough = lamella(*call, "--max-refused", "0.5", "--json")
    assert enough.returncode == 0, enough.stderr
    plan = json.loads(enough.stdout)
    assert (plan["refused_by_reason"], plan["max_refused"]) == ({"truncated": 4}, 0.5)
    assert "error" not in plan


@pytest.mark.parametrize("count", [1, 2])
def test_one_picture_or_two_are_planned(count: int, tmp_path: Path) -> None:
    """Each has one descriptor, and the training of one word ends with its first round."""
    pictures = tiny_pictures(tmp_path / "pictures", count, broken=0)
    edge = {"network__preprocess__short_edge": 32, "network__preprocess__crop": 32}
    made = make_plan(prepare(str(pictures), tiny_job(vocabulary__words=4, **edge)), sample=2)
    assert made.entries == count
