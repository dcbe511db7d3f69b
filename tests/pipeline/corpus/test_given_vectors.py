import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lamella.pipeline.corpus.entries import Entry
from lamella.pipeline.corpus.given_vectors import GivenVectors, file_and_column, open_vectors
from lamella.pipeline.corpus.vector_listing import list_vectors, vector_rows, vectors_by_name
from lamella.pipeline.errors import InputError
from lamella.pipeline.run.later import Later
from lamella.schemas.refusals import RefusalReason
from tests.pipeline.corpus.vectors import FORMATS, NAMES, VECTORS, npy, parquet, table


def opened(path: Path) -> GivenVectors:
    return open_vectors(str(path))


@pytest.mark.parametrize("write", FORMATS)
def test_vectors_are_found_by_name_in_any_order(write: Callable[..., Path], tmp_path: Path) -> None:
    given = opened(write(tmp_path, NAMES, VECTORS))
    assert (len(given), given.dimensions) == (5, 6)
    found, faults = given.of(["e.jpg", "nobody", "a.jpg"])
    assert found[[0, 2]].tobytes() == VECTORS[[4, 1]].tobytes()
    assert not found[1].any()
    assert [fault and fault.reason for fault in faults] == [None, RefusalReason.NO_VECTOR, None]


def test_the_digest_is_that_of_names_and_vectors_not_of_the_file(tmp_path: Path) -> None:
    order = [3, 0, 4, 1, 2]
    (tmp_path / "turned").mkdir()
    turned = parquet(tmp_path / "turned", [NAMES[n] for n in order], VECTORS[order])
    digests = {opened(write(tmp_path, NAMES, VECTORS)).sha256 for write in FORMATS}
    assert digests == {opened(turned).sha256}
    other = VECTORS.copy()
    other[2, 3] += 1e-3
    assert opened(parquet(tmp_path, NAMES, other)).sha256 not in digests
    renamed = [*NAMES[:-1], "f.jpg"]
    assert opened(parquet(tmp_path, renamed, VECTORS)).sha256 not in digests
    swapped = [NAMES[1], NAMES[0], *NAMES[2:]]
    assert opened(parquet(tmp_path, swapped, VECTORS)).sha256 not in digests


def test_vectors_that_cannot_be_compared_are_counted_and_refused_with_a_reason(
    tmp_path: Path,
) -> None:
    vectors = VECTORS.astype(np.float64)
    vectors[0, 1], vectors[1, :2], vectors[2], vectors[3, 0] = np.nan, np.inf, 0.0, 1e300
    given = opened(parquet(tmp_path, NAMES, vectors))
    assert given.bad == 4
    faults = given.of(NAMES)[1]
    assert [fault and fault.detail for fault in faults] == [
        "1 of its 6 numbers are not finite",
        "2 of its 6 numbers are not finite",
        "it is all zeros",
        "1 of its 6 numbers are not finite",
        None,
    ]
    length = float(np.linalg.norm(VECTORS[4].astype(np.float64)))
    assert given.norms == pytest.approx((length, length, length))


def test_the_lengths_of_vectors_are_told(tmp_path: Path) -> None:
    vectors = np.array([[3, 4], [6, 8], [0, 1]], np.float32)  # of length 5, 10 and 1
    given = opened(parquet(tmp_path, ["a", "b", "c"], vectors))
    assert given.norms == (1, 5, 10)
    assert "3 vectors of 2 numbers, norms from 1 to 10, median 5" in given.summary()


def test_a_name_that_stands_twice_is_told_with_its_rows(tmp_path: Path) -> None:
    path = parquet(tmp_path, ["c", "a", "b", "a", "c"], VECTORS)
    with pytest.raises(InputError, match=r"'a' is named in row 2 and in row 4, and 2 rows in all"):
        opened(path)


def test_an_array_stays_where_it_is_and_may_not_change_meanwhile(tmp_path: Path) -> None:
    path = npy(tmp_path, NAMES, VECTORS)
    given = opened(path)
    assert given.vectors.filename == path  # type: ignore[attr-defined]
    os.utime(path, ns=(1, 1))
    with pytest.raises(InputError, match=r"x\.npy changed while they were read"):
        given.of(["a.jpg"])


def test_a_file_is_named_with_a_column_unless_it_is_called_so(tmp_path: Path) -> None:
    assert file_and_column("a/x.parquet:emb") == (Path("a/x.parquet"), "emb")
    assert file_and_column("a/x.parquet") == (Path("a/x.parquet"), None)
    path = tmp_path / "x:y"
    pq.write_table(table(NAMES, VECTORS), path)
    assert file_and_column(str(path)) == (path, None)
    assert open_vectors(f"{path}:embedding").place == f"{path}:embedding"
    with pytest.raises(InputError, match=r"a file on this machine; got s3://b/x.parquet: copy it"):
        file_and_column("s3://b/x.parquet")


def test_vectors_alone_are_listed_by_name_with_a_version_that_is_their_content(
    tmp_path: Path,
) -> None:
    listing = list_vectors(opened(parquet(tmp_path, NAMES, VECTORS)))
    assert [entry.name for entry in listing.entries] == sorted(NAMES, key=str.encode)
    changed = VECTORS.copy()
    changed[0] *= 2
    again = list_vectors(opened(parquet(tmp_path, NAMES, changed)))
    pairs = zip(listing.entries, again.entries, strict=True)
    assert [one.name for one, two in pairs if one != two] == ["b.jpg"]
    assert listing.digest() != again.digest()


def test_the_row_of_a_vector_is_made_of_its_bytes(tmp_path: Path) -> None:
    vectors = VECTORS.copy()
    vectors[1] = 0
    given = opened(parquet(tmp_path, NAMES, vectors))
    entries = [Entry("b.jpg"), Entry("a.jpg"), Entry("x", fault=RefusalReason.BAD_NAME)]
    good, zeros, unnamed = vector_rows(vectors_by_name(given, entries), entries)
    assert (good["width"], good["height"], good["size_bytes"]) == (6, 1, 24)
    assert (good["format"], good["refusal"]) == ("vector", None)
    assert (zeros["refusal"], zeros["detail"]) == ("bad-vector", "it is all zeros")
    assert (unnamed["refusal"], unnamed["sha256"]) == ("bad-name", None)


def test_what_is_read_later_goes_to_a_worker_as_it_is() -> None:
    calls: list[int] = []

    def make() -> int:
        calls.append(1)
        return len(calls)

    later = Later(make)
    assert calls == []
    there = pickle.loads(pickle.dumps(later))
    assert (there(), there(), len(calls)) == (1, 1, 1)
    assert later() == 2
