"""The libraries that Lamella stands on, and those that extras bring: found, and imported."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

from lamella.pipeline.doctor.findings import Finding
from lamella.pipeline.doctor.imports import DRIVER, PRODUCTS, Imported

BASE: Mapping[str, str] = {
    "torch": "torch",
    "torchvision": "torchvision",
    "ray": "ray",
    "pyarrow": "pyarrow",
    "numpy": "numpy",
    "numba": "numba",
    "s3fs": "s3fs",
    "pydantic": "pydantic",
    "threadpoolctl": "threadpoolctl",
    "safetensors": "safetensors",
    "pillow": "PIL",
    "pi-heif": "pi_heif",
    "typer": "typer",
    "rich": "rich",
    "jinja2": "jinja2",
    "matplotlib": "matplotlib",
    "python-json-logger": "pythonjsonlogger",
    "prometheus-client": "prometheus_client",
}
"""What a plain installation brings, but for weights: the module of each package."""

CURES = {"torchvision": "install torch and torchvision together, from one index"}

MOST_SHOWN = 6
"""Libraries of these that have a line each; of the others one line says that they work."""


@dataclass(frozen=True)
class Extra:
    """An extra of the installation.

    Attributes:
        use: what needs it.
        modules: the module of each package; none for weights, which `weights.py` looks at.
    """

    name: str
    use: str
    modules: Mapping[str, str]


EXTRAS = (
    Extra(
        "networks",
        "networks timm:NAME, open_clip:NAME, transformers:NAME",
        {"timm": "timm", "open_clip_torch": "open_clip", "transformers": "transformers"},
    ),
    Extra(
        "serve",
        "lamella serve",
        {"fastapi": "fastapi", "uvicorn": "uvicorn", "python-multipart": "python_multipart"},
    ),
    Extra("lab", "lamella evaluate --measure nDCG@10 and others", {"ir-measures": "ir_measures"}),
    Extra("demo", "lamella demo", {"scikit-image": "skimage"}),
    Extra("gpu", 'JPEGs decoded on a card, rgb_recipe = "torch-1"', {"torchcodec": "torchcodec"}),
    Extra("faiss", "proposers, and exported indexes of FAISS", {"faiss": "faiss"}),
)
"""All but `lite`, which is weights alone."""

SLOW = ("torchvision", "timm", "open_clip", "transformers")
"""Modules that take seconds to import, for networks other than the default one: looked for only."""

FOR_CARDS = ("torchcodec",)
"""Modules that are used, and so imported, where there is a card."""


def version_of(package: str) -> str:
    """Return an installed version of a package, "" if it is not installed."""
    names = ("faiss-gpu", "faiss-cpu", "faiss") if package == "faiss" else (package,)
    for name in names:
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        return f"{name} {found}" if package == "faiss" else found
    return ""


def modules_to_import() -> list[list[str]]:
    """Return the modules to try, in two lists of about the same time: those on torch, the others.

    Of extras those that are there. `SLOW` ones are only looked for. Our own products come last.
    """
    extras = [
        module
        for extra in EXTRAS
        for package, module in extra.modules.items()
        if version_of(package) and (module not in FOR_CARDS or DRIVER.exists())
    ]
    tried = [module for module in (*BASE.values(), *extras) if module not in SLOW]
    on_torch = [module for module in tried if module in ("torch", *FOR_CARDS)]
    return [[*on_torch, PRODUCTS], [module for module in tried if module not in on_torch]]


def of_base(imported: Mapping[str, Imported]) -> list[Finding]:
    """Return a line for each of the first libraries, and for each other one that is broken.

    Those that were not imported are looked for.
    """
    tried = {**imported, "torchvision": _torchvision(imported.get("torch", Imported()))}
    found = [_needed(package, tried.get(each, Imported())) for package, each in BASE.items()]
    shown = [each for n, each in enumerate(found) if n < MOST_SHOWN or each.state != "ok"]
    rest = [each.what for each in found if each not in shown]
    return [*shown, Finding("others", "ok", ", ".join(rest), needed=True)] if rest else shown


def _torchvision(torch: Imported) -> Imported:
    """Return whether torchvision loads beside torch; it is not imported itself."""
    error = str(torch.facts.get("torchvision", ""))
    return Imported(error and f"does not fit this torch: {error}")


def _needed(package: str, imported: Imported) -> Finding:
    version = version_of(package)
    if version and not imported.error:
        return Finding(package, "ok", version, needed=True)
    said = imported.error or "not installed"
    cure = CURES.get(package, f"pip install --force-reinstall {package}")
    return Finding(package, "broken", said, cure, needed=True)


def of_extras(imported: Mapping[str, Imported]) -> list[Finding]:
    """Return a line for each extra: whole, in part, or missing."""
    return [_extra(each, imported) for each in EXTRAS]


def _extra(extra: Extra, imported: Mapping[str, Imported]) -> Finding:
    cure = f"pip install 'lamella[{extra.name}]'"
    versions = {package: version_of(package) for package in extra.modules}
    there = {package: version for package, version in versions.items() if version}
    broken = [
        f"{package} cannot be imported: {imported[module].error}"
        for package, module in extra.modules.items()
        if package in there and module in imported and imported[module].error
    ]
    if broken:
        return Finding(extra.name, "broken", f"{'; '.join(broken)} ({extra.use})", cure)
    if len(there) < len(versions):
        lacking = ", ".join(package for package in versions if package not in there)
        return Finding(extra.name, "missing", f"no {lacking}, for {extra.use}", cure)
    return Finding(extra.name, "ok", _listed(there))


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(
        version if version.startswith(package) else f"{package} {version}"
        for package, version in versions.items()
    )
