"""Scratch folders: private, gone afterwards, swept up after a kill; a full disk is named."""

import errno
import fcntl
import os
import pkgutil
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from lamella.pipeline import scratch as module
from lamella.pipeline.errors import DoesNotFit, InputError
from lamella.pipeline.scratch import remove_left_overs, scratch


def test_it_is_empty_and_private_and_gone_afterwards(tmp_path: Path) -> None:
    with scratch("extract-00042", tmp_path) as one, scratch("extract-00042", tmp_path) as other:
        assert one != other
        assert list(one.iterdir()) == []
        assert one.parent.name.startswith("lamella-extract-00042-")
        assert stat.S_IMODE(one.parent.stat().st_mode) == 0o700
        (one / "deep").mkdir()
        (one / "deep" / "file").write_text("...")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyboardInterrupt), scratch("x", tmp_path):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not(
    tmp_path: Path,
) -> None:
    code = (
        "import sys, time; from pathlib import Path; from lamella.pipeline.scratch import scratch\n"
        "with scratch('x', Path(sys.argv[1])) as folder:\n"
        "    (folder / 'file').touch(); print(folder, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/") as other:
        assert other.stdout is not None
        folder = Path(other.stdout.readline().strip())
        remove_left_overs(tmp_path)
        assert (folder / "file").exists()
        other.kill()
    module._looked_at.clear()
    with scratch("y", tmp_path):  # the next start
        assert not folder.parent.exists()


@pytest.mark.parametrize("moment", ["os.open", "pathlib.Path.rename", "shutil.rmtree"])
def test_a_signal_while_one_is_made_or_removed_leaves_none_at_the_end(
    moment: str, tmp_path: Path
) -> None:
    real, here = pkgutil.resolve_name(moment), threading.get_ident()

    def strike(*given: Any, **named: Any) -> Any:
        if threading.get_ident() == here:  # threads of other tests may go on
            raise KeyboardInterrupt
        return real(*given, **named)

    strikes = mock.patch(moment, strike)
    with pytest.raises(KeyboardInterrupt), strikes, scratch("x", tmp_path) as folder:
        (folder / "file").touch()
    assert list(tmp_path.iterdir())
    module.remove_ours()  # as this process ends
    assert list(tmp_path.iterdir()) == []


def left_over(parent: Path, name: str = "lamella-x-abcdefgh", said: str | None = None) -> Path:
    folder = parent / name
    (folder / "files").mkdir(parents=True)
    folder.chmod(0o700)
    (folder / "lock").write_text("\n".join(module._this_machine()) if said is None else said)
    return folder


def test_nothing_else_is_taken_for_a_left_over(tmp_path: Path) -> None:
    held = left_over(tmp_path)
    # On a disk that machines share, a lock may be kept on one of them alone.
    elsewhere = left_over(tmp_path, "lamella-x-elsewher", "host another\nboot 0-0")
    unnamed = left_over(tmp_path, "lamella-x-unnamed1", "")
    open_to_all = left_over(tmp_path, "lamella-x-opentoal")
    open_to_all.chmod(0o755)
    store = left_over(tmp_path, "lamella-x-my-index")
    gone = left_over(tmp_path, "lamella-x-hgfedcba")
    with (held / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove_left_overs(tmp_path)
    assert not gone.exists()
    for folder in (held, elsewhere, unnamed, open_to_all, store):
        assert (folder / "files").is_dir(), folder


def test_a_folder_that_cannot_be_made_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{tmp_path}/none \(No such .*TMPDIR"):
        scratch("x", tmp_path / "none").__enter__()


def test_a_full_disk_is_told_from_that_of_the_store(tmp_path: Path) -> None:
    theirs = OSError(errno.ENOSPC, "No space left", "/store/file")
    with pytest.raises(OSError, match="/store/file"), scratch("x", tmp_path):
        raise theirs
    ours = OSError(errno.EDQUOT, "Quota exceeded", str(tmp_path / "lamella-x" / "file"))
    wanted = pytest.raises(DoesNotFit, match=rf"{tmp_path}, .* is full \(EDQUOT\).*TMPDIR")
    with wanted, scratch("x", tmp_path):
        raise ours
    with pytest.raises(OSError, match="no name"), scratch("x", tmp_path):
        raise OSError(errno.ENOSPC, "no name, and here is room")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a disk")
def test_a_disk_that_is_full_indeed_is_named(tmp_path: Path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        wanted = pytest.raises(DoesNotFit, match=rf"{tmp_path}, .* is full \(ENOSPC\).*TMPDIR")
        with wanted, scratch("x", tmp_path) as folder:
            (folder / "file").write_bytes(bytes(2**20))
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
