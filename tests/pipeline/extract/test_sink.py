"""A layer's file: written at once or beside, the bytes are the same, and no error is lost."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lamella.pipeline.extract import sink
from lamella.pipeline.extract.activations import BatchActivations
from lamella.pipeline.extract.background_writer import Beside, Do, at_once
from lamella.pipeline.extract.descriptors import Descriptors
from lamella.pipeline.extract.sink import LayerSink
from lamella.schemas.extraction import LayerSpec

LOCAL = LayerSpec(name="low", node="low", kind="local")
GLOBAL = LayerSpec(name="high", node="high", kind="global")


def batch(image_id: int) -> BatchActivations:
    """Return what two layers saw of one picture: a vector, and three descriptors."""
    draw = np.random.default_rng(image_id)
    ids, places = np.full(3, image_id, np.int64), np.arange(3, dtype=np.uint16)
    low = Descriptors(ids, places, places, draw.random((3, 5)).astype(np.float16))
    high = draw.random((1, 4)).astype(np.float32)
    return BatchActivations(np.array([image_id]), {"high": high}, {"low": low}, ())


def fill(layer: LayerSpec, path: Path, do: Do, batches: int = 9) -> None:
    with closing(LayerSink(layer, path, do)) as made:
        for number in range(batches):
            made.add(batch(number))
        assert made.finish() == batches * (3 if layer.kind == "local" else 1)


@pytest.mark.parametrize("layer", [LOCAL, GLOBAL], ids=["local", "global"])
def test_a_file_written_beside_has_the_bytes_of_one_written_at_once(
    layer: LayerSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "GROUP_BYTES", 50)
    fill(layer, tmp_path / "at once", at_once)
    made = LayerSink(layer, tmp_path / "beside", (beside := Beside()).do)
    with closing(made):
        with beside:
            for number in range(9):
                made.add(batch(number))
        made.finish()
    assert pq.ParquetFile(tmp_path / "beside").metadata.num_row_groups > 2
    assert (tmp_path / "beside").read_bytes() == (tmp_path / "at once").read_bytes()


def test_a_full_disk_is_met_by_whoever_adds_or_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no device that is always full")
    monkeypatch.setattr(sink, "GROUP_BYTES", 50)
    made = LayerSink(LOCAL, full, (beside := Beside()).do)
    with pytest.raises(OSError, match="No space left"), beside:  # noqa: PT012
        for number in range(9):
            made.add(batch(number))


def test_a_layer_without_a_row_has_no_file(tmp_path: Path) -> None:
    fill(LOCAL, tmp_path / "low", at_once, batches=0)
    assert not (tmp_path / "low").exists()
