"""Pickles are read as data: of evil ones nothing runs, nothing is imported, each is refused."""

import io
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.pickled_truth import LARGEST_BYTES, read_plain_pickle

PLAIN = {"names": ["a", "é"], "box": [1.5, -2.0], "more": (1, 2**70, None, True, b"x", ())}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_are_read_from_every_protocol(protocol: int, tmp_path: Path) -> None:
    # Below protocol 3, bytes are pickled as a call.
    value = PLAIN if protocol > 2 else PLAIN | {"more": (1, 2**70, None, True, ())}
    file = tmp_path / "truth.pkl"
    file.write_bytes(pickle.dumps(value, protocol))
    assert read_plain_pickle(file) == value


def test_strings_of_python_2_are_read(tmp_path: Path) -> None:
    file = tmp_path / "truth.pkl"
    file.write_bytes(b"\x80\x02}q\x00U\x06imlistq\x01]q\x02U\x01aq\x03as.")
    assert read_plain_pickle(file) == {"imlist": ["a"]}


class Calling:
    """Pickles as a call of anything."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def evil_files(canary: Path) -> dict[str, tuple[bytes, str]]:
    """Return files that touch the canary if anything of them runs, and what each is refused for."""
    touch = f"open({str(canary)!r}, 'w').close()"
    shell = f"touch {canary}".encode()
    word = bytes([len(shell)])
    return {
        **{
            f"os.system, protocol {protocol}": (
                pickle.dumps(Calling(os.system, shell.decode()), protocol),
                "posix.system",
            )
            for protocol in range(6)
        },
        "eval": (pickle.dumps(Calling(eval, touch)), "builtins.eval"),
        "exec": (pickle.dumps(Calling(exec, touch)), "builtins.exec"),
        "open": (pickle.dumps(Calling(open, str(canary), "w")), "io.open"),
        "popen": (pickle.dumps(Calling(subprocess.Popen, ["touch", str(canary)])), "Popen"),
        "a method": (pickle.dumps(Calling(canary.touch)), "builtins.getattr"),
        "import": (pickle.dumps(Calling(__import__, "antigravity")), "builtins.__import__"),
        "deep inside": (
            pickle.dumps({"gnd": [{"easy": [1, Calling(os.system, shell.decode())]}]}),
            "posix.system",
        ),
        "as a key": (pickle.dumps({Calling(os.system, shell.decode()): 1}), "posix.system"),
        "an old instance": (b"(S'" + shell + b"'\nios\nsystem\n.", "os.system"),
        "an old object": (b"(cos\nsystem\nU" + word + shell + b"o.", "os.system"),
        "a new object": (b"\x80\x02cos\nsystem\n(U" + word + shell + b"t\x81.", "os.system"),
        "a name from the memo": (
            b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93\x8c"
            + word
            + shell
            + b"\x85R.",
            "os.system",
        ),
        "a state": (b"\x80\x02cbuiltins\ndict\n}U\x01aK\x01sb.", "builtins.dict"),
        "an extension": (b"\x80\x02\x82\x01.", "EXT1"),
        "a persistent id": (b"\x80\x02U\x01aQ.", "BINPERSID"),
        "a call without a name": (b"\x80\x02K\x01)R.", "REDUCE"),
        "a numpy array": (pickle.dumps(np.arange(3)), "numpy"),
        "numpy's own file": (_npy(canary), ""),
        "a model": (b"PK\x03\x04" + bytes(100), ""),
        "a huge memo": (b"\x80\x02K\x01r" + struct.pack("<I", 2**32 - 1) + b".", "memo"),
        "a huge string": (b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"a.", ""),
        "cut short": (pickle.dumps(PLAIN)[:-9], ""),
        "nothing": (b"", ""),
        "only an end": (b".", ""),
    }


def _npy(canary: Path) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Calling(os.system, f"touch {canary}")], dtype=object))
    return file.getvalue()


EVIL = sorted(evil_files(Path("canary")))


@pytest.mark.parametrize("kind", EVIL)
def test_an_evil_file_is_refused_by_name_and_nothing_of_it_runs(kind: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    data, named = evil_files(canary)[kind]
    file = tmp_path / "truth.pkl"
    file.write_bytes(data)
    before = set(sys.modules)
    with pytest.raises(InputError) as refused:
        read_plain_pickle(file)
    assert named in str(refused.value)
    assert str(file) in str(refused.value)
    assert not canary.exists()
    assert set(sys.modules) == before


def test_the_evil_files_are_evil(tmp_path: Path) -> None:
    """Read the usual way they do what they are for, or the test above would show nothing."""
    canary = tmp_path / "canary"
    for kind in ("os.system, protocol 0", "exec", "an old instance", "a name from the memo"):
        pickle.loads(evil_files(canary)[kind][0])
        canary.unlink()


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "truth.pkl"
    with file.open("wb") as opened:
        opened.truncate(LARGEST_BYTES + 1)
    with pytest.raises(InputError, match="at most 67,108,864 bytes"):
        read_plain_pickle(file)


def test_a_file_that_is_not_there_is_a_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a ground truth is a readable file"):
        read_plain_pickle(tmp_path)
