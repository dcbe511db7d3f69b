"""Read the settings of a job from TOML and overrides; all that is wrong is said at once."""

import codecs
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.jobs.mistakes import all_of
from lamella.pipeline.names import closest, known_names
from lamella.schemas.job import JobConfig, LayerSettings


def load_job(path: Path | None, overrides: Mapping[str, Any] | None = None) -> JobConfig:
    """Return a job from a TOML file and overrides by dotted key; overrides win.

    Raises:
        InputError: the file is missing or not TOML; or keys are unknown, or values are invalid. The
            message names each of them, with the value and what is wanted, or the nearest known key.
    """
    settings: dict[str, Any] = {}
    if path is not None:
        try:
            settings = tomllib.loads(_decoded(path.expanduser().read_bytes()))
        except FileNotFoundError:
            raise InputError(f"there is no job file {path}") from None
        except OSError as error:
            raise InputError(f"job file {path} cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:  # not TOML or UTF-8, or nested too deeply
            raise InputError(f"job file {path} is not TOML: {one_line(error)}") from error
    for key, value in (overrides or {}).items():
        if value is not None:
            _set(settings, key.split("."), value)
    try:
        return _in_our_case(JobConfig.model_validate(settings))
    except ValidationError as error:
        where = f"job file {path}" if path is not None else "the settings"
        raise InputError(f"{where}: {explain(error)}") from None


def _decoded(data: bytes) -> str:
    """Return the text of a file in UTF-8 or, with its mark, in UTF-16, as Windows writes them."""
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if marked else "utf-8-sig")


def _in_our_case(job: JobConfig) -> JobConfig:
    """Return the job with the names of network and layers as they are written here."""
    from lamella.pipeline.networks.listed import layer_meant, network_meant

    network = network_meant(job.network.name)
    layers: list[LayerSettings | str] = []
    for layer in job.network.layers:
        name = layer_meant(network, layer if isinstance(layer, str) else layer.name)
        layers.append(name if isinstance(layer, str) else layer.model_copy(update={"name": name}))
    if (network, tuple(layers)) == (job.network.name, job.network.layers):
        return job
    settings = job.network.model_copy(update={"name": network, "layers": tuple(layers)})
    return job.model_copy(update={"network": settings})


def _set(settings: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    for key in keys[:-1]:
        settings = settings.setdefault(key, {})
        if not isinstance(settings, dict):
            raise InputError(f"{key} is a table of settings; got {settings!r}")
    settings[keys[-1]] = value


def explain(error: ValidationError) -> str:
    """Return every error in a job, each as a clause that says what to do."""
    found = error.errors()
    return all_of([_clause(each) for each in found if not _is_aside(each, found)])


_LAYER = ("network", "layers")
"""The place of layers; a number follows, and which of its two forms an error is about."""


def _is_aside(error: ErrorDetails, found: Sequence[ErrorDetails]) -> bool:
    """Say whether an error is only that a layer is no name, beside what is wrong in its table."""
    place = error["loc"]
    if place[:2] != _LAYER or place[3:] != ("str",):
        return False
    return any(each["loc"][:3] == place[:3] and each["loc"] != place for each in found)


def _clause(error: ErrorDetails) -> str:
    place = error["loc"]
    in_a_layer = place[:2] == _LAYER and len(place) > 3
    location = [one_line(part, 100) for part in ((*place[:3], *place[4:]) if in_a_layer else place)]
    key = ".".join(location)
    if error["type"] == "extra_forbidden":
        return f"there is no key {key}; {_other_key(location)}"
    if error["type"] == "missing":
        return f"{key}: it is missing"
    said = one_line(error["msg"].removeprefix("Value error, "))
    if error["type"] == "model_type":
        said = f"should be {'a name or ' if in_a_layer else ''}a table of settings"
    said = said.removeprefix("Input ")
    return f"{key or 'value'}: {said}; got {_shown(error['input'])}{_other_value(error)}"


def _other_key(location: Sequence[str]) -> str:
    """Return which key may have been meant: one like it, or one of that name in another table."""
    known, wrong = _keys_at(JobConfig, location[:-1]), location[-1]
    near = closest(wrong, known)
    if near is None:
        everywhere = {key.rpartition(".")[2]: key for key in _dotted(JobConfig)}
        near = everywhere.get(closest(wrong, everywhere) or "")
    return f"did you mean {near}?" if near else f"known here: {known_names(wrong, known)}"


def _other_value(error: ErrorDetails) -> str:
    """Return which of some values may have been meant, as ": did you mean paper?"; or nothing."""
    given = error["input"]
    if error["type"] != "literal_error" or not isinstance(given, str):
        return ""
    known = error["ctx"]["expected"].split("'")[1::2]
    near = closest(given, known)
    return "" if near is None else f": did you mean {near}?"


def _shown(value: object) -> str:
    try:
        return one_line(repr(value), 100)
    except ValueError:  # Python prints no integer of thousands of digits
        return type(value).__name__


def _dotted(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """Yield the keys of a table and of those below it, such as `vocabulary.words`."""
    for name, field in model.model_fields.items():
        yield above + name
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _dotted(inner, f"{above}{name}.")


def _keys_at(model: type[BaseModel], location: Sequence[str]) -> list[str]:
    """Return the keys that the table at this location of a job may have."""
    for part in location:
        field = model.model_fields.get(part)
        if field is None:
            continue  # an index in a list, or a member of a union
        candidates = [field.annotation, *get_args(field.annotation)]
        candidates += [inner for outer in candidates for inner in get_args(outer)]
        for candidate in candidates:
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                model = candidate
                break
    return list(model.model_fields)
