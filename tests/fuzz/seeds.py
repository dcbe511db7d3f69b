"""Valid stored values, found in a real store: what fuzzing damages."""

from collections.abc import Iterator
from pathlib import Path

from lamella.schemas.base import Record, Stored
from lamella.schemas.job import JobConfig


def stored_models(kind: type[Stored] = Stored) -> Iterator[type[Stored]]:
    """Yield every model that can be stored or configured."""
    for model in kind.__subclasses__():
        if model.__module__.startswith("lamella.schemas."):
            if model is not Record:
                yield model
            yield from stored_models(model)


def examples_in(store: Path) -> dict[type[Stored], bytes]:
    """Return the JSON of one value of each model that a store, or a default job, holds."""
    found: dict[type[Stored], bytes] = {}
    _collect(JobConfig(), found)
    models = [model for model in stored_models() if issubclass(model, Record)]
    for path in sorted(store.rglob("*.json")):
        for model in models:
            try:
                value = model.from_json(path.read_bytes())
            except ValueError:
                continue
            _collect(value, found)
    return found


def _collect(value: object, found: dict[type[Stored], bytes]) -> None:
    if isinstance(value, Stored):
        found.setdefault(type(value), value.to_json())
        value = dict(value)
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        for part in value:
            _collect(part, found)
