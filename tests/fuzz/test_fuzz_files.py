"""Whatever stands in a picture, container, list or weights file: a result or a named refusal."""

import hashlib
import io
import json
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from lamella.pipeline.corpus import sandbox
from lamella.pipeline.corpus.decode import DecodeLimits, plain_jpeg_size
from lamella.pipeline.corpus.formats import sniff, webp_size
from lamella.pipeline.corpus.image_table import probe_entries
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.resize import whole_look
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.errors import InputError
from lamella.pipeline.extract.jpegs import decode_jpegs, plain_jpeg
from lamella.pipeline.networks.weights import load_state
from tests.fuzz.fuzzing import EDITS, ODD, Edit, as_json, drawn, edited, fuzz, one_line, replaced
from tests.mutations import in_every_format

LIMITS = DecodeLimits(max_pixels=1_000_000, max_bytes=1_000_000, max_seconds=20.0)
PIXELS = np.random.default_rng(11).integers(0, 256, (24, 32, 3), dtype=np.uint8)
PICTURES = in_every_format(Image.fromarray(PIXELS))


@drawn(300)
def test_pictures_are_seen_or_refused(examples: int) -> None:
    def pictures(seed: bytes, edits: list[Edit], tail: bytes) -> None:
        data = edited(seed, edits) + tail
        try:
            found = sandbox.probe(data, LIMITS)
            size = (found.height, found.width)
            (seen,) = sandbox.see(data, size, [whole_look(8, 8)], LIMITS)
        except Refused:
            return
        assert seen.shape == (8, 8, 3)

    fuzz(pictures, st.sampled_from(PICTURES), EDITS, st.binary(max_size=40), examples=examples)


@drawn(300)
def test_jpegs_are_decoded_outside_the_sandbox_or_left_to_it(examples: int) -> None:
    jpegs = [data for data in PICTURES if sniff(data) == "jpeg"]

    def pictures(seed: bytes, edits: list[Edit], tail: bytes) -> None:
        data = edited(seed, edits) + tail
        size = plain_jpeg_size(data)
        if size is None or size[0] * size[1] > LIMITS.max_pixels:
            return
        jpeg = plain_jpeg(data, size, [whole_look(8, 8)], None)
        for seen in filter(None, decode_jpegs([jpeg] if jpeg else [], torch.device("cpu"))):
            assert [each.shape for each in seen] == [(8, 8, 3)]

    fuzz(pictures, st.sampled_from(jpegs), EDITS, st.binary(max_size=40), examples=examples)


@drawn(300)
def test_any_start_of_a_file_is_told_or_unknown(examples: int) -> None:
    def starts(start: bytes, rest: bytes) -> None:
        data = start + rest
        assert sniff(data) is None or isinstance(sniff(data), str)
        webp_size(data)

    parts = [data[:30] for data in PICTURES]
    parts += [b"<?xml ", b"<!--", b"-->", b"<!DOCTYPE svg ", b"<svg", b"P1 ", b"\xff\xfe", b"ftyp"]
    start = st.lists(st.sampled_from(parts) | st.binary(max_size=9), max_size=99).map(b"".join)
    fuzz(starts, start, st.binary(max_size=50), examples=examples)


def a_tar() -> bytes:
    """Return a tar with headers of several kinds."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("a.png", "folder/" + "n" * 150 + ".png", "é.png"):
            member = tarfile.TarInfo(name)
            member.size = len(PICTURES[3])
            member.pax_headers = {"comment": "x", "mtime": "1.5"} if name == "é.png" else {}
            tar.addfile(member, io.BytesIO(PICTURES[3]))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "a.png"
        tar.addfile(link)
    return buffer.getvalue()


def a_parquet(table: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


_STRUCTS = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
CONTAINERS = [
    ("x.tar", a_tar()),
    ("p.parquet", a_parquet(pa.table({"image": PICTURES[:4], "name": list("abcd")}))),
    (
        "p.parquet",
        a_parquet(
            pa.table(
                {"image": pa.array([{"bytes": PICTURES[0], "path": "a"}, None] * 3, _STRUCTS)}
            ),
            compression="zstd",
            row_group_size=2,
        ),
    ),
    ("p.parquet", a_parquet(pa.table({"uri": ["a.png", "b.png"] * 9}), use_dictionary=True)),
    ("x.txt", "a.png\n# note\nfile:///nowhere/é.png\n../x.png\n".encode()),
]


@drawn(300)
def test_containers_are_listed_and_read_or_refused(tmp_path: Path, examples: int) -> None:
    def containers(seed: tuple[str, bytes], edits: list[Edit], from_end: bool) -> None:
        name, data = seed
        if from_end:  # Parquet says what it is at its end
            edits = [(len(data) - where % 2_000, what, number) for where, what, number in edits]
        (tmp_path / name).write_bytes(edited(data, edits))
        try:
            listing = list_source(str(tmp_path / name))
        except InputError as error:
            one_line(error)
            return
        assert len(listing.digest()) == 64
        table, _, ignored = probe_entries(listing.root, listing.kind, listing.entries[:50], LIMITS)
        assert table.num_rows + ignored.total() == len(listing.entries[:50])

    fuzz(containers, st.sampled_from(CONTAINERS), EDITS, st.booleans(), examples=examples)


WEIGHTS = save({"a.weight": torch.ones(4, 3), "b": torch.zeros(2, dtype=torch.float16)})


def state_or_refusal(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        state = load_state(path, hashlib.sha256(data).hexdigest())
    except InputError as error:
        one_line(error)
    else:
        assert all(tensor.dtype == torch.float32 for tensor in state.values())


@drawn(350)
def test_weights_are_read_or_refused(tmp_path: Path, examples: int) -> None:
    length = struct.unpack("<Q", WEIGHTS[:8])[0]
    header = json.loads(WEIGHTS[8 : 8 + length])

    def weights(edits: list[Edit], where: int, odd: Any, claimed: int) -> None:
        path = tmp_path / "w.safetensors"
        state_or_refusal(path, edited(WEIGHTS, edits))
        text = as_json(replaced(header, where, odd))
        state_or_refusal(path, struct.pack("<Q", len(text)) + text + WEIGHTS[8 + length :])
        state_or_refusal(path, struct.pack("<Q", claimed) + WEIGHTS[8:])

    sizes = st.integers(0, 2**64 - 1) | st.integers(0, 300)
    fuzz(weights, EDITS, st.integers(0, 60), ODD, sizes, examples=examples)


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
@drawn(100)
def test_weights_in_torch_s_own_format_are_read_or_refused(
    tmp_path: Path, suffix: str, examples: int
) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(3)}, buffer)

    def pickled(edits: list[Edit]) -> None:
        state_or_refusal(tmp_path / f"w{suffix}", edited(buffer.getvalue(), edits))

    fuzz(pickled, EDITS, examples=examples)
