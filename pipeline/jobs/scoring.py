"""Score a run that lies in a store: its rankings by names, without pictures or segments."""

import numpy as np
import pyarrow as pa

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.ranked import Ranked, RankedRows
from lamella.pipeline.jobs.rankings import ranking_tables
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.tables import column
from lamella.schemas.rankings import QueryRun


def ranked_run(store: Store, run: QueryRun) -> Ranked:
    """Return the rankings of a stored run, read a batch of queries at a time.

    Raises:
        InputError: it answers no query, or two queries, or two pictures of a ranking, have the same
            name.
    """
    rows = RankedRows()
    for table in ranking_tables(store, run):
        if not table.num_rows:
            continue
        asked = column(table, "query")
        starts = np.flatnonzero(np.append(True, asked[1:] != asked[:-1]))
        queries = table.column("query_name").take(pa.array(starts)).to_pylist()
        rows.add(starts, queries, table.column("name"), column(table, "score"))
    ranked = rows.ranked()
    if not ranked.queries:
        raise InputError(
            f"a run is scored by its rankings; run {run.run} has 0 of {run.queries:,} queries "
            "answered: ask again with pictures that can be read"
        )
    return ranked
