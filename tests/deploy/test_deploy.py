"""The files for running it elsewhere say what the code does."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from lamella.pipeline.jobs.resolve import resolve_fusion
from lamella.pipeline.jobs.settings import load_job
from lamella.pipeline.networks.listed import default_preprocess, resolve_layer
from lamella.pipeline.networks.weights import LITE0
from lamella.pipeline.store import tree
from lamella.schemas.base import FORMAT_VERSION
from lamella.schemas.extraction import PreprocessSpec
from lamella.schemas.job import JobConfig, LayerSettings

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "job.example.toml"
FORMAT = (ROOT / "schemas" / "FORMAT.md").read_text(encoding="utf-8")


def example() -> tuple[str, str]:
    """Return the example without its VGG-16 block, and that block without its comment signs."""
    text = EXAMPLE.read_text(encoding="utf-8")
    begin, end = text.index("# --- begin vgg16\n"), text.index("# --- end vgg16\n")
    lines = text[begin:end].splitlines()[1:]
    return text[:begin], "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines)


def with_all_keys() -> str:
    """Return the example with its `#key = value` lines taken in; they win over an empty default."""
    kept: dict[tuple[str, str], str] = {}
    section = ""
    for line in example()[0].splitlines():
        if line.startswith("["):
            section = line
            kept[section, ""] = line
        elif found := re.match(r"#?([a-z_0-9]+) = ", line):
            kept[section, found[1]] = line.removeprefix("#")
    return "\n".join(kept.values())


def model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model that an annotation holds, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(model_of, get_args(annotation))), None)


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted key of every setting, tables and lists of tables entered."""
    for name, field in model.model_fields.items():
        yield prefix + name
        inner = model_of(field.annotation)
        if inner is not None:
            yield from keys_of(inner, f"{prefix}{name}.")


def keys_in(value: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted key of everything in parsed TOML."""
    if isinstance(value, list):
        for entry in value:
            yield from keys_in(entry, prefix)
    elif isinstance(value, dict):
        for name, entry in value.items():
            yield prefix + name
            yield from keys_in(entry, f"{prefix}{name}.")


def seen(layer: LayerSettings) -> dict[str, Any]:
    """Return what a layer's table says of the layer itself, and not of its words."""
    return layer.model_dump(exclude={"words", "projection", "encoding"})


def test_the_example_is_the_defaults() -> None:
    assert load_job(EXAMPLE) == JobConfig()


def test_the_example_gives_every_default_that_can_be_written() -> None:
    # What is left out is None by default, which TOML cannot say.
    written = set(keys_in(tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))))
    missing = set(keys_in(JobConfig().model_dump(exclude_none=True))) - written
    assert missing == set()


def test_the_example_names_every_setting_and_no_other() -> None:
    assert set(keys_in(tomllib.loads(with_all_keys()))) == set(keys_of(JobConfig))


def test_the_example_with_every_setting_given_is_a_job(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(with_all_keys(), encoding="utf-8")
    job = load_job(path)
    assert PreprocessSpec(**job.network.preprocess.model_dump()) == default_preprocess(LITE0)
    (head, p15) = job.network.layers
    assert isinstance(head, LayerSettings)
    assert resolve_layer(LITE0, **seen(head)) == resolve_layer(LITE0, "head")
    assert isinstance(p15, LayerSettings)
    assert resolve_layer(LITE0, **seen(p15)) == resolve_layer(LITE0, "p15")


def test_the_vgg_example_is_a_job_with_its_means_in_bgr(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(example()[1], encoding="utf-8")
    network = load_job(path).network
    layers = tuple(
        resolve_layer("vgg16", layer)
        if isinstance(layer, str)
        else resolve_layer("vgg16", **seen(layer))
        for layer in network.layers
    )
    assert [(layer.node, layer.kind) for layer in layers] == [
        ("features.29", "global"),
        ("features.25", "local"),
    ]
    assert network.preprocess.channel_order == "bgr"
    # Blue, green, red: the mean is taken off after the channels are turned.
    assert network.preprocess.mean == (103.939, 116.779, 123.68)
    assert resolve_fusion(layers, load_job(path).fusion).layers[0].t == 0.2


WORDS: dict[str, str | int] = {
    "keyed": "NAME-DIGEST",
    "layer": "LAYER",
    "run": "RUN",
    "key": "SEGMENT",
    "number": 1,
    "round": "ROUND",
    "token": "TOKEN",
    "tag": "TAG",
    "by": "BY",
    "job": "JOB",
    "digest": "DIGEST",
}
"""The words that FORMAT.md uses for the parts of a path that vary."""

PATTERNS = [
    *(kind.at(**WORDS) for kind in tree.FILES),
    *(f"{step.folder(**WORDS)}/" for step in tree.STEPS),
    tree.done("STAGE", "KEY"),
    tree.data_file("bags/NAME-DIGEST/LAYER", "SHARD", "TOKEN", "arrow"),
    tree.verdict("STAGE", "KEY", "DIGEST"),
]


@pytest.mark.parametrize("pattern", dict.fromkeys(PATTERNS))
def test_format_names_the_path(pattern: str) -> None:
    told = re.sub(r"`runs/\w+-DIGEST/", "`runs/RUN/", FORMAT)
    assert f"`{pattern}".replace("vocabularies/NAME-DIGEST/LAYER/", "V/") in told


def test_format_tells_the_version_of_the_code() -> None:
    assert f"Format version: **{FORMAT_VERSION}**" in FORMAT
    assert f"\n| {FORMAT_VERSION} | " in FORMAT
