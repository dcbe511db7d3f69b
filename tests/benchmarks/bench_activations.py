"""What activations cost: in Parquet by codec and encoding; and not at all, in one pass to words.

200 real photographs of UKB through EfficientNet-Lite0, 5,000 words.
"""

import shutil
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lamella.pipeline.index.promotions import current_snapshot
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.tables import read_parquet
from lamella.pipeline.vocabulary.exchange import export_vocabulary
from tests.benchmarks.descriptors import SHARED
from tests.benchmarks.record import Measurement, write_record
from tests.builders import index_into, small_job

PICTURES = 200
GROUP_ROWS = 25_000
REPEATS = 3
CODECS: tuple[dict[str, Any], ...] = (
    {"compression": "none"},
    {"compression": "lz4"},
    *({"compression": "zstd", "compression_level": level} for level in (-5, 1, 3)),
    {"compression": "zstd", "compression_level": 1, "use_byte_stream_split": ["vector"]},
    {"compression": "zstd", "compression_level": 1, "use_dictionary": ["vector"]},
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = sorted((SHARED / "data/ukbench/full").glob("*.jpg"))[:PICTURES]
    if not found:
        pytest.skip("the photographs are in ../shared/data")
    folder = tmp_path_factory.mktemp("bench") / "pictures"
    folder.mkdir()
    for path in found:
        shutil.copyfile(path, folder / path.name)
    return folder


@pytest.fixture(scope="module")
def trained(pictures: Path) -> Path:
    """A store with all activations, and 5,000 words of them exported beside it."""
    settings = {"vocabulary__words": 5_000, "vocabulary__rounds": 10}
    store = pictures.parent / "trained"
    index_into(store, pictures, job=job_of(**settings))
    snapshot = current_snapshot(LocalStore(store))
    assert snapshot is not None
    export_vocabulary(
        LocalStore(store),
        snapshot.vocabularies["b11"],
        snapshot.extraction,
        pictures.parent / "words",
    )
    return store


def job_of(**settings: object) -> Any:
    return small_job(corpus__shard_images=50, index__segment_images=20_000, **settings)


@pytest.mark.bench
def test_codecs_and_encodings(trained: Path) -> None:
    measurements = []
    for layer in ("b11", "head"):
        paths = sorted(trained.glob(f"activations/*/{layer}/*.parquet"))
        table = pa.concat_tables([read_parquet(path) for path in paths]).combine_chunks()
        path = trained.parent / "tried.parquet"
        for codec in CODECS:
            took = [_write_and_read(table, path, codec) for _ in range(REPEATS)]
            wrote, read = (min(each) for each in zip(*took, strict=True))
            name = " ".join(str(value) for value in codec.values())
            if "use_byte_stream_split" in codec or "use_dictionary" in codec:
                name = f"{name} {[*codec][-1]}"
            size = path.stat().st_size
            print(
                f"{layer} {name}: {size / PICTURES:,.0f} bytes a picture, of raw "
                f"{size / table.nbytes:.3f}; CPU ms a picture {wrote * 1e3 / PICTURES:.2f} to "
                f"write, {read * 1e3 / PICTURES:.2f} to read",
                flush=True,
            )
            sizes = {"pictures": PICTURES, "rows": table.num_rows, "bytes": size}
            measurements.append(
                Measurement(
                    f"{layer} {name}",
                    sizes,
                    table.nbytes / wrote / 1e6,
                    table.nbytes / read / 1e6,
                    "reading it back",
                    "MB/s of CPU time",
                )
            )
    write_record("activations_parquet.json", measurements)


def _write_and_read(table: Any, path: Path, codec: dict[str, Any]) -> tuple[float, float]:
    """Return the seconds of CPU time that writing and reading take; both run in one thread."""
    options = {"use_dictionary": False, "write_page_checksum": True} | codec
    start = time.process_time()
    with pq.ParquetWriter(path, table.schema, **options) as writer:
        writer.write_table(table, row_group_size=GROUP_ROWS)
    written = time.process_time()
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for group in range(file.num_row_groups):
            file.read_row_group(group, use_threads=False)
    return written - start, time.process_time() - written


@pytest.mark.bench
@pytest.mark.usefixtures("trained")
def test_one_pass_beside_two(pictures: Path) -> None:
    words = str(pictures.parent / "words")
    seconds: dict[str, list[float]] = {"all": [], "none": []}
    sizes: dict[str, int] = {}
    digests = set()
    for number in range(2):
        for keep, took in seconds.items():
            store = pictures.parent / f"{keep}-{number}"
            job = job_of(vocabulary_from=words, activations__keep=keep)
            start, cpu = time.perf_counter(), time.process_time()
            digests.add(index_into(store, pictures, job=job, threads=2).root_digest)
            took.append(time.process_time() - cpu)
            wall = time.perf_counter() - start
            print(f"{keep}: {wall:.1f} s, {took[-1]:.1f} s of CPU time", flush=True)
            sizes[keep] = sum(
                path.stat().st_size
                for folder in ("activations", "bags")
                for path in (store / folder).rglob("*")
                if path.is_file()
            )
    print(sizes)
    assert len(digests) == 1
    write_record(
        "one_pass.json",
        [
            Measurement(
                "pictures to a snapshot, words given",
                {"pictures": PICTURES, "words": 5_000, "bytes": sizes["none"]}
                | {"bytes of two passes": sizes["all"]},
                PICTURES / min(seconds["none"]),
                PICTURES / min(seconds["all"]),
                "two passes",
                "pictures/s of CPU time, decoding not counted",
            )
        ],
    )
