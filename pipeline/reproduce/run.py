"""Score a data set on an index, once: a record that is there is taken as it is."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from lamella.pipeline.jobs.evaluating import ground_truth
from lamella.pipeline.jobs.query_run import Place
from lamella.pipeline.reproduce.data_sets import DataSet
from lamella.pipeline.reproduce.scoring import (
    inputs_of,
    keep_scores,
    record_of,
    score_all,
    settings_of,
    stored_scores,
)
from lamella.pipeline.reproduce.showing import rows_trained_on, shown_query, shown_words
from lamella.pipeline.search.coordinator import Coordinator
from lamella.pipeline.search.names import ImageTable
from lamella.schemas.report import BoxMode
from lamella.schemas.reproduced import Reproduced


def reproduce(
    place: Place,
    opened: Callable[[], AbstractContextManager[Coordinator]],
    data_set: DataSet,
    *,
    box: BoxMode,
    weights: Path | None,
    drawn: bool,
) -> Reproduced:
    """Return the scores of a data set on a snapshot, from its store if they are there.

    Args:
        place: the store and its snapshot; `pictures` is the source of the index.
        opened: opens the snapshot's segments; not called where the scores are there.
        box: whether Oxford's queries are cropped to their boxes.
        weights: of the network, for queries that are cropped.
        drawn: also make the pictures of Figs. 1 and 2.

    Raises:
        InputError: the pictures of the data set are not in the index, or cannot be read.
    """
    began = time.monotonic()
    store, snapshot = place.store, place.snapshot
    hashes = data_set.hashes()
    inputs = inputs_of(snapshot, data_set.name, hashes, box, drawn)
    if (known := stored_scores(store, data_set.name, inputs)) is not None:
        return known
    with opened() as coordinator:
        image_ids = coordinator.image_ids()
        names = ImageTable(store, snapshot).names_of(image_ids).to_pylist()
        truth = ground_truth(data_set.name, sorted(names), truth=data_set.truth, box=box)
        found = score_all(place, coordinator, names, image_ids, truth, weights)
        record = record_of(
            found,
            snapshot,
            data_set.name,
            inputs,
            hashes=hashes,
            settings=settings_of(snapshot, snapshot.weighting),
            rows=rows_trained_on(store, snapshot),
            began=began,
        )
        if drawn:
            query = shown_query(place, coordinator, names, image_ids, truth, found, weights)
            patches = shown_words(store, snapshot, str(place.pictures), place.progress)
            record = record.model_copy(
                update={
                    "shown": query,
                    "patches": patches,
                    "elapsed_seconds": time.monotonic() - began,
                }
            )
    return keep_scores(store, record)
