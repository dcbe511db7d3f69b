"""Clusters: the nearest centre in float64, the same ones for the same seed."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lamella.pipeline.errors import DoesNotFit
from lamella.pipeline.export import clusters as clusters_module
from lamella.pipeline.export.clusters import NOWHERE, nearest_centres
from lamella.pipeline.export.write import Wanted, export_layers
from lamella.pipeline.store.local import LocalStore
from tests.pipeline.export.copied import Copied


@pytest.mark.parametrize("at_once", [clusters_module.COMPARED_AT_ONCE, 20])
def test_the_nearest_centre_is_that_of_float64(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Centres 1 and 2 differ by less than float32 can tell in a product; 3 is 1 again."""
    monkeypatch.setattr(clusters_module, "COMPARED_AT_ONCE", at_once)
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((5, 64)).astype(np.float32)
    centres[2] = centres[1]
    centres[2, 0] = np.nextafter(centres[1, 0], np.float32(9))
    centres[3] = centres[1]
    near = centres[1] + 0.1 * rng.standard_normal((40, 64))
    vectors = np.concatenate([near, rng.standard_normal((40, 64))]).astype(np.float32)
    found, cosines = nearest_centres(vectors, centres)
    wide, theirs = vectors.astype(np.longdouble), centres.astype(np.longdouble)
    slow = (wide @ theirs.T) / np.sqrt((wide**2).sum(1))[:, None] / np.sqrt((theirs**2).sum(1))
    assert found.tolist() == slow.argmax(axis=1).tolist()
    assert set(found[:40].tolist()) == {1, 2}  # float32 decides neither way
    np.testing.assert_allclose(cosines, np.clip(slow.max(axis=1), 0, 1).astype(float), atol=1e-14)


def test_a_vector_of_zeros_is_in_no_cluster() -> None:
    vectors = np.array([[0, 0], [0, 2]], np.float32)
    found, cosines = nearest_centres(vectors, np.eye(2, dtype=np.float32))
    assert (found.tolist(), cosines.tolist()) == ([NOWHERE, 1], [0.0, 1.0])


def test_clusters_of_a_layer_are_written_with_their_sizes(copied: Copied, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    tables = []
    for name in ("once", "again"):
        facts = export_layers(
            LocalStore(copied.cut),
            copied.snapshot_cut,
            tmp_path / name,
            Wanted(("head",), clusters=5, seed=3),
        )
        tables.append(pq.read_table(tmp_path / name / "head.clusters.parquet"))
    assert tables[0].equals(tables[1])
    found = tables[0]["cluster"].to_numpy()
    lines = (tmp_path / "once/head.cluster_sizes.csv").read_text().split()
    sizes = [int(line.split(",")[1]) for line in lines[1:]]
    assert lines[0] == "cluster,images"
    assert sizes == np.bincount(found, minlength=5).tolist()
    assert facts["layers"][0]["largest_cluster"] == max(sizes)
    centres = np.load(tmp_path / "once/head.centres.npy")
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1.0, atol=1e-6)
    vectors = pq.read_table(tmp_path / "once/head.parquet")["vector"].combine_chunks()
    again, cosines = nearest_centres(vectors.flatten().to_numpy().reshape(-1, 1280), centres)
    assert again.tolist() == found.tolist()
    assert cosines.tolist() == tables[0]["similarity"].to_pylist()
    copies = [n for n, name in enumerate(tables[0]["name"].to_pylist()) if "copy" in name]
    assert len(set(found[copies].tolist())) == 1
    assert max(sizes) >= len(copies)


def test_images_that_k_means_cannot_hold_are_refused(
    copied: Copied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr(clusters_module, "available_memory", lambda: 1_000)
    with pytest.raises(DoesNotFit, match="256 kB for 5 clusters of head, and 1 kB are free"):
        export_layers(
            LocalStore(copied.cut), copied.snapshot_cut, tmp_path / "out", Wanted(clusters=5)
        )
