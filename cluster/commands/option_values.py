"""What options say: checked, and as settings by dotted key."""

import os
import re
from pathlib import Path
from typing import Any

import typer

from lamella.pipeline.errors import InputError

START_TIMEOUT = "LAMELLA_START_TIMEOUT_S"
"""The variable with `engine.start_timeout_s` for commands that take no job file."""


def check_output(name: str, path: Path | None) -> None:
    """Check that an option's file can be written, before hours of work.

    Raises:
        InputError: it is an address, a folder, or lies in a folder that does not exist or cannot be
            written.
    """
    if path is None:
        return
    check_local(name, path)
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(f"{name} takes a file in a folder that is there; {folder} is not: make it")
    if path.is_dir():
        raise InputError(f"{name} takes the name of a file; {path} is a folder: give a name in it")
    if not os.access(folder if not path.exists() else path, os.W_OK):
        raise InputError(f"{name} takes a file that can be written; {path} cannot: give another")


def check_local(name: str, path: Path) -> None:
    """Check that an option's path is on this machine. Raises InputError: it is an address."""
    if re.match("[a-z0-9]+:/", str(path), re.IGNORECASE):
        raise InputError(
            f"{name} takes a path on this machine; got {path}: copy the file from there"
        )


def fusion_overrides(
    t: str | None, p: str | None, w: str | None, fusion: str | None
) -> dict[str, object]:
    """Return what the options of the fusion say, by dotted key."""
    return {
        "fusion.t": numbers(t),
        "fusion.p": numbers(p),
        "fusion.weights": numbers(w),
        "fusion.preset": fusion,
    }


def numbers(text: str | None) -> list[float] | None:
    """Return comma-separated numbers. Raises typer.BadParameter for anything else."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"numbers separated by commas are wanted; got {text!r}") from None


def words(text: str | None) -> list[str] | None:
    """Return comma-separated words, without spaces around them."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def index_overrides(
    name: str | None,
    column: str | None,
    keep_columns: str | None,
    network: str | None,
    layers: str | None,
    weights: Path | None,
    words_wanted: int | None,
    vocabulary: Path | None,
    keep_activations: str | None,
    vectors: list[str] | None,
) -> dict[str, Any]:
    """Return the settings that the options of `index` override.

    Raises:
        InputError: as `vector_settings`.
    """
    from lamella.pipeline.jobs.vectors import vector_settings

    return {
        "vectors": vector_settings(vectors) if vectors else None,
        "name": name,
        "corpus.column": column,
        "corpus.columns": words(keep_columns),
        "network.name": network,
        "network.layers": words(layers),
        "network.weights": str(weights) if weights else None,
        "vocabulary.words": words_wanted,
        "vocabulary_from": str(vocabulary) if vocabulary else None,
        "activations.keep": keep_activations,
    }


def engine_overrides(
    engine: str | None, address: str | None, workers: int | None
) -> dict[str, Any]:
    """Return the settings that the engine's options and the environment override.

    Raises:
        InputError: `LAMELLA_START_TIMEOUT_S` is no number.
    """
    said = os.environ.get(START_TIMEOUT)
    try:
        start_timeout_s = float(said) if said else None
    except ValueError:
        raise InputError(
            f"{START_TIMEOUT} is how many seconds a full cluster is waited for; got {said!r}"
        ) from None
    return {
        "engine.kind": engine,
        "engine.address": address,
        "engine.workers": workers,
        "engine.start_timeout_s": start_timeout_s,
    }
