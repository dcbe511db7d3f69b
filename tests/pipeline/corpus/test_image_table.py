"""An image table keeps a row for every picture, and a row leads back to its pixels."""

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import ValidationError

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.image_table import probe_entries, see_row
from lamella.pipeline.corpus.reader import EntryReader
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.resize import whole_look
from lamella.pipeline.corpus.sources import list_source
from lamella.schemas.corpus import IMAGES, SEEN, CorpusManifest, ShardRef
from lamella.schemas.files import FileRef
from lamella.schemas.refusals import RefusalReason

LIMITS = DecodeLimits()
ROBUSTNESS = Path(__file__).parents[3].parent / "shared/data/robustness"


def jpeg(seed: int, height: int = 20, width: int = 30) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def build(source: Path, limits: DecodeLimits = LIMITS) -> tuple[list[dict[str, Any]], int, str]:
    listing = list_source(str(source))
    table, seen, ignored = probe_entries(listing.root, listing.kind, listing.entries, limits)
    assert table.schema.equals(IMAGES)
    assert table.num_rows + ignored.total() == len(listing.entries) == seen.num_rows
    assert seen.schema.equals(SEEN)
    table.validate(full=True)
    return table.to_pylist(), ignored.total(), listing.root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "corpus"
    root.mkdir()
    for name, data in {
        "a.jpg": jpeg(1),
        "b.jpg": jpeg(2),
        "b_again.jpg": jpeg(2),
        "cut.jpg": jpeg(3)[:-200],
        "empty.png": b"",
        "page.jpg": b"<!DOCTYPE html>",
        "wrong_suffix.dat": jpeg(4),
        "labels.json": b"{}",
    }.items():
        (root / name).write_bytes(data)
    return root


def test_every_picture_has_a_row_and_other_files_none(folder: Path) -> None:
    rows, ignored, _ = build(folder)
    assert ignored == 1
    assert [(row["name"], row["refusal"]) for row in rows] == [
        ("a.jpg", None),
        ("b.jpg", None),
        ("b_again.jpg", None),
        ("cut.jpg", None),  # its header is whole: it is refused when it is decoded
        ("empty.png", "empty-file"),
        ("page.jpg", "not-an-image"),
        ("wrong_suffix.dat", None),
    ]
    first, again = rows[1], rows[2]
    assert first["sha256"] == again["sha256"] == hashlib.sha256(jpeg(2)).digest()
    assert (first["width"], first["height"], first["format"]) == (30, 20, "jpeg")
    assert first["size_bytes"] == len(jpeg(2))
    assert rows[4]["width"] is None


def pixels_of(reader: EntryReader, row: dict[str, Any]) -> Any:
    whole = whole_look(row["height"] or 1, row["width"] or 1)
    return see_row(reader, row, [whole], LIMITS)[0]


def outcomes(rows: list[dict[str, Any]], root: str) -> list[Any]:
    found: list[Any] = []
    with EntryReader(root) as reader:
        for row in rows:
            try:
                found.append(pixels_of(reader, row).tolist())
            except Refused as refused:
                found.append(refused.reason)
    return found


def test_tar_parquet_and_list_give_what_the_folder_gives(folder: Path, tmp_path: Path) -> None:
    paths = [path for path in sorted(folder.iterdir()) if path.suffix != ".json"]
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for path in paths:
            tar.add(path, path.name)
    (tmp_path / "x.txt").write_text("".join(f"corpus/{path.name}\n" for path in paths))
    names = [path.name for path in paths]
    data = [path.read_bytes() for path in paths]
    pq.write_table(pa.table({"bytes": data, "name": names}), tmp_path / "b.pq", row_group_size=3)
    pq.write_table(pa.table({"uri": [f"corpus/{name}" for name in names]}), tmp_path / "u.pq")

    rows, _, root = build(folder)
    expected = outcomes(rows, root)
    assert expected[3] is RefusalReason.TRUNCATED
    for source in ("x.tar", "x.txt", "b.pq", "u.pq"):
        other, ignored, root = build(tmp_path / source)
        assert ignored == 0
        assert outcomes(other, root) == expected
        assert [row["sha256"] for row in other] == [row["sha256"] for row in rows]


def test_in_lists_and_parquet_every_entry_counts(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_bytes(b"{}")
    (tmp_path / "x.txt").write_text("notes.json\n")
    pq.write_table(pa.table({"bytes": [b"{}"]}), tmp_path / "x.parquet")
    for source in ("x.txt", "x.parquet"):
        rows, ignored, _ = build(tmp_path / source)
        assert ([row["refusal"] for row in rows], ignored) == (["not-an-image"], 0)


def test_a_refused_name_keeps_its_row(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in ("../a.jpg", "../a.json", "b.jpg"):
            member = tarfile.TarInfo(name)
            member.size = len(jpeg(1))
            tar.addfile(member, io.BytesIO(jpeg(1)))
    rows, ignored, _ = build(tmp_path)
    assert [row["refusal"] for row in rows] == ["outside-source", None]
    assert ignored == 1
    assert rows[0]["sha256"] is None


def test_a_file_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    (tmp_path / "video.bin").write_bytes(bytes(10_000))
    (row,), ignored, _ = build(tmp_path, DecodeLimits(max_bytes=100))
    assert (row["refusal"], row["sha256"], ignored) == ("too-large-file", None, 1)
    assert row["size_bytes"] == len(jpeg(1))


def test_bytes_that_changed_are_refused(folder: Path) -> None:
    rows, _, root = build(folder)
    (folder / "a.jpg").write_bytes(jpeg(9))
    (folder / "b.jpg").unlink()
    found = outcomes(rows, root)
    assert found[0] is RefusalReason.CHANGED
    assert found[1] is RefusalReason.MISSING


def test_no_rows_make_an_empty_table(tmp_path: Path) -> None:
    table, seen, ignored = probe_entries(str(tmp_path), "folder", [], LIMITS)
    assert seen.num_rows == 0
    assert (table.num_rows, ignored.total()) == (0, 0)
    assert table.schema.equals(IMAGES)


OUTCOMES: dict[str, tuple[str, int, int] | RefusalReason] = {
    "Iggy.1024.ppm": ("pnm", 1024, 1024),
    "baboon.pgm": ("pnm", 512, 512),
    "copyleft.tiff": ("tiff", 220, 220),
    "giphy.gif": ("gif", 314, 400),
    "marbles.pbm": ("pnm", 1152, 813),
    "threadless_pattern_206.orphan.jpg": ("jpeg", 250, 272),
    "threadless_pattern_239.orphan.jpg": ("jpeg", 250, 272),
    "threadless_pattern_662.orphan.jpg": ("jpeg", 250, 272),
    "threadless_worn_206.not-an-image.jpg": RefusalReason.NOT_AN_IMAGE,
    "threadless_worn_239.not-an-image.jpg": RefusalReason.NOT_AN_IMAGE,
    "threadless_worn_662.not-an-image.jpg": RefusalReason.NOT_AN_IMAGE,
    "ukbench09268_corrupt.jpg": RefusalReason.NOT_AN_IMAGE,  # its first bytes are noise
    "ukbench09380.bmp": ("jpeg", 640, 480),
    "ukbench09380.jpeg": ("jpeg", 640, 480),
    "ukbench09380.png": ("jpeg", 640, 480),
    "ukbench09380.svg": ("jpeg", 640, 480),
    "ukbench09380.webp": ("webp", 640, 480),
}


@pytest.mark.skipif(not ROBUSTNESS.is_dir(), reason="the shared photographs are not here")
def test_each_hard_file_has_its_expected_outcome() -> None:
    rows, ignored, root = build(ROBUSTNESS)
    assert ignored == 0
    assert [row["name"] for row in rows] == sorted(OUTCOMES)
    with EntryReader(root) as reader:
        for row in rows:
            expected = OUTCOMES[row["name"]]
            if isinstance(expected, RefusalReason):
                assert row["refusal"] == expected
            else:
                assert (row["format"], row["width"], row["height"]) == expected
                pixels = pixels_of(reader, row)
                assert pixels.shape == (expected[2], expected[1], 3)
                assert pixels.std() > 1


def shard(key: str, images: int, **changes: Any) -> ShardRef:
    file = FileRef(path=f"{key}.parquet", size_bytes=1, sha256="0" * 64, rows=images)
    facts = {"refused": 1, "ignored": 2, "file": file, **changes}
    return ShardRef(key=key * 16, images=images, first="a", last="b", mark=1, **facts)


def manifest(*shards: ShardRef, **changes: Any) -> CorpusManifest:
    totals: dict[str, Any] = {
        field: sum(getattr(part, field) for part in shards)
        for field in ("images", "refused", "ignored")
    }
    facts = {"name": "places", "root": "/x", "kind": "folder", "content_digest": "0" * 64}
    return CorpusManifest(shards=shards, **{**facts, **totals, **changes})


def test_a_manifest_survives_its_json() -> None:
    whole = manifest(shard("0", 3), shard("1", 2))
    assert CorpusManifest.from_json(whole.to_json()) == whole


def test_a_manifest_that_does_not_add_up_is_refused() -> None:
    first = shard("0", 3)
    with pytest.raises(ValidationError, match="images is 6; the shards add up to 3"):
        manifest(first, images=6)
    with pytest.raises(ValidationError, match="refuses 4 of 3 images"):
        shard("0", 3, refused=4)
    with pytest.raises(ValidationError, match=r"has 3 images, 0[.]parquet 2 rows"):
        shard("0", 3, file=shard("0", 2).file)
