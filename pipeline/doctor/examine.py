"""Everything that `lamella doctor` looks at, in the order in which it is shown."""

import platform
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata

from lamella.pipeline.doctor import libraries, machine
from lamella.pipeline.doctor.findings import Finding, Part, caught
from lamella.pipeline.doctor.imports import PRODUCTS, Imported, import_apart
from lamella.pipeline.errors import one_line


def examine(store: str | None = None) -> list[Part]:
    """Look at this installation and machine, and at a store if one is named. Nothing raises.

    Libraries are imported in two other processes meanwhile, which takes longest. Checks that stand
    on libraries are imported where they are caught, for those libraries may be what is broken.
    """
    with ThreadPoolExecutor() as threads:
        importing = [threads.submit(_imported, each) for each in libraries.modules_to_import()]
        decoded = caught("pictures", _pictures, needed=True)
        weights = caught("weights", _weights, needed=True)
        folders = caught("folders", _folders, needed=True)
        tried = [] if store is None else caught("store", partial(_store, store), needed=True)
        imported = {name: how for each in importing for name, how in each.result().items()}
    torch, numba = (imported.get(each, _NOT_TRIED) for each in ("torch", "numba"))
    found = {
        "installed": [
            *caught("lamella", _lamella, needed=True),
            *caught("libraries", lambda: libraries.of_base(imported), needed=True),
        ],
        "machine": [
            *caught("processor", machine.processor),
            *caught("products", lambda: _products(imported.get(PRODUCTS, _NOT_TRIED))),
            *caught("memory", machine.memory),
            *caught("cards", lambda: machine.cards(torch)),
            *caught("clock", machine.clock),
        ],
        "folders": [*folders, *caught("compiled loops", lambda: _compiled_loops(numba))],
        "pictures": decoded,
        "weights": weights,
        "extras": caught("extras", lambda: libraries.of_extras(imported)),
        "store": tried,
    }
    return [Part(title, tuple(findings)) for title, findings in found.items() if findings]


_NOT_TRIED = Imported("it was not tried")


def _lamella() -> Finding:
    versions = f"{metadata.version('lamella')} on Python {platform.python_version()}"
    return Finding("lamella", "ok", versions, needed=True)


def _pictures() -> list[Finding]:
    from lamella.pipeline.doctor import pictures

    return [
        *caught("formats", pictures.formats, needed=True),
        *caught("sandbox", pictures.sandbox, needed=True),
    ]


def _weights() -> list[Finding]:
    from lamella.pipeline.doctor import weights

    return weights.of_networks()


def _folders() -> list[Finding]:
    from lamella.pipeline.doctor import folders

    return [
        *caught("TMPDIR", folders.temporary, needed=True),
        *caught("copies from S3", folders.cache),
        *caught("shared memory", folders.shared_memory),
    ]


def _compiled_loops(numba: Imported) -> Finding:
    from lamella.pipeline.doctor import folders

    return folders.compiled_loops(numba)


def _products(tried: Imported) -> Finding:
    from lamella.pipeline.doctor import products

    return products.finding(tried)


def _store(url: str) -> list[Finding]:
    from lamella.pipeline.doctor import stores

    return stores.of_store(url)


def _imported(modules: Sequence[str]) -> dict[str, Imported]:
    """Return how modules import; where they cannot be tried, why."""
    try:
        return import_apart(modules)
    except Exception as error:
        return {module: Imported(f"it was not tried: {one_line(error)}") for module in modules}
