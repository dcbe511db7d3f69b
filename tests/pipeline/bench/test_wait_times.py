import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lamella.pipeline.bench import wait_times
from lamella.pipeline.bench.wait_times import Watch, children_spent

BURNT_S = 0.02
counted_by_the_kernel = pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason="this kernel does not count queues"
)


def burn() -> None:
    until = time.thread_time() + BURNT_S
    while time.thread_time() < until:
        pass


def test_what_a_thread_waits_for_is_told_by_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    # Children that other tests left idle may be queued for a core meanwhile.
    monkeypatch.setattr(wait_times, "children_spent", lambda: (0.0, 0.0))
    watch, inside, over = Watch(), threading.Event(), threading.Event()

    def wait() -> None:
        with watch.waiting_for("network"):
            inside.set()
            over.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    inside.wait()
    burn()  # so long the other one waits at least
    over.set()
    thread.join()
    wall, _, waiting = watch.end(1)
    assert waiting["network"] * wall >= BURNT_S * 0.9
    assert waiting["picture"] == 0
    assert sum(waiting.values()) <= 1 + 1e-6


@counted_by_the_kernel
def test_what_a_thread_computes_is_no_waiting_however_many_share_its_core() -> None:
    watch, others = Watch(), [threading.Thread(target=burn) for _ in range(3)]
    for other in others:
        other.start()
    with watch.waiting_for("picture"):
        burn()
    wall, _, waiting = watch.end(1)
    for other in others:
        other.join()
    assert waiting["picture"] * wall <= wall - BURNT_S


def test_a_thread_that_was_never_seen_waited_for_a_batch() -> None:
    watch = Watch()
    burn()
    _, busy, waiting = watch.end(2)
    assert waiting["batch"] == pytest.approx(1)
    # Children that other tests left idle may be queued for a core meanwhile.
    assert waiting["picture"] == waiting["network"] == 0
    assert busy > 0


@counted_by_the_kernel
def test_what_children_compute_is_counted_while_they_live() -> None:
    code = f"import time\nwhile time.process_time() < {BURNT_S}: pass\nprint(flush=True)\ninput()"
    before = children_spent()[0]
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        spent = children_spent()[0] - before
        child.communicate("\n")
    assert spent >= BURNT_S * 0.9


def test_children_that_no_thread_waits_for_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = iter([(0.0, 0.0), (5.0, 7.0)])
    monkeypatch.setattr(wait_times, "children_spent", lambda: next(spent))
    watch = Watch()

    def work() -> None:
        with watch.waiting_for("network"):
            burn()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert sum(watch.end(1)[2].values()) <= 1 + 1e-6
