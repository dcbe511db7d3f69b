"""Make a plan: probe a sample, and extrapolate to all pictures of the source."""

from lamella.pipeline.cores import available_cores
from lamella.pipeline.corpus.joined import any_in_s3
from lamella.pipeline.jobs.indexing import Prepared
from lamella.pipeline.memory import available_memory
from lamella.pipeline.plan.figures import per
from lamella.pipeline.plan.fitting import misfits, too_many_refused, too_many_words
from lamella.pipeline.plan.history import subject_of
from lamella.pipeline.plan.loads import SIZES, Load, hours_on, seconds_of
from lamella.pipeline.plan.parts import (
    Extent,
    at_once,
    extent_of,
    loads_of,
    memory_of,
    stored_bytes,
)
from lamella.pipeline.plan.precisions import advice_on
from lamella.pipeline.plan.probe import Probe, probe
from lamella.pipeline.plan.requests import source_requests, store_requests
from lamella.pipeline.run.drive import OnProgress, quiet
from lamella.pipeline.scratch import scratch
from lamella.schemas.job import EngineSettings
from lamella.schemas.plan import Plan, PlannedStage, ProbedMachine


def make_plan(
    prepared: Prepared,
    *,
    sample: int = 200,
    seed: int = 0,
    free_bytes: int | None = None,
    on_progress: OnProgress = quiet,
) -> Plan:
    """Probe some pictures of a job on this machine, and return its plan.

    Args:
        sample: how many entries of the source to probe.
        seed: decides which ones.
        free_bytes: free on the store's disk; None if no limit is known, as in S3.

    Raises:
        InputError: no picture of the sample can be read.
    """
    available = available_memory()
    cores = available_cores()
    workers, threads = lanes(prepared.job.engine, cores)
    with scratch("plan") as files:
        found = probe(
            prepared,
            files,
            sample=sample,
            seed=seed,
            threads=min(cores, workers * threads),
            on_progress=on_progress,
        )
    workers, threads = lanes(prepared.job.engine, cores, found.extract.gpus)
    machine = ProbedMachine(
        cores=cores,
        workers=workers,
        threads=threads,
        gpus=found.extract.gpus,
        device=found.extract.device,
        available_bytes=available,
        probe_peak_bytes=found.own_bytes + found.decoder_bytes,
    )
    return plan_of(prepared, found, machine, free_bytes)


def lanes(engine: EngineSettings, cores: int, gpus: int = 0) -> tuple[int, int]:
    """Return how many workers a machine with this many cores has, and the threads of each.

    They are those of stages without a network: for stages with one, only the product of workers
    and threads matters. With GPUs, each worker has the cores of a GPU's worker, because stages with
    a network take most of the time there.
    """
    if engine.kind == "serial":
        return 1, cores
    threads = engine.cpus_per_worker or (max(1, cores // gpus) if gpus else 1)
    fit = max(1, cores // threads)
    return min(fit, engine.workers or fit), threads


def plan_of(
    prepared: Prepared, found: Probe, machine: ProbedMachine, free_bytes: int | None
) -> Plan:
    """Extrapolate a probe to a plan."""
    extent = extent_of(prepared, found)
    loads = loads_of(prepared, found, extent)
    stored = stored_bytes(prepared, found, extent)
    memory = memory_of(prepared, found, extent, machine.workers)
    of_a_worker = machine.available_bytes // machine.workers
    refusals = too_many_refused(
        found.refused,
        found.sampled - found.ignored,
        extent.entries / found.sampled,
        prepared.job.corpus.max_refused,
    )
    refusals += too_many_words(found.words, extent.pictures.mean)
    refusals += misfits(stored, memory, extent.pictures.mean, free_bytes, of_a_worker)
    gpus, threads = machine.gpus, machine.threads
    at_work = min(machine.workers, gpus)
    return Plan(
        subject=subject_of(prepared),
        name=prepared.name,
        entries=extent.entries,
        sampled=found.sampled,
        refused=sum(found.refused.values()),
        refused_by_reason=dict(found.refused),
        max_refused=prepared.job.corpus.max_refused,
        ignored=found.ignored,
        pictures=extent.pictures,
        shards=extent.shards,
        segments=extent.segments,
        machine=machine,
        stages=tuple(_stage(load, machine, at_work) for load in loads),
        stored=stored,
        memory=memory,
        requests=_requests(prepared, found, extent),
        hours=hours_on(loads, machine.workers, threads, at_work),
        hours_by_workers={} if gpus else {n: hours_on(loads, n, 1) for n in SIZES},
        hours_by_gpus={
            n: hours_on(loads, max(1, n * machine.cores // gpus // threads), threads, n)
            for n in SIZES
        }
        if gpus
        else None,
        fits=not refusals,
        refusals=refusals,
        precisions=found.precisions,
        advice=advice_on(found.precisions),
    )


def _requests(prepared: Prepared, found: Probe, extent: Extent) -> dict[str, dict[str, int]]:
    listing, together = prepared.listing, at_once(prepared)
    of_a_shard = {
        name: size / found.sampled * prepared.shard_size
        for name, size in found.extract.sizes.items()
    }
    if together:
        of_a_shard |= dict.fromkeys(found.words, 0.0)
    stages = store_requests(
        found.dimensions,
        found.words,
        extent.pictures.mean,
        extent.shards,
        extent.segments,
        of_a_shard,
        proposes=prepared.job.index.proposer != "none",
    )
    if together:
        del stages["encode"]
    packed = listing.kind in ("webdataset", "parquet")
    return source_requests(extent.entries, any_in_s3(listing.root), packed) | stages


def _stage(load: Load, machine: ProbedMachine, at_work: int) -> PlannedStage:
    seconds = seconds_of(load, machine.workers, machine.threads, at_work)
    return PlannedStage(
        name=load.name,
        steps=load.steps,
        per_second=per(seconds, load.pictures),
        seconds=seconds,
        tasks=load.tasks,
        basis=load.basis,
        rounds=load.rounds,
    )
