"""The folder of a Ray of our own: short, entered by no other user, gone when its Ray is."""

import fcntl
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from lamella.cluster.ray import private_folder as module
from lamella.cluster.ray.connect import connected
from lamella.cluster.ray.private_folder import LONGEST_BYTES, PREFIX, private_folder
from lamella.cluster.ray.starts import NotStarted
from lamella.pipeline import scratch
from tests.conftest import RaySwitch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of our own that is `TMPDIR`; how long its path is plays no part."""
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(module, "LONGEST_BYTES", 200)
    folder = tmp_path_factory.mktemp("short")
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def test_it_is_new_and_private_and_gone_afterwards(short: Path) -> None:
    with private_folder() as one, private_folder() as other:
        assert one != other
        assert {one.parents[1], other.parents[1]} == {short}
        assert stat.S_IMODE(one.parent.stat().st_mode) == 0o700
        (one / "session" / "logs").mkdir(parents=True)
        (one / "session" / "logs" / "raylet.out").write_text("...")
        (one / "session_latest").symlink_to(one / "session")
    assert list(short.iterdir()) == []


def test_the_longest_path_that_ray_makes_in_it_is_no_longer_than_a_socket_s_may_be() -> None:
    folder = Path("/" + "x" * (LONGEST_BYTES - 1), PREFIX + "12345678")
    assert len(str(folder) + module.INSIDE) == module.LONGEST_SOCKET_BYTES


def test_a_tmpdir_that_is_too_long_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # longer than 18 bytes
    with private_folder() as folder:
        assert folder.parents[1] == Path("/tmp")


def test_a_folder_in_which_others_could_replace_it_is_passed_over(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short.chmod(0o777)
    with private_folder() as folder:
        assert folder.parents[1] == Path("/tmp")
    short.chmod(0o1777)
    with private_folder() as folder:
        assert folder.parents[1] == short


def test_where_no_folder_will_do_each_is_named_with_the_reason(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_BYTES", 3)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    wanted = rf"at most 3 bytes.*{short} has \d+ bytes; /tmp has 4 bytes; /var/tmp has 8.*TMPDIR"
    with pytest.raises(NotStarted, match=wanted), private_folder():
        pass


def left_over(parent: Path, name: str = PREFIX + "abcdefgh") -> Path:
    folder = parent / name
    (folder / "session" / "sockets").mkdir(parents=True)
    folder.chmod(0o700)
    (folder / "lock").write_text("\n".join(scratch._this_machine()))
    return folder


def test_what_a_process_left_that_is_gone_is_removed(short: Path) -> None:
    folder = left_over(short)
    with private_folder():
        assert not folder.exists()


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not(
    short: Path,
) -> None:
    code = (
        "import lamella.cluster.ray.private_folder as p, time\n"
        "p.LONGEST_BYTES = 200\n"
        "with p.private_folder() as folder:\n"
        "    print(folder, flush=True)\n"
        "    time.sleep(60)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as other:
        assert other.stdout is not None
        folder = Path(other.stdout.readline().strip())
        with private_folder():
            assert folder.parent.exists()
        other.kill()
    with private_folder():
        assert not folder.parent.exists()


def test_nothing_else_is_taken_for_a_left_over(short: Path, tmp_path: Path) -> None:
    held, link = left_over(short), short / (PREFIX + "linklink")
    target = left_over(tmp_path)
    link.symlink_to(target)
    open_to_all = left_over(short, PREFIX + "opentoal")
    open_to_all.chmod(0o755)
    other_name = left_over(short, PREFIX + "a-much-longer-name")
    without_lock = left_over(short, PREFIX + "withoutl")
    (without_lock / "lock").unlink()
    lock_is_link = left_over(short, PREFIX + "lockslin")
    (lock_is_link / "lock").unlink()
    (lock_is_link / "lock").symlink_to(target / "lock")
    with (held / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with private_folder():
            pass
    for folder in (held, link, target, open_to_all, other_name, without_lock, lock_is_link):
        assert (folder / "session" / "sockets").is_dir(), folder


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user")
def test_another_user_s_folder_is_not_removed(short: Path) -> None:
    folder = left_over(short)
    os.chown(folder, 65534, 65534)
    with private_folder():
        pass
    assert folder.exists()


def ours() -> Path:
    """Return the folder that all of Ray's lies in."""
    return session().parents[1]


def session() -> Path:
    return Path(ray._private.worker._global_node.get_session_dir_path()).resolve()


@pytest.mark.usefixtures("two_cpus")
def test_all_that_ray_makes_lies_in_a_folder_that_only_we_can_enter() -> None:
    ray.get(ray.remote(lambda: None).remote(), timeout=60)
    folder = ours()
    assert folder.name.startswith(PREFIX)
    facts = folder.stat()
    assert (stat.S_IMODE(facts.st_mode), facts.st_uid) == (0o700, os.geteuid())
    sockets = [path for path in folder.rglob("*") if path.is_socket()]
    assert len(sockets) >= 2
    # Whatever else these processes have open or mapped is in there, or unnamed.
    name = session().name.encode()
    processes = [
        process
        for process in Path("/proc").glob("[0-9]*")
        if name in (process / "cmdline").read_bytes()
    ]
    assert len(processes) >= 4
    opened = {os.readlink(handle) for process in processes for handle in (process / "fd").glob("*")}
    shared = {path for path in opened if path.startswith(("/tmp/", "/var/tmp/", "/dev/shm/"))}
    assert any(path.startswith(f"{folder}/") for path in shared)
    assert [
        path for path in shared if not path.startswith(f"{folder}/") and "(deleted)" not in path
    ] == []


def as_nobody(act: Callable[[], object]) -> str:
    """Return the error that a user without rights meets, or "" where there is none."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = "failed"
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            act()
            said = "no error"
        except OSError as error:
            said = type(error).__name__
        finally:
            os.write(writer, said.encode())
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as said_by:
        return said_by.read()


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.usefixtures("two_cpus")
def test_another_user_cannot_connect_list_or_replace() -> None:
    folder = ours()
    raylet = session() / "sockets" / "raylet"
    acts: dict[str, Callable[[], object]] = {
        "connect": lambda: socket.socket(socket.AF_UNIX).connect(str(raylet)),
        "list": lambda: os.listdir(folder),
        "list the session": lambda: os.listdir(session()),
        "remove": lambda: raylet.unlink(),
        "rename": lambda: folder.rename(folder.with_name("theirs")),
        "make another": lambda: socket.socket(socket.AF_UNIX).bind(f"{raylet}.2"),
        "write": lambda: (session() / "logs" / "theirs").touch(),
    }
    session()  # the path is known before the rights are gone
    found = {name: as_nobody(act) for name, act in acts.items()}
    assert found == dict.fromkeys(acts, "PermissionError")
    assert as_nobody(lambda: os.listdir("/tmp")) == "no error"  # it is another user, and able


@pytest.mark.slow
def test_ray_starts_under_a_tmpdir_as_long_as_schedulers_make_them(
    ray_switch: RaySwitch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray_switch.close()
    long = tmp_path / ("slurm_jobdir" * 8)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    with connected(cpus=1):
        folder = ours()
        assert folder.parent == Path("/tmp")
    assert not folder.exists()
