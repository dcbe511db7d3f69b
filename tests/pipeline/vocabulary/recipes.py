"""Extractions that differ in one setting from a known one."""

from typing import Any

from lamella.schemas.extraction import ExtractionSpec, LayerSpec, PreprocessSpec, WeightsRef


def extraction(**changed: Any) -> ExtractionSpec:
    known: dict[str, Any] = {
        "network": "efficientnet_lite0",
        "weights": WeightsRef(source="package", name="w.pth", sha256="a1" * 32),
        "preprocess": PreprocessSpec(),
        "layers": (
            LayerSpec(name="head", node="head", kind="global", pool="gem", view="crop"),
            LayerSpec(name="b11", node="blocks.11", kind="local"),
        ),
    }
    return ExtractionSpec(**known | changed)


def layer(**changed: Any) -> ExtractionSpec:
    known: dict[str, Any] = {"name": "b11", "node": "blocks.11", "kind": "local"}
    return extraction(layers=(LayerSpec(**known | changed),))


def seen(**changed: Any) -> ExtractionSpec:
    return extraction(preprocess=PreprocessSpec(**changed))
