"""Whatever stands in a record or a job file, it is a value or a named error, and nothing else."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from lamella.pipeline.errors import InputError, LamellaError
from lamella.pipeline.jobs.settings import load_job
from lamella.schemas.base import Record, Stored, canonical_json, digest_of
from lamella.schemas.job import JobConfig
from tests.conftest import Indexed
from tests.fuzz.fuzzing import (
    DEEP,
    EDITS,
    ODD,
    TEXTS,
    Edit,
    as_json,
    drawn,
    edited,
    fuzz,
    one_line,
    replaced,
)
from tests.fuzz.seeds import examples_in, stored_models

JOB = (Path(__file__).parents[2] / "deploy/job.example.toml").read_bytes()
EXPECTED = (ValueError, LamellaError)


def read(model: type[Stored], data: bytes) -> None:
    """Read a value; what is read can be written and read again."""
    try:
        value = model.from_json(data)
    except EXPECTED:
        return
    with contextlib.suppress(*EXPECTED):  # what JSON cannot say, such as not-a-number
        again = model.from_json(value.to_json())
        assert again == value
    assert len(value.digest()) == 64


def sealed(value: Any) -> bytes:
    """Return a record's bytes with the seal that fits them, so that its fields are looked at."""
    if not isinstance(value, dict):
        return as_json(value)
    value = {key: part for key, part in value.items() if key != "seal"}
    return canonical_json(value | {"seal": digest_of(value)})


@drawn(400)
def test_records_are_read_or_refused(indexed: Indexed, examples: int) -> None:
    known = examples_in(indexed.store)
    models = sorted(stored_models(), key=lambda model: model.__name__)
    assert len(known) > 20
    assert set(known) <= set(models)
    seeds = sorted(known.values())

    def records(
        model: type[Stored], base: bytes, edits: list[Edit], where: int, odd: Any, deep: bool
    ) -> None:
        own = known.get(model, base)
        read(model, edited(own, edits))
        read(model, as_json(odd))
        value = replaced(json.loads(own), where, odd)
        try:
            changed = sealed(value) if issubclass(model, Record) else as_json(value)
        except UnicodeEncodeError:
            return
        read(model, changed)
        if deep:
            read(model, DEEP.encode())

    fuzz(
        records,
        st.sampled_from(models),
        st.sampled_from(seeds),
        EDITS,
        st.integers(0, 500),
        ODD,
        st.booleans(),
        examples=examples,
    )


@pytest.mark.parametrize("model", [JobConfig, *stored_models(Record)], ids=lambda m: m.__name__)
def test_nests_without_end_are_refused(model: type[Stored]) -> None:
    for data in (DEEP, '{"a":' * 20_000, "9" * 100_000, '{"x": ' + "9" * 10_000 + "}"):
        with pytest.raises(EXPECTED):
            model.from_json(data.encode())


@drawn(200)
def test_job_files_are_read_or_refused(tmp_path: Path, examples: int) -> None:
    path = tmp_path / "job.toml"
    uncommented = b"\n".join(line.removeprefix(b"#") for line in JOB.split(b"\n") if b" = " in line)

    def load(data: bytes) -> None:
        path.write_bytes(data)
        try:
            job = load_job(path)
        except InputError as error:
            one_line(error)
        else:
            assert isinstance(job, JobConfig)

    def jobs(seed: bytes, edits: list[Edit], key: str, odd: Any) -> None:
        load(edited(seed, edits))
        with contextlib.suppress(UnicodeEncodeError):
            load(f"[corpus]\nmax_pixels = {json.dumps(odd)}\n".encode())
            load(f"{key} = {json.dumps(key)}\n[network]\nlayers = [{json.dumps(odd)}]".encode())

    hard = (DEEP, "{a = " * 5_000, "9" * 10_000, "0x" + "f" * 9_999, "\0", f'"{"x" * 10**6}"')
    for value in hard:
        load(f"name = {value}".encode())
        load(f"corpus.max_pixels = {value}".encode())
    load(b"a." * 9_999)
    fuzz(jobs, st.sampled_from([JOB, uncommented]), EDITS, TEXTS, ODD, examples=examples)
