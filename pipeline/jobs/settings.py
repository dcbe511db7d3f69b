"""Read the settings of a job from TOML and overrides; for an unknown key, suggest the nearest."""

import codecs
import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from lamella.pipeline.errors import InputError, one_line
from lamella.schemas.job import JobConfig


def load_job(path: Path | None, overrides: Mapping[str, Any] | None = None) -> JobConfig:
    """Return a job from a TOML file and overrides by dotted key; overrides win.

    Raises:
        InputError: the file is missing or not TOML, a key is unknown (the message names the nearest
            known one), or a value is invalid (the message names the rule and the value).
    """
    settings: dict[str, Any] = {}
    if path is not None:
        try:
            settings = tomllib.loads(_decoded(path.read_bytes()))
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
        return JobConfig.model_validate(settings)
    except ValidationError as error:
        where = f"job file {path}" if path is not None else "the settings"
        raise InputError(f"{where}: {explain(error)}") from None


def _decoded(data: bytes) -> str:
    """Return the text of a file in UTF-8 or, with its mark, in UTF-16, as Windows writes them."""
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if marked else "utf-8-sig")


def _set(settings: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    for key in keys[:-1]:
        settings = settings.setdefault(key, {})
        if not isinstance(settings, dict):
            raise InputError(f"{key} is a table of settings; got {settings!r}")
    settings[keys[-1]] = value


def explain(error: ValidationError) -> str:
    """Return the first error in a job as one clause that says what to do."""
    first = error.errors()[0]
    location = [one_line(part) for part in first["loc"]]
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        known = _keys_at(JobConfig, location[:-1])
        nearest = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]}?" if nearest else f"known here: {', '.join(known)}"
        return f"there is no key {key}; {hint}"
    said = one_line(first["msg"].removeprefix("Value error, "))
    return f"{key or 'value'}: {said}; got {_shown(first['input'])}"


def _shown(value: object) -> str:
    try:
        return one_line(repr(value))
    except ValueError:  # Python prints no integer of thousands of digits
        return type(value).__name__


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
