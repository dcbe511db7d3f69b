"""FAISS: whether it is there, which one it is, and how many threads it takes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lamella.pipeline.errors import InputError, one_line
from lamella.schemas.query import ProposerKind


def faiss_module() -> Any:
    """Import FAISS. Raises InputError: it is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise InputError(
            "proposers (index.proposer), an exported index of FAISS and clusters need the package "
            f"faiss, which is not installed ({one_line(error)}): pip install 'lamella[faiss]'"
        ) from error
    return faiss


def faiss_version() -> str:
    """Return the version of the installed FAISS. Raises InputError: it is not installed."""
    return str(faiss_module().__version__)


def check_proposer(kind: ProposerKind) -> None:
    """Check that proposers of this kind can be built here.

    Raises:
        InputError: FAISS is not installed, or has no CAGRA, or there is no GPU for it.
    """
    if kind == "none":
        return
    faiss = faiss_module()
    if kind == "cagra" and not (hasattr(faiss, "GpuIndexCagra") and faiss.get_num_gpus()):
        has = f"FAISS {faiss_version()} with {_gpus(faiss)}, "
        has += f"{'with' if hasattr(faiss, 'GpuIndexCagra') else 'without'} GpuIndexCagra"
        raise InputError(
            'index.proposer = "cagra" is built on a GPU by a FAISS that has GpuIndexCagra (made '
            f"with cuVS); installed is {has}: ask for ivf or hnsw, which need neither"
        )


def _gpus(faiss: Any) -> str:
    count = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    return f"{count} GPUs" if count != 1 else "1 GPU"


@contextmanager
def one_thread(faiss: Any) -> Iterator[None]:
    """In the block, FAISS works for this thread without others: equal bytes, and no spinning.

    OpenMP keeps this number for each thread that calls, so that others keep theirs.
    """
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
