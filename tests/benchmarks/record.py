"""What a benchmark leaves behind: one JSON list a file under build/bench."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FOLDER = Path("build/bench")


@dataclass(frozen=True)
class Measurement:
    """One comparison. `ours` and `peer` are rates in `unit`: more is better, so is a ratio."""

    name: str
    sizes: Mapping[str, float]
    ours: float
    peer: float
    peer_name: str
    unit: str

    @property
    def ratio(self) -> float:
        """How many times the rate of the peer."""
        return self.ours / self.peer


def write_record(
    file_name: str, measurements: Sequence[Measurement], folder: Path = FOLDER
) -> Path:
    """Write the measurements to `folder`/`file_name`, replacing it, and return the path."""
    entries = [{**asdict(entry), "ratio": round(entry.ratio, 3)} for entry in measurements]
    return write_json(file_name, entries, folder)


def write_json(file_name: str, value: Any, folder: Path = FOLDER) -> Path:
    """Write what a benchmark found beside comparisons, replacing the file; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    return path
