"""Compare the pictures of one snapshot with the words of another."""

from collections.abc import Sequence

import numpy as np

from lamella.pipeline.diagnostics.drift import MOST_ROWS, SEED, Drift, equal_draw, measure_drift
from lamella.pipeline.diagnostics.inspect import SAMPLE_FREED, kept_of
from lamella.pipeline.errors import IncompatibleInputs, InputError, MissingFile
from lamella.pipeline.extract.extraction import extraction_place, not_kept
from lamella.pipeline.index.encode import open_assigner
from lamella.pipeline.index.shards import shards_of
from lamella.pipeline.run.drive import OnProgress, Progress, quiet
from lamella.pipeline.store.commit import read_committed, read_done
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import cure
from lamella.pipeline.vocabulary.batches import row_uniforms
from lamella.pipeline.vocabulary.sample import Sample, draw_sample, join_samples, read_sample
from lamella.schemas.files import FileRef
from lamella.schemas.snapshot import IndexSnapshot

MOST_PICTURES = 5_000
"""Pictures from which descriptors are drawn; whole shards are left out beyond about that many."""


def check_same_network(a: IndexSnapshot, b: IndexSnapshot, layer: str) -> None:
    """Check that both snapshots extracted this layer in the same way.

    Raises:
        IncompatibleInputs: network, weights, preprocessing or layer differ.
    """
    one, two = a.extraction, b.extraction
    layers = {each.name: each for each in two.layers}
    there = layers[layer].digest()[:12] if layer in layers else "is not there"
    for what, mine, yours in (
        ("network", one.network, two.network),
        ("weights", one.weights.sha256[:12], two.weights.sha256[:12]),
        ("preprocessing", one.preprocess.digest()[:12], two.preprocess.digest()[:12]),
        (f"layer {layer}", one.layer(layer).digest()[:12], there),
    ):
        if mine != yours:
            raise IncompatibleInputs(
                f"words fit only descriptors made as their own were; {what}: {mine} in the first, "
                f"{yours} in the second: index the new pictures with the first one's job"
            )


def draw_others(
    store: Store, snapshot: IndexSnapshot, layer: str, on_progress: OnProgress = quiet
) -> Sample:
    """Return descriptors of a snapshot's activations: at most `MOST_ROWS`, equally many a picture.

    Raises:
        InputError: the activations are not kept, or hold no descriptor of the layer.
    """
    if not snapshot.keeps_descriptors:
        raise not_kept(f"the descriptors of layer {layer} in snapshot {snapshot.number}")
    records = []
    pictures = 0
    folder, _ = extraction_place(snapshot.extraction, None)
    for shard in sorted(shards_of(store, snapshot), key=lambda shard: shard.key):
        if pictures >= MOST_PICTURES:
            break
        record = read_done(store, folder, shard.key)
        if record is None:
            raise _no_activations(store, snapshot)
        records.append(record)
        pictures += record.counts["indexed"]
    cap = max(1, MOST_ROWS // max(pictures, 1))
    parts = []
    for done, record in enumerate(records):
        if layer in record.freed:
            raise InputError(
                f"the descriptors of layer {layer} in snapshot {snapshot.number} of {store.url} "
                "were freed by `lamella gc --intermediate`, and drift is measured on them: index "
                "the new pictures into a store of their own and compare with that"
            )
        if layer in record.files:
            try:
                drawn = read_committed(
                    store, record.files[layer], lambda path: draw_sample(path, cap, SEED)
                )
            except MissingFile:
                raise _no_activations(store, snapshot) from None
            parts.append(drawn[0])
        on_progress(Progress(f"draw {layer}", done + 1, len(records), done + 1, len(records)))
    if not sum(len(part.image_ids) for part in parts):
        raise InputError(f"snapshot {snapshot.number} of {store.url} has no descriptor in {layer}")
    return _cut(join_samples(parts), MOST_ROWS)


def _no_activations(store: Store, snapshot: IndexSnapshot) -> InputError:
    return InputError(
        f"snapshot {snapshot.number} of {store.url} keeps no activations of some pictures, and "
        "drift is measured on them: index the new pictures into a store of their own and compare "
        f"with that; if they were lost, {cure(store)}"
    )


def compare_layer(
    stores: tuple[Store, Store],
    snapshots: tuple[IndexSnapshot, IndexSnapshot],
    layer: str,
    *,
    on_progress: OnProgress = quiet,
) -> Drift:
    """Return how a layer's words in the first snapshot fit the pictures of the second.

    Raises:
        IncompatibleInputs: the descriptors were extracted in different ways.
        InputError: there are no descriptors to compare, or none were kept.
    """
    check_same_network(*snapshots, layer)
    vocabulary = snapshots[0].vocabularies[layer]
    kept = kept_of(stores[0], vocabulary)
    if kept.freed:
        raise InputError(
            f"{layer} of {stores[0].url}: {SAMPLE_FREED}, so there is nothing to compare with: "
            "compare an index that has it, or train words anew (`lamella reindex --retrain`)"
        )
    if not kept.sample or not vocabulary.rounds:
        raise InputError(
            f"the words of {layer} in {stores[0].url} name no sample that they were trained on, so "
            "there is nothing to compare with: compare the index that trained them"
        )
    other = draw_others(stores[1], snapshots[1], layer, on_progress)
    own = _own_rows(stores[0], kept.sample)
    assigner = open_assigner(stores[0], vocabulary)
    there = assigner.assign(other.descriptors())
    trained = vocabulary.rounds[-1].objective
    return measure_drift(
        layer,
        vocabulary.words,
        (own, assigner.assign(own.descriptors()).words),
        (other, there.words),
        error=float(there.squared_distances.mean()),
        own_error=trained if kept.held_error is None else kept.held_error,
        held_out=kept.held_error is not None,
    )


def _own_rows(store: Store, files: Sequence[FileRef]) -> Sample:
    """Return rows of the training sample: equally many of about twice `MOST_PICTURES` pictures."""
    order = np.argsort(row_uniforms(SEED, np.arange(len(files)), np.zeros(len(files), np.int64)))
    parts: list[Sample] = []
    pictures = 0
    for place in order.tolist():
        if pictures >= 2 * MOST_PICTURES:
            break
        parts.append(read_committed(store, files[place], read_sample))
        pictures += len(np.unique(parts[-1].image_ids))
    cap = max(1, 2 * MOST_ROWS // max(pictures, 1))
    return join_samples(
        [part.rows(equal_draw(part, np.unique(part.image_ids), cap, SEED)) for part in parts]
    )


def _cut(sample: Sample, most: int) -> Sample:
    """Return at most `most` rows of a sample, those with the smallest hashes."""
    if len(sample.image_ids) <= most:
        return sample
    uniforms = row_uniforms(SEED + 1, sample.image_ids, sample.positions)
    rows = np.sort(np.argsort(uniforms, kind="stable")[:most])
    return sample.rows(rows)
