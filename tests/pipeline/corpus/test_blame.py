"""A picture is refused for a fault of its own; for the machine's, the task fails by name."""

import errno
import io
import os
import resource
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lamella.pipeline.corpus import child_process, locations, reader, sandbox
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.image_table import probe_entries, see_row
from lamella.pipeline.corpus.listing import Entry
from lamella.pipeline.corpus.reader import EntryReader, read_entry
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.resize import whole_look
from lamella.pipeline.corpus.sandbox import Sandbox
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.errors import (
    DecoderUnavailable,
    InputError,
    SourceGone,
    StoreError,
    StoreUnavailable,
)
from lamella.schemas.refusals import RefusalReason
from tests.limited_child import ROOM_BYTES

ROUGH = np.random.default_rng(5).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def saved(pixels: np.ndarray, format_name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format_name, **options)
    return buffer.getvalue()


SMALL = saved(ROUGH, "PNG")


def see(data: bytes, size: tuple[int, int], limits: DecodeLimits | None = None) -> np.ndarray:
    return sandbox.see(data, size, [whole_look(8, 8)], limits or DecodeLimits())[0]


@contextmanager
def open_files_used_up() -> Iterator[None]:
    """Let no file be opened in this process, as when a limit on open files is reached."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def limited() -> Iterator[Sandbox]:
    with pytest.MonkeyPatch.context() as patch:
        made = Sandbox("tests.limited_child")
        patch.setattr(sandbox, "_sandbox", made)
        yield made
        made.close()


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    made = Sandbox()
    monkeypatch.setattr(sandbox, "_sandbox", made)
    yield made
    made.close()


def test_a_plain_user_under_a_hard_limit_on_memory_decodes(limited: Sandbox) -> None:
    for name in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM"):
        assert see(saved(ROUGH, name), (30, 40)).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("format_name", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("JPEG", {"progressive": True}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_a_sound_picture_for_which_the_machine_has_no_room_is_not_refused(
    limited: Sandbox, format_name: str, options: dict[str, object]
) -> None:
    pixels = np.kron(ROUGH, np.ones((150, 150, 1), np.uint8))  # 81 MB before any step between
    data = saved(pixels, format_name, **options)
    with pytest.raises(DecoderUnavailable, match=r"lower corpus\.max_memory"):
        see(data, (4500, 6000))


def test_under_a_limit_that_the_machine_keeps_too_much_memory_is_the_pictures_fault(
    limited: Sandbox,
) -> None:
    pixels = np.kron(ROUGH, np.ones((150, 150, 1), np.uint8))
    for name in ("PNG", "WEBP"):  # the second one's library says that the picture is damaged
        with pytest.raises(Refused) as caught:
            see(saved(pixels, name), (4500, 6000), DecodeLimits(max_memory=ROOM_BYTES // 4))
        assert caught.value.reason is RefusalReason.TOO_MUCH_MEMORY


def test_a_damaged_picture_is_damaged_on_a_small_machine_too(limited: Sandbox) -> None:
    damaged = bytearray(saved(ROUGH, "JPEG"))
    damaged[damaged.index(b"\xff\xc4") + 5] = 0xFF
    with pytest.raises(Refused) as caught:
        see(bytes(damaged), (30, 40))
    assert caught.value.reason is RefusalReason.CORRUPT


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (signal.SIGKILL, "SIGKILL from outside ended it, twice; most often memory ran out"),
        (signal.SIGXCPU, "ulimit -t"),
        (signal.SIGUSR1, "SIGUSR1 from outside"),
    ],
)
def test_what_is_killed_from_outside_is_not_refused(
    fresh: Sandbox, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, says: str
) -> None:
    real = child_process.ChildProcess.ask

    def kill_first(child: Any, *args: Any) -> Any:
        os.kill(child._process.pid, number)
        return real(child, *args)

    monkeypatch.setattr(child_process.ChildProcess, "ask", kill_first)
    with pytest.raises(DecoderUnavailable, match=says):
        see(SMALL, (30, 40))


def test_where_every_picture_ends_its_process_none_is_refused(
    fresh: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = child_process.ChildProcess.ask

    def crash_first(child: Any, *args: Any) -> Any:
        os.kill(child._process.pid, signal.SIGSEGV)
        return real(child, *args)

    monkeypatch.setattr(child_process.ChildProcess, "ask", crash_first)
    with pytest.raises(DecoderUnavailable, match="over a sound picture too"):
        see(SMALL, (30, 40))


def test_a_child_that_cannot_start_says_which_limit_and_names_the_picture(
    fresh: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(SMALL)
    with open_files_used_up(), pytest.raises(DecoderUnavailable, match="ulimit -n"):
        see(SMALL, (30, 40))
    absent = Sandbox("tests.there_is_none")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox, "_sandbox", absent)
        with pytest.raises(DecoderUnavailable, match=r"^a\.png: the process .* must start"):
            probe_entries(str(tmp_path), "folder", [Entry("a.png")], DecodeLimits())
    assert see(SMALL, (30, 40)).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("number", "says"), [(errno.EAGAIN, "ulimit -u"), (errno.ENOMEM, "Free memory")]
)
def test_a_process_that_the_machine_does_not_start_refuses_no_picture(
    fresh: Sandbox, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    monkeypatch.setattr(subprocess, "Popen", failing(number))
    with pytest.raises(DecoderUnavailable, match=says):
        see(SMALL, (30, 40))


def containers(folder: Path) -> dict[str, Entry]:
    """Write one picture in each kind of container; return the entry that leads to it."""
    (folder / "a.png").write_bytes(SMALL)
    with tarfile.open(folder / "b.tar", "w") as tar:
        tar.add(folder / "a.png", "a.png")
    pq.write_table(pa.table({"bytes": [SMALL]}), folder / "c.parquet")
    (tarred,) = list_source(str(folder / "b.tar")).entries
    return {"file": Entry("a.png"), "tar": tarred, "parquet": Entry("c#0", "c.parquet")}


@pytest.mark.parametrize("kind", ["file", "tar", "parquet"])
def test_no_picture_is_refused_because_no_more_files_may_be_open(tmp_path: Path, kind: str) -> None:
    entry = containers(tmp_path)[kind]
    with (
        open_files_used_up(),
        pytest.raises(StoreUnavailable, match=r"cannot be read on this machine.*ulimit -n"),
    ):
        read_entry(str(tmp_path), entry)
    assert read_entry(str(tmp_path), entry) == SMALL


def failing(number: int) -> Callable[..., Any]:
    def fail(*args: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    "number",
    [errno.ENOMEM, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENFILE],
)
def test_a_file_system_that_is_away_is_no_fault_of_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "a.png").write_bytes(SMALL)
    monkeypatch.setattr(os, "open", failing(number))
    with pytest.raises(StoreUnavailable, match=r"a\.png cannot be read on this machine"):
        read_entry(str(tmp_path), Entry("a.png"))


@pytest.mark.parametrize("number", [errno.EIO, errno.EUCLEAN, errno.EACCES])
def test_one_file_that_cannot_be_read_is_refused_only_while_its_folder_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "a.png").write_bytes(SMALL)
    monkeypatch.setattr(os, "open", failing(number))
    with pytest.raises(Refused) as caught:
        read_entry(str(tmp_path), Entry("a.png"))
    assert caught.value.reason is RefusalReason.UNREADABLE
    monkeypatch.setattr(os, "scandir", failing(number))
    with pytest.raises(SourceGone, match="cannot be listed"):
        read_entry(str(tmp_path), Entry("a.png"))


def test_a_picture_is_missing_only_where_its_source_is_there(tmp_path: Path) -> None:
    for folder in (tmp_path / "bare", tmp_path / "gone"):
        if folder.name == "bare":
            folder.mkdir()
        with pytest.raises(SourceGone, match="mounted here"):
            read_entry(str(folder), Entry("a.png"))
    (tmp_path / "bare/other.png").touch()
    with pytest.raises(Refused) as caught:
        read_entry(str(tmp_path / "bare"), Entry("a.png"))
    assert caught.value.reason is RefusalReason.MISSING


def test_a_source_is_not_listed_by_half_where_the_machine_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(SMALL)
    (tmp_path / "list.txt").write_text("a.png\n")
    real = os.stat

    def stat(path: Any, **options: Any) -> Any:
        if str(path).endswith("a.png"):
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    for source in ("list.txt", "."):
        with pytest.raises((InputError, StoreUnavailable), match="Stale file handle"):
            list_source(str(tmp_path / source))


def test_too_little_memory_to_read_a_row_group_is_the_machines_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = containers(tmp_path)["parquet"]

    def fail(*args: Any) -> Any:
        raise pa.ArrowMemoryError("malloc of size 4096 failed")

    monkeypatch.setattr(reader, "read_group", fail)
    with (
        EntryReader(str(tmp_path)) as opened,
        pytest.raises(MemoryError, match=r"c#0: too little memory .*malloc of size 4096"),
    ):
        opened.read(entry)


class Server:
    """An S3 server that refuses one object, or all."""

    def __init__(self, for_all: bool) -> None:
        self._for_all = for_all

    def get(self, *args: Any, **options: Any) -> bytes:
        raise StoreError("the server's certificate is not accepted")

    def head(self, bucket: str, key: str) -> None:
        if self._for_all:
            raise StoreError("the server's certificate is not accepted")


def test_an_object_is_refused_only_while_its_server_takes_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = Entry("a.png")
    monkeypatch.setattr(locations, "client", lambda: Server(for_all=False))
    with pytest.raises(Refused) as caught:
        read_entry("s3://bucket/pictures", entry)
    assert caught.value.reason is RefusalReason.UNREADABLE
    monkeypatch.setattr(locations, "client", lambda: Server(for_all=True))
    with pytest.raises(StoreError, match="certificate"):
        read_entry("s3://bucket/pictures", entry)


def test_see_row_names_the_picture_that_met_the_failure(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(SMALL)
    table, _, _ = probe_entries(str(tmp_path), "folder", [Entry("a.png")], DecodeLimits())
    with pytest.MonkeyPatch.context() as patch, EntryReader(str(tmp_path)) as opened:
        patch.setattr(sandbox, "_sandbox", Sandbox("tests.there_is_none"))
        with pytest.raises(DecoderUnavailable, match=r"^a\.png: "):
            see_row(opened, table.to_pylist()[0], [whole_look(8, 8)], DecodeLimits())
