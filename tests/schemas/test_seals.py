"""A record shows a change of any of its bytes, and says which version wrote it."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.pipeline.errors import CorruptFile, NewerFormat
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.records import is_sealed, read_record, sealed_text
from lamella.schemas.base import (
    FORMAT_VERSION,
    BrokenRecord,
    NewerRecord,
    OlderRecord,
    canonical_json,
    digest_of,
)
from lamella.schemas.files import DoneRecord, FileRef
from lamella.schemas.snapshot import Promotion
from lamella.schemas.vocabulary import Vocabulary

DONE = DoneRecord(
    stage="extract",
    key="00001",
    inputs="i" * 64,
    files={"b11": FileRef(path="a/1.t.parquet", size_bytes=9, sha256="a" * 64, rows=2)},
    counts={"images": 16},
    commit_id="c" * 12,
)
WORDS = Vocabulary(
    layer="b11", words=3, words_requested=4, dimensions=2, spec="s", extraction="e", rounds=()
)


def test_a_record_holds_its_seal_and_its_version_and_neither_is_in_its_digest() -> None:
    value = json.loads(WORDS.to_json())
    assert value.pop("seal") == digest_of(value)
    assert value.pop("format_version") == FORMAT_VERSION  # it is no field of a vocabulary
    assert WORDS.digest() == digest_of(value)
    assert Vocabulary.from_json(WORDS.to_json()) == WORDS
    assert DoneRecord.from_json(DONE.to_json()) == DONE


def test_every_flip_of_every_bit_of_a_record_is_seen() -> None:
    data = DONE.to_json()
    for place in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[place] ^= 1 << bit
            # A flip may make the version a newer one, which is refused as well.
            with pytest.raises((BrokenRecord, NewerRecord, OlderRecord)):
                DoneRecord.from_json(bytes(flipped))


@given(st.integers(0, len(DONE.to_json())), st.integers(0, 40), st.binary(max_size=40))
def test_no_other_bytes_are_taken_for_a_record(start: int, length: int, put: bytes) -> None:
    data = DONE.to_json()
    changed = data[:start] + put + data[start + length :]
    if changed != data:
        with pytest.raises((BrokenRecord, NewerRecord, OlderRecord)):
            DoneRecord.from_json(changed)


def test_equal_values_in_other_bytes_are_not_what_was_written() -> None:
    loose = json.dumps(json.loads(DONE.to_json()), indent=1).encode()
    with pytest.raises(BrokenRecord, match="not in canonical JSON"):
        DoneRecord.from_json(loose)


def test_a_record_without_a_seal_is_refused() -> None:
    with pytest.raises(BrokenRecord, match=r"have SHA-256 [0-9a-f]{12}, its seal is missing"):
        DoneRecord.from_json(canonical_json(DONE.model_dump(mode="json")))


def test_a_newer_version_is_named_before_anything_else_is_judged() -> None:
    newer = canonical_json({"format_version": FORMAT_VERSION + 1, "colour": "red", "seal": "?"})
    with pytest.raises(NewerRecord, match=r"in format version 3, this Lamella reads up to 2"):
        Promotion.from_json(newer)


def test_an_older_version_is_named_before_anything_else_is_judged() -> None:
    older = canonical_json({"format_version": FORMAT_VERSION - 1, "colour": "red", "seal": "?"})
    with pytest.raises(OlderRecord, match=r"in format version 1, this Lamella reads 2"):
        Promotion.from_json(older)


def test_a_broken_record_names_its_file_and_the_way_out(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.create("s/done/1.json", DONE.to_json().replace(b"16", b"17"))
    with pytest.raises(
        CorruptFile,
        match=r"s/done/1\.json was changed .* SHA-256 \w{12}, its seal says .\w{12}.; "
        rf"`lamella verify {re.escape(store.url)}` names the command",
    ):
        read_record(store, "s/done/1.json", DoneRecord)
    store.create("s/done/2.json", b'{"format_version":7}')
    with pytest.raises(
        NewerFormat, match=r"s/done/2\.json: .* version 7, .* up to 2: use the newer"
    ):
        read_record(store, "s/done/2.json", DoneRecord)
    broken = DONE.to_json().replace(b'"rows":2', b'"rows":-2')
    value = json.loads(broken)
    del value["seal"]
    store.create("s/done/3.json", canonical_json(value | {"seal": digest_of(value)}))
    with pytest.raises(
        CorruptFile,
        match=r"s/done/3\.json breaks a rule of its kind: files\.b11\.rows: Input should be",
    ):
        read_record(store, "s/done/3.json", DoneRecord)


def test_every_flip_of_a_sealed_page_is_seen() -> None:
    page = sealed_text("<p>a page</p>\n")
    assert is_sealed(page)
    for place in range(len(page)):
        flipped = bytearray(page)
        flipped[place] ^= 1
        assert not is_sealed(bytes(flipped))
    assert not is_sealed(page[:-1])
    assert not is_sealed(page + b" ")
