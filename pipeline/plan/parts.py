"""The parts of a plan: time, stored bytes and memory of each stage, from a probe."""

import math
from dataclasses import dataclass

from lamella.pipeline.bench.wait_times import DECODE_ON_GPU
from lamella.pipeline.corpus.cut import cut_shards, runs
from lamella.pipeline.index.plan import segment_memory
from lamella.pipeline.jobs.indexing import Prepared
from lamella.pipeline.jobs.tuning import TUNE
from lamella.pipeline.journey import encodes_at_once, route
from lamella.pipeline.plan.figures import mean_of, product, scaled
from lamella.pipeline.plan.loads import Load
from lamella.pipeline.plan.probe import Probe
from lamella.pipeline.plan.proposers_cost import TRIED, proposer_bytes, tuning_seconds
from lamella.pipeline.plan.sizes import (
    ARROW,
    ID,
    RECORD,
    bags_bytes,
    global_bytes,
    local_bytes,
    sum_tasks,
    training_bytes,
)
from lamella.pipeline.plan.vocabulary_cost import WordsProbe
from lamella.pipeline.proposers.build import proposer_memory
from lamella.pipeline.proposers.frame import frame_memory
from lamella.pipeline.run.budget import PROCESS_BYTES
from lamella.pipeline.text import counted
from lamella.pipeline.vocabulary.plan import training_memory
from lamella.schemas.plan import Figure, PlannedBytes

ROW_BYTES = 10
"""About the bytes of an image id in the list of extracted images."""
GPU_STEPS = (DECODE_ON_GPU, "forward")
"""The steps of extraction that run on a GPU if there is one."""


@dataclass(frozen=True)
class Extent:
    """The expected size of a run.

    Attributes:
        entries: entries of the source.
        images: entries that are images, with those that will be refused.
        pictures: images that will be indexed.
    """

    entries: int
    images: float
    pictures: Figure
    shards: int
    segments: int

    @property
    def segment_pictures(self) -> float:
        """The mean number of pictures in a segment."""
        return self.pictures.mean / self.segments


def extent_of(prepared: Prepared, found: Probe) -> Extent:
    """Extrapolate the sample to the size of the run."""
    entries = len(prepared.listing.entries)
    indexed = found.sampled - found.ignored - sum(found.refused.values())
    share = mean_of([1.0] * indexed + [0.0] * (found.sampled - indexed))
    pictures = scaled(share, entries)
    shards = sum(1 for _ in cut_shards(prepared.listing.entries, prepared.shard_size))
    return Extent(
        entries,
        entries * (1 - found.ignored / found.sampled),
        pictures,
        shards,
        runs(pictures.mean, prepared.job.index.segment_images),
    )


def loads_of(prepared: Prepared, found: Probe, extent: Extent) -> list[Load]:
    """Return the load of each stage in the order of `route`; stages without work are left out."""
    loads: list[Load | None] = []
    for name in route(prepared.spec, prepared.job, prepared.imports, prepared.kept):
        kind, _, layer = name.partition(" ")
        match kind:
            case "corpus":
                steps = {"look": mean_of(found.looking)}
                loads.append(Load(name, steps, extent.entries, extent.shards))
            case "extract":
                loads.append(_extract_load(prepared, found, extent))
            case "vocabulary":
                loads.append(_training_load(name, found.words[layer], extent))
            case "encode":
                loads.append(_encode_load(found, extent))
            case "index":
                loads.append(_index_load(found, extent))
            case "propose":
                loads.append(_propose_load(found, extent))
                loads.append(_tune_load(prepared, found, extent))
    return [load for load in loads if load is not None]


def _extract_load(prepared: Prepared, found: Probe, extent: Extent) -> Load:
    steps = extract_steps(prepared, found)
    on_gpu = tuple(each for each in GPU_STEPS if each in steps) if found.extract.gpus else ()
    return Load(
        "extract",
        steps,
        extent.pictures.mean,
        extent.shards,
        opening=found.starting + found.extract.opening,
        threaded=True,
        gpu_steps=on_gpu,
    )


def _encode_load(found: Probe, extent: Extent) -> Load | None:
    if not found.words:
        return None
    tried = {
        f"{each.tried:,} of {counted(each.words, 'word')}"
        for each in found.words.values()
        if each.tried < each.words
    }
    steps = {name: Figure(mean=words.encoding) for name, words in found.words.items()}
    basis = f"estimated: with {', '.join(sorted(tried))}" if tried else "measured"
    return Load("encode", steps, extent.pictures.mean, extent.shards, basis=basis)


def _index_load(found: Probe, extent: Extent) -> Load:
    a_picture, a_segment = found.indexing
    return Load(
        "index",
        {"files": Figure(mean=a_picture)},
        extent.pictures.mean,
        extent.segments,
        fixed=a_segment * extent.segments,
    )


def _propose_load(found: Probe, extent: Extent) -> Load:
    a_picture, frames = found.proposing
    return Load(
        "propose",
        {"proposers": Figure(mean=a_picture)},
        extent.pictures.mean,
        extent.segments,
        fixed=frames,
        basis=f"estimated: {TRIED:,} vectors",
    )


def _tune_load(prepared: Prepared, found: Probe, extent: Extent) -> Load | None:
    kind, pictures = prepared.job.index.proposer, extent.pictures.mean
    if kind == "none":
        return None
    k = prepared.job.search.k
    seconds = tuning_seconds(kind, found.dimensions, len(found.words), pictures, k)
    return Load(
        TUNE,
        {"reaches": Figure(mean=seconds / pictures)},
        pictures,
        extent.segments,
        threaded=True,
        basis="estimated: as measured elsewhere",
    )


def extract_steps(prepared: Prepared, found: Probe) -> dict[str, Figure]:
    """Return the seconds of one CPU for a picture, by step of the extract stage."""
    from lamella.pipeline.extract.probe import batches_a_picture

    extract, times = found.extract, found.extract.times
    indexed = len(extract.image_ids)
    if not prepared.spec.computed:
        return {"write": Figure(mean=sum(times.write.values()) / indexed)}
    views = len({layer.view for layer in prepared.spec.computed})
    share = extract.threads / extract.at_work
    read, see, forward = (
        scaled(mean_of(each), share) for each in (times.read, times.see, times.forward)
    )
    batches = batches_a_picture(found.rows, prepared.spec, prepared.shard_size)
    on_device = share * sum(times.decode) / indexed
    spent = extract.wall * extract.threads / indexed
    spent -= see.mean + on_device + forward.mean * len(times.forward) / indexed
    write = {name: seconds / indexed for name, seconds in times.write.items()}
    steps = {
        "read": read,
        "decode": Figure(mean=max(see.mean - read.mean, 0.0), error=see.error),
        "forward": scaled(forward, batches * views),
        "descriptors": Figure(mean=max(spent - sum(write.values()), 0.0)),
    }
    if extract.gpus and times.decode:
        steps[DECODE_ON_GPU] = Figure(mean=on_device)
    else:
        steps["decode"] = scaled(steps["decode"], 1.0, plus=on_device)
    if at_once(prepared):
        # Words are assigned in the same pass, and descriptors are not written.
        steps |= {f"words {name}": Figure(mean=each.encoding) for name, each in found.words.items()}
        write = {name: seconds for name, seconds in write.items() if name not in found.words}
    return steps | {"write": Figure(mean=sum(write.values()))}


def at_once(prepared: Prepared) -> bool:
    """Say whether extraction assigns words itself."""
    return encodes_at_once(prepared.job, prepared.imports or prepared.kept)


def _training_load(name: str, words: WordsProbe, extent: Extent) -> Load | None:
    """Return the load of a layer's training, None if its vocabulary is imported."""
    if not words.rounds:
        return None
    rows, pictures = words.rows.mean, extent.pictures.mean
    of = f"{words.tried:,} of {counted(words.words, 'word')}, " if words.tried < words.words else ""
    return Load(
        name,
        {
            "sample": Figure(mean=words.sampling),
            "rounds": Figure(mean=words.pace * rows * words.passes),
        },
        pictures,
        min(extent.shards, sum_tasks(words.words, rows * pictures)),
        threaded=True,
        basis=f"estimated: {of}{counted(words.rounds, 'round')}",
        rounds=words.rounds,
    )


def stored_bytes(prepared: Prepared, found: Probe, extent: Extent) -> tuple[PlannedBytes, ...]:
    """Return the bytes that the run will store, by stage and kind of file."""
    encode = "extract" if at_once(prepared) else "encode"
    pictures, shards, segments = extent.pictures, extent.shards, extent.segments
    listed: list[PlannedBytes] = []

    def add(stage: str, kind: str, size: Figure | float, kept: bool = True) -> None:
        figure = size if isinstance(size, Figure) else Figure(mean=size)
        listed.append(PlannedBytes(kind=kind, stage=stage, size_bytes=figure, kept=kept))

    looked_at = found.table_bytes / len(found.rows)
    a_shard = found.shard_bytes + RECORD  # and its part of the manifest
    add("corpus", "image tables", extent.images * looked_at + shards * a_shard)
    for name, size_bytes in found.extract.sizes.items():
        if at_once(prepared) and name in found.words:
            continue
        counted = found.extract.rows[name]
        rows = product(mean_of(counted), pictures)
        add("extract", f"activations {name}", scaled(rows, size_bytes / int(counted.sum())))
    add("extract", "activations, lists", extent.images * ROW_BYTES + shards * 2 * RECORD)
    for name, words in found.words.items():
        for kind, size, kept in training_bytes(words, pictures.mean):
            add(f"vocabulary {name}", f"vocabularies {name}, {kind}", size, kept)
        entries = product(words.entries, pictures)
        fixed = bags_bytes(pictures.mean, 0) + shards * ARROW
        add(encode, f"bags {name}", scaled(entries, bags_bytes(0, 1), plus=fixed))
        for kind, (fixed, an_entry) in local_bytes(pictures.mean, words.words, segments).items():
            add("index", f"segments {name}, {kind}", scaled(entries, an_entry, plus=fixed))
    for name, width in found.dimensions.items():
        for kind, size in global_bytes(pictures.mean, width, segments).items():
            add("index", f"segments {name}, {kind}", scaled(pictures, size / pictures.mean))
    kind = prepared.job.index.proposer
    for name, width in found.dimensions.items() if kind != "none" else ():
        for what, size in proposer_bytes(kind, pictures.mean, width, segments).items():
            add("propose", f"{what} {name}", scaled(pictures, size / pictures.mean))
    if not at_once(prepared):
        add("encode", "bags, records", shards * RECORD)
    add("index", "segments, ids", ID * pictures.mean + segments * (ARROW + 2 * RECORD))
    return tuple(listed)


def memory_of(
    prepared: Prepared, found: Probe, extent: Extent, workers: int
) -> dict[str, dict[str, int]]:
    """Return the peak memory of a worker in bytes, by stage and by what holds it."""
    from lamella.pipeline.extract.sink import end_of_a_shard_bytes

    memory = {
        "extract": {
            "process and network": found.own_bytes,
            "decoders": found.decoder_bytes,
            "the end of the shard before": end_of_a_shard_bytes(len(found.extract.sizes)),
        }
    }
    for name, words in found.words.items():
        if words.rounds:
            rows = round(words.rows.mean * extent.pictures.mean)
            memory[f"vocabulary {name}"] = dict(
                training_memory(words.words, words.dimensions, rows, words.assigner)
            )
    entries = {
        name: round(words.entries.mean * extent.segment_pictures)
        for name, words in found.words.items()
    }
    images = math.ceil(extent.segment_pictures)
    memory["index"] = segment_memory(images, entries, found.dimensions)
    kind = prepared.job.index.proposer
    if kind != "none":
        width = max(found.dimensions.values())
        frame = frame_memory(round(extent.pictures.mean), width)
        memory["propose"] = max(
            frame, proposer_memory(images, width), key=lambda x: sum(x.values())
        )
    if kind not in ("none", "ivf"):  # cells are mapped, graphs are held
        servers, every = min(workers, extent.segments), extent.pictures.mean
        held = sum(
            sum(proposer_bytes(kind, every, each, extent.segments).values())
            for each in found.dimensions.values()
        )
        memory[TUNE] = {"process": PROCESS_BYTES, "proposers": math.ceil(held / servers)}
    return memory
