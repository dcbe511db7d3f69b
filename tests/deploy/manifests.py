"""The files of deploy/ as values, for the tests that check them."""

import functools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
SHARED = Path(os.environ.get("LAMELLA_SHARED", ROOT.parent / "shared"))

Manifest = dict[str, Any]

BUILDS = [
    *(f"overlays/{path.name}" for path in sorted((KUBERNETES / "overlays").iterdir())),
    "jobs/index",
    "jobs/query",
    "jobs/evaluate",
]
"""What a person applies."""


def kustomize() -> list[str]:
    """Return the command that builds a folder; skips where there is none."""
    if found := shutil.which("kustomize"):
        return [found, "build"]
    if found := shutil.which("kubectl"):
        return [found, "kustomize"]
    pytest.skip("kustomize, or kubectl which has it, is not installed")


@functools.cache
def built(folder: str) -> tuple[Manifest, ...]:
    """Return the manifests of a folder below deploy/kubernetes, as kustomize builds them."""
    command = [*kustomize(), str(KUBERNETES / folder)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 0, said.stderr
    assert said.stderr == ""  # warnings of what is deprecated
    return tuple(each for each in yaml.safe_load_all(said.stdout) if each)


@functools.cache
def written() -> tuple[Manifest, ...]:
    """Return all manifests as they are written, which needs no kustomize."""
    paths = [
        path for path in sorted(KUBERNETES.rglob("*.yaml")) if "kustomization" not in path.stem
    ]
    return tuple(each for path in paths for each in yaml.safe_load_all(path.read_text()) if each)


def of_kind(manifests: tuple[Manifest, ...], kind: str) -> Iterator[Manifest]:
    """Yield the manifests of a kind."""
    return (each for each in manifests if each["kind"] == kind)


def pod_templates(value: Any, at: str = "") -> Iterator[tuple[str, Manifest]]:
    """Yield every template of a pod in a manifest, with where it is."""
    if isinstance(value, dict):
        if "containers" in value.get("spec", {}):
            yield at, value
        for name, inner in value.items():
            yield from pod_templates(inner, f"{at}/{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from pod_templates(inner, f"{at}/{number}")


def all_pods() -> list[tuple[str, Manifest]]:
    """Return every template of a pod as it is written, under a name for people."""
    return [
        (f"{each['kind']} {each['metadata']['name']}{at}", template)
        for each in written()
        for at, template in pod_templates(each)
    ]


def settings() -> dict[str, str]:
    """Return the environment that every pod has."""
    lines = (KUBERNETES / "base" / "settings.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def compose() -> Manifest:
    """Return the compose file, with the folder of pictures that a person gives."""
    text = (DEPLOY / "compose.yaml").read_text()
    value: Manifest = yaml.safe_load(re.sub(r"\$\{PICTURES:[^}]*\}", "/pictures", text))
    return value


def policy(name: str) -> Manifest:
    """Return a policy of deploy/s3."""
    value: Manifest = json.loads((DEPLOY / "s3" / f"{name}.json").read_text())
    return value


def size_bytes(quantity: str) -> float:
    """Return the bytes of a quantity of Kubernetes."""
    number, unit = re.fullmatch(r"(\d+)(Ki|Mi|Gi|)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * 1024.0 ** ["", "Ki", "Mi", "Gi"].index(unit)
