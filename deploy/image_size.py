"""Compute what the packages of both images take on disk, from the ones that are installed here.

    python deploy/image_size.py                            # the target `cuda`
    python deploy/image_size.py --cpu torch-2.X+cpu.whl    # `cpu`, with this wheel of PyTorch

The base image (python:slim, some 0.13 GB) and libgomp come to it. No image is built.
"""

import argparse
import re
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ONLY_WITH_CARDS = re.compile("nvidia-.*|cuda-.*|triton|torchcodec")


def closure(name: str, extras: frozenset[str], seen: set[str], *, cpu: bool) -> Iterator[str]:
    """Yield a package and all that it needs, each once."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in seen or (cpu and ONLY_WITH_CARDS.fullmatch(key)):
        return
    seen.add(key)
    yield key
    for line in metadata.requires(key) or ():
        needed = Requirement(line)
        wanted = [{"extra": extra} for extra in extras] or [{"extra": ""}]
        if needed.marker is None or any(needed.marker.evaluate(each) for each in wanted):
            yield from closure(needed.name, frozenset(needed.extras), seen, cpu=cpu)


def size_of(name: str) -> int:
    """Return the bytes of an installed package's files."""
    files = metadata.files(name) or []
    paths = (Path(str(file.locate())) for file in files if file.suffix != ".pyc")
    return sum(path.stat().st_size for path in paths if path.is_file())


def main() -> None:
    """Print the sum, and the largest packages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cpu", metavar="WHEEL", type=Path)
    wheel: Path | None = parser.parse_args().cpu
    extras = frozenset({"demo", "serve"} if wheel else {"demo", "gpu", "serve"})
    names = closure("lamella", extras, set(), cpu=wheel is not None)
    sizes = {name: size_of(name) for name in names}
    if wheel is not None:
        with zipfile.ZipFile(wheel) as archive:
            sizes["torch"] = sum(entry.file_size for entry in archive.infolist())
    for name, size in sorted(sizes.items(), key=lambda item: -item[1])[:8]:
        print(f"{size / 1e9:8.2f} GB  {name}")
    print(f"{sum(sizes.values()) / 1e9:8.2f} GB  all {len(sizes)} packages")


if __name__ == "__main__":
    main()
