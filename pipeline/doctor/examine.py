"""Everything that `lamella doctor` looks at, in the order in which it is shown."""

import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

from lamella.pipeline.doctor import folders, libraries, machine, pictures, stores, weights
from lamella.pipeline.doctor.findings import Finding, Part, caught
from lamella.pipeline.doctor.imports import Imported, import_apart
from lamella.pipeline.errors import one_line


def examine(store: str | None = None) -> list[Part]:
    """Look at this installation and machine, and at a store if one is named. Nothing raises.

    Libraries are imported in two other processes meanwhile, which takes longest.
    """
    with ThreadPoolExecutor() as threads:
        importing = [threads.submit(_imported, each) for each in libraries.modules_to_import()]
        quick = {
            "pictures": [
                *caught("formats", pictures.formats, needed=True),
                *caught("sandbox", pictures.sandbox, needed=True),
            ],
            "weights": caught("weights", weights.of_networks, needed=True),
            "processor": caught("processor", machine.processor),
            "memory": caught("memory", machine.memory),
            "clock": caught("clock", machine.clock),
            "folders": [
                *caught("TMPDIR", folders.temporary, needed=True),
                *caught("copies from S3", folders.cache),
                *caught("shared memory", folders.shared_memory),
            ],
        }
        of_store = caught("store", lambda: stores.of_store(store), needed=True) if store else []
        imported = libraries.all_imported(each.result() for each in importing)
    return _parts(quick, imported, of_store)


def _imported(modules: Sequence[str]) -> dict[str, Imported]:
    """Return how modules import; where they cannot be tried, why."""
    try:
        return import_apart(modules)
    except Exception as error:
        return {module: Imported(f"it was not tried: {one_line(error)}") for module in modules}


_NOT_TRIED = Imported("it was not tried")


def _lamella() -> Finding:
    versions = f"{metadata.version('lamella')} on Python {platform.python_version()}"
    return Finding("lamella", "ok", versions, needed=True)


def _parts(
    quick: Mapping[str, Sequence[Finding]],
    imported: Mapping[str, Imported],
    of_store: Sequence[Finding],
) -> list[Part]:
    torch, numba = (imported.get(each, _NOT_TRIED) for each in ("torch", "numba"))
    found = {
        "installed": [
            *caught("lamella", _lamella, needed=True),
            *caught("libraries", lambda: libraries.of_base(imported), needed=True),
        ],
        "machine": [
            *quick["processor"],
            *quick["memory"],
            *caught("cards", lambda: machine.cards(torch)),
            *quick["clock"],
        ],
        "folders": [
            *quick["folders"],
            *caught("compiled loops", lambda: folders.compiled_loops(numba)),
        ],
        "pictures": quick["pictures"],
        "weights": quick["weights"],
        "extras": caught("extras", lambda: libraries.of_extras(imported)),
        "store": of_store,
    }
    return [Part(title, tuple(findings)) for title, findings in found.items() if findings]
