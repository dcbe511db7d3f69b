"""Watching: in place on a terminal, a line a beat elsewhere."""

import io
import json

import pytest
from rich.console import Console

from lamella.cluster.commands.failures import Stopped
from lamella.cluster.commands.watch import watch
from lamella.pipeline.errors import StoreUnavailable
from lamella.pipeline.jobs.beats import tell_beat
from tests.command_line import complaint, lamella
from tests.end_to_end.commands import Stores
from tests.pipeline.jobs.test_beats import beat
from tests.pipeline.upkeep.memory_store import MemoryStore


class Enough(Exception):
    """Ends a watch."""


def watched(store: MemoryStore, *happens: object, terminal: bool = False) -> str:
    """Return what a watch shows while things happen, one between two looks."""
    out, left = io.StringIO(), list(happens)

    def wait(seconds: float) -> None:
        if not left:
            raise Enough
        happening = left.pop(0)
        if callable(happening):
            happening()

    with pytest.raises(Enough):
        watch(store, Console(file=out, force_terminal=terminal, width=200), wait=wait)
    return out.getvalue()


def test_a_pipe_has_a_line_for_each_beat() -> None:
    store = MemoryStore()
    tell_beat(store, beat(1))
    shown = watched(
        store,
        None,
        lambda: tell_beat(store, beat(2, refused={"corrupt": 1})),
        None,
        lambda: tell_beat(store, beat(3, code=0)),
        None,
    ).splitlines()
    assert len(shown) == 3
    assert shown[0].endswith("between stages; told 0 s ago")
    assert shown[1].endswith("between stages; refused 1 corrupt; told 0 s ago")
    assert "ended" in shown[2]


def test_a_terminal_has_the_jobs_in_place_and_says_where_none_is() -> None:
    store = MemoryStore()
    shown = watched(store, lambda: tell_beat(store, beat(1)), terminal=True)
    assert "no job has told of itself lately" in shown
    assert "index on host-a since" in shown
    assert "memory, Ctrl-C ends" in shown


@pytest.mark.parametrize("terminal", [False, True])
def test_a_store_that_does_not_answer_for_a_while_does_not_end_a_watch(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    store = MemoryStore()
    tell_beat(store, beat(1))
    plain, away = store.walk, [True]

    def walk(prefix: str = "") -> object:
        if away:
            raise StoreUnavailable("memory: the store does not answer")
        return plain(prefix)

    monkeypatch.setattr(store, "walk", walk)
    shown = watched(store, away.clear, terminal=terminal)
    assert "the store does not answer" in shown
    assert "index on host-a since" in shown


def test_ctrl_c_is_how_a_watch_ends_and_sigterm_is_not(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended_by(number: int) -> object:
        def stop(*given: object) -> None:
            raise Stopped(number)

        monkeypatch.setattr("lamella.cluster.commands.watch.watch", stop)
        return lamella("status", stores.one, "--watch")

    assert [said.returncode for said in map(ended_by, (2, 15))] == [0, 143]  # type: ignore[attr-defined]


def test_one_json_value_cannot_be_watched(stores: Stores) -> None:
    said = lamella("status", stores.one, "--watch", "--json")
    assert "--json is one value, and --watch never ends" in complaint(said)


def test_status_has_jobs_for_machines(stores: Stores) -> None:
    assert json.loads(lamella("status", stores.one, "--json").stdout)["jobs"] == []
