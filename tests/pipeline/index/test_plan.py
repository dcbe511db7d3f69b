from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lamella.pipeline.errors import InputError
from lamella.pipeline.index.plan import check_segments, segment_memory
from lamella.pipeline.index.residuals import bytes_of
from lamella.pipeline.run.budget import PROCESS_BYTES
from lamella.pipeline.store.commit import attempt
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.tables import binary_vectors_column, write_parquet
from lamella.schemas.extraction import LayerSpec
from lamella.schemas.files import DoneRecord

LAYERS = (
    LayerSpec(name="high", node="fc", kind="global"),
    LayerSpec(name="low", node="conv", kind="local"),
)
IMAGES, WORDS, WIDTH = 1_000, 219_000, 1_280


def records(store: LocalStore) -> tuple[DoneRecord, DoneRecord]:
    """Records of a shard of so many images; its file holds one vector, which tells the width."""
    vector = binary_vectors_column(np.zeros((1, WIDTH), np.float32))
    table = pa.table({"image_id": [0], "vector": vector})
    with attempt(store, "activations/a-0", "extract", "00000", "0") as work:
        work.write("high", "activations/a-0/high", "parquet", partial(write_parquet, table))
        extracted = work.finish(indexed=IMAGES)
    with attempt(store, "bags/b-0", "encode", "00000", "0") as work:
        encoded = work.finish(**{"words.low": WORDS})
    return extracted, encoded


def test_memory_by_hand() -> None:
    needed = segment_memory(IMAGES, {"low": WORDS}, {"high": WIDTH})
    # 4 bytes a number held, twice more while a layer is read; a bag's entry is 8 bytes, twice.
    # A sketch is 256 float32, 256 bytes and 1,280 bytes an image: 2.56 MB; postings are 1.75 MB.
    assert needed == {
        "process": PROCESS_BYTES,
        "vectors": 5_120_000,
        "vectors as they are read": 10_240_000,
        "bags": 3_504_000,
        "sketch or postings": 2_560_000,
    }
    assert segment_memory(IMAGES, {"low": WORDS}, {})["sketch or postings"] == 8 * WORDS
    with_residuals = segment_memory(IMAGES, {"low": WORDS}, {}, {"low": bytes_of(64, "float16")})
    assert with_residuals["residuals"] == 2 * 128 * WORDS
    assert bytes_of(65, "bits") == 9


def test_a_segment_without_room_is_refused_with_what_would_fit(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    extracted, encoded = records(store)
    needed = sum(segment_memory(IMAGES, {"low": WORDS}, {"high": WIDTH}).values())
    segments = [((extracted,), (encoded,))]
    check_segments(store, LAYERS, segments, needed)
    half = PROCESS_BYTES + (needed - PROCESS_BYTES) // 2
    with pytest.raises(InputError, match=r"a segment of 1,000 images .* some (499|500) would fit"):
        check_segments(store, LAYERS, segments, half)
    with pytest.raises(InputError, match="some 0 would fit"):
        check_segments(store, LAYERS, segments, 1)
