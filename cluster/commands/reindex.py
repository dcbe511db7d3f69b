"""The command that renews an index from its source, as a scheduler gives it every night."""

from functools import partial

import typer
from rich.console import Console

from lamella.cluster.commands import option_values, options
from lamella.cluster.commands.output import begin, unfolded

console = unfolded(Console())


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(reindex)


def reindex(
    store: options.Store,
    pictures: options.Pictures = None,
    weights: options.Weights = None,
    vectors: options.MovedVectors = None,
    keep_activations: options.KeepActivations = None,
    force: options.Force = False,
    retrain: options.Retrain = False,
    rehash: options.Rehash = False,
    engine: options.Engine = None,
    address: options.Address = None,
    workers: options.Workers = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Index the source of the current snapshot again, as it is now, by the job on record.

    What a scheduler calls every night. It costs what has changed: pictures of the same
    size and time are not read, and only new contents go through the network; the words stay.
    Vectors that the index was given are read again from where they were, or from the file
    that [bold]--vectors[/] names for their layer now.

    Exit code 3: the snapshot is made and not promoted, for its gate failed, a rollback holds,
    or a newer listing is current; one line says which rule, both values and the way out.
    """
    begin(f"listing the pictures of {store} again", quiet=as_json)
    from lamella.cluster.commands.index import Wishes, listed, reindex_store
    from lamella.cluster.commands.show_indexed import show_indexed
    from lamella.cluster.ray.engine import engine as opened_engine
    from lamella.pipeline.jobs.reindexing import prepare_again
    from lamella.pipeline.jobs.settings import load_job
    from lamella.pipeline.jobs.vectors import vector_settings
    from lamella.pipeline.store.storage import open_store

    said = {"activations.keep": keep_activations}
    job = load_job(None, {**option_values.engine_overrides(engine, address, workers), **said})
    keep = job.activations.keep
    opened = open_store(store)
    again = partial(prepare_again, opened, pictures=pictures, weights=weights, retrain=retrain)
    given = vector_settings(vectors or ())
    prepared = listed(partial(again, keep=keep, vectors=given), quiet=as_json)
    with opened_engine(job.engine, quiet=as_json) as running:
        wishes = Wishes(force, retrain, rehash)
        indexed = reindex_store(running, opened, prepared, quiet=as_json, wishes=wishes)
    show_indexed(console, indexed, store, as_json=as_json)
