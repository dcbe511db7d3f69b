"""Arrays from elsewhere: the one that was promised, or one line that says why not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lamella.pipeline.errors import InputError
from lamella.pipeline.store.commit import sha256_of
from lamella.pipeline.vocabulary.arrays import read_array
from tests.pipeline.vocabulary.vectors import clustered

WORDS = clustered(90, 12, 30, seed=1)


def refusal(path: Path, sha256: str | None = None) -> str:
    """Return what is said of a file that should hold `WORDS`, whose digest is right by default."""
    known = sha256 or sha256_of(path)
    with pytest.raises(InputError) as raised:
        read_array(path, known, "<f4", (90, 12))
    text = str(raised.value)
    assert "\n" not in text
    assert len(text) < 600
    return text


def with_header(header: bytes, version: tuple[int, int] = (1, 0)) -> bytes:
    length = len(header).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + length + header


HEADERS = [
    b"",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (90, 12)",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (-90, -12), }",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (0x" + b"f" * 8_000 + b",), }",
    b"{'descr': '<f4', 'shape': (90, 12), }",
    b"{'descr': 'no', 'fortran_order': False, 'shape': (90, 12), }",
    b"__import__('os').system('true')",
    b"(" * 9_000,
    b"-" * 9_000 + b"1",
    b"\x00" * 64,
    b"'''",
    b"{" + b"1:" * 3_000,
    b" " * 20_000,
]


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_that_is_none_is_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "b11.npy"
    path.write_bytes(with_header(header) + WORDS.tobytes())
    assert "is no array in NumPy's format" in refusal(path)


def test_an_array_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b11.npy"
    said: list[tuple[NDArray[Any], str]] = [
        (WORDS.astype(np.float64), "holds float64"),
        (WORDS.astype(np.float16), "holds float16"),
        (WORDS.astype(">f4"), "holds >f4"),
        (WORDS.astype(object), "holds object"),
        (WORDS.reshape(-1), r"shape (1080,)"),
        (WORDS[:, :11], "shape (90, 11)"),
        (np.zeros(90, [(f"field{n}", "<f4") for n in range(99)]), "holds [('field0', '<f4')"),
    ]
    for array, text in said:
        np.save(path, array)
        assert text in refusal(path)


def test_columns_first_gives_the_same_array(tmp_path: Path) -> None:
    path = tmp_path / "b11.npy"
    np.save(path, np.asfortranarray(WORDS))
    read = read_array(path, sha256_of(path), "<f4", (90, 12))
    assert read.tobytes() == WORDS.tobytes()
    assert read.flags.c_contiguous


def test_headers_of_records_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "b11.npy"
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (90, 12), }"
    path.write_bytes(with_header(header, (2, 0)) + WORDS.tobytes())
    assert "is in version 2.0 of NumPy's format" in refusal(path)


def test_an_array_that_was_cut_or_changed_is_refused(tmp_path: Path) -> None:
    array = tmp_path / "b11.npy"
    np.save(array, WORDS)
    sha256, whole = sha256_of(array), array.read_bytes()
    array.write_bytes(whole[:-4])
    assert "has 4,444 bytes, and such an array 4,448" in refusal(array, sha256)
    array.write_bytes(whole + b"\0")
    assert "has 4,449 bytes" in refusal(array, sha256)
    array.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "it was changed, copy it again" in refusal(array, sha256)
    array.unlink()
    assert "is not there, and the JSON names it" in refusal(array, sha256)
    array.mkdir()
    assert "is not there" in refusal(array, sha256)


def test_any_changed_byte_of_a_header_is_refused_or_changes_no_number(tmp_path: Path) -> None:
    path = tmp_path / "b11.npy"
    np.save(path, WORDS)
    whole, draw = path.read_bytes(), np.random.default_rng(5)
    for _ in range(500):
        changed = bytearray(whole)
        changed[draw.integers(128)] = draw.integers(256)
        path.write_bytes(changed)
        try:
            read = read_array(path, sha256_of(path), "<f4", (90, 12))
        except InputError:
            refusal(path)
        else:
            assert read.tobytes() == WORDS.tobytes()
