"""Real photographs in a folder, as they were found or enlarged, and networks to show them to."""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lamella.pipeline.jobs.resolve import resolve_extraction
from lamella.schemas.extraction import ExtractionSpec
from lamella.schemas.job import JobConfig
from tests.benchmarks.descriptors import FOLDERS, SHARED, VGG
from tests.pipeline.extract.specs import random_weights

CORES = len(os.sched_getaffinity(0))


def all_photographs() -> list[Path]:
    """Return every photograph of the shared data; skips where there is none."""
    found = [path for folder in FOLDERS for path in (SHARED / "data" / folder).rglob("*.jpg")]
    if not found:
        pytest.skip("real photographs need ../shared/data, or LAMELLA_SHARED to name the folder")
    return sorted((path.resolve() for path in found), key=str)


def photographs(into: Path, count: int, width: int | None = None) -> Path:
    """Return a folder with `count` photographs, spread over all of the shared data.

    As found they have a short edge of 256. With a width they are enlarged to it in their own
    proportions, as JPEG of quality 90: what a camera's picture costs to decode, not what it shows.
    """
    found = all_photographs()
    into.mkdir(parents=True)
    for number in range(count):
        path = found[number * len(found) // count]
        name = into / f"{number:05d}.jpg"
        if width is None:
            shutil.copyfile(path, name)
            continue
        with Image.open(path) as image:
            size = (width, round(image.height * width / image.width))
            enlarged = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
        enlarged.save(name, quality=90)
    return into


@dataclass(frozen=True)
class Network:
    """A network with two layers, and how many pictures to show it: a large shard, if it is fast."""

    settings: dict[str, Any]
    pictures: int
    leave_out: str = field(default="-")

    def spec(self, folder: Path) -> tuple[ExtractionSpec, Path]:
        """Return what to extract and the weights: random ones where the real are not at hand."""
        settings = dict(self.settings)
        name = settings.get("name", "efficientnet_lite0")
        weights = Path(settings.pop("weights", folder / "none"))
        if name != "efficientnet_lite0":
            if not weights.exists():
                weights = folder / f"{name}.safetensors"
                random_weights(name, weights, leave_out=self.leave_out)
            settings["weights"] = str(weights)
        return resolve_extraction(JobConfig.model_validate({"network": settings}))


GAP = {"name": "gap", "node": "c5_3", "kind": "global", "pool": "average"}
NETWORKS = {
    "efficientnet_lite0": Network({}, 500),
    "alexnet": Network({"name": "alexnet"}, 500),
    "vgg16": Network({**VGG["network"], "layers": [GAP, "c5_1"]}, 24, "classifier"),
}
