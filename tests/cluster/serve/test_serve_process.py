"""A real server on a port: slow clients, huge bodies, a full queue, and its end."""

import json
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from lamella.cluster.commands import serve
from lamella.cluster.serve.run import Server, listen
from lamella.pipeline.errors import InputError
from tests.command_line import complaint, lamella
from tests.end_to_end.commands import Stores
from tests.serving import Process, Raw, head, in_threads, listening, process, until

LIMIT = 1_000_000
TWO_GB = 2_000_000_000
ASK = json.dumps({"names": "00.png", "k": 3})


@pytest.fixture(scope="module")
def server(stores: Stores) -> Iterator[Server]:
    with listening(stores.one, max_upload=LIMIT, chunk_s=0.4, body_s=1.5, queue=2) as opened:
        yield opened


def chunk(data: bytes) -> bytes:
    """Return a chunk of a body that comes in chunks."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def ask(server: Server | Process, **options: Any) -> httpx2.Response:
    return httpx2.post(f"{server.address}/query", json=json.loads(ASK), timeout=30, **options)


def test_half_a_body_is_ended_after_a_while_and_holds_nothing(server: Server) -> None:
    slow = [Raw(server.address) for _ in range(8)]
    for each in slow:
        each.send(head("/query", Content_Length=len(ASK)) + ASK[:10])
    assert len(server.service.turns) == 0
    assert ask(server).status_code == 200  # with a queue of 2, and 8 halves under way
    for each in slow:
        status, said = each.answer()
        assert (status, said["code"]) == (408, "too-slow")
        assert "its next bytes within 0.4 s" in said["error"]


@pytest.mark.slow
def test_a_body_that_trickles_is_ended_too(server: Server) -> None:
    slow = Raw(server.address)
    slow.send(head("/query", Content_Length=500))
    assert 10 <= slow.send_until_cut(b" ", 100, pause_s=0.1) <= 60


def test_who_leaves_in_the_middle_of_a_body_harms_nobody(server: Server) -> None:
    for _ in range(5):
        raw = Raw(server.address)
        raw.send(head("/query", Content_Length=500) + "{")
        raw.socket.close()
    assert ask(server).status_code == 200


def test_a_body_that_says_it_is_2_gb_is_refused_unread(server: Server) -> None:
    raw = Raw(server.address)
    raw.send(head("/query", Content_Length=TWO_GB, Content_Type="multipart/form-data; boundary=b"))
    status, said = raw.answer()
    assert (status, said["code"]) == (413, "too-large")


def test_two_gb_that_just_come_are_cut_at_the_limit(server: Server) -> None:
    raw = Raw(server.address)
    kind = "multipart/form-data; boundary=b"
    raw.send(head("/query", Transfer_Encoding="chunked", Content_Type=kind))
    start = b'--b\r\nContent-Disposition: form-data; name="p"; filename="z.png"\r\n\r\n'
    raw.send(chunk(start))
    part = chunk(bytes(100_000))
    # What was under way, and what is read to say why.
    assert raw.send_until_cut(part, TWO_GB // len(part)) < 60 * LIMIT
    assert ask(server).status_code == 200


def test_a_client_that_sends_too_much_and_listens_is_told_why(server: Server) -> None:
    response = httpx2.post(
        f"{server.address}/query", files={"p": ("z.png", bytes(3 * LIMIT))}, timeout=30
    )
    assert response.status_code == 413
    assert response.json()["code"] == "too-large"
    assert response.headers["connection"] == "close"


def test_a_full_queue_turns_away_with_a_time_to_come_again(server: Server) -> None:
    index = server.service.following.current.index
    with index._lock:  # a query that takes long
        threads = [threading.Thread(target=ask, args=(server,)) for _ in range(3)]
        for number, each in enumerate(threads):
            each.start()  # the first is being answered, two wait
            until(lambda number=number: len(server.service.turns) == number or number == 0)
            time.sleep(0.1)
        turned_away = ask(server)
        # A large body is not even read.
        unread = httpx2.post(f"{server.address}/query", files={"p": bytes(LIMIT // 2)}, timeout=30)
    for each in threads:
        each.join()
    for response in (turned_away, unread):
        assert response.status_code == 429
        assert response.json()["code"] == "busy"
        assert int(response.headers["retry-after"]) >= 1
    assert ask(server).status_code == 200


def test_who_leaves_while_waiting_gives_up_the_place(server: Server) -> None:
    turns, index = server.service.turns, server.service.following.current.index
    with index._lock:
        first = threading.Thread(target=ask, args=(server,))
        first.start()
        time.sleep(0.2)
        raw = Raw(server.address)
        raw.send(head("/query", Content_Length=len(ASK)) + ASK)
        until(lambda: len(turns) == 1)
        raw.socket.close()
        until(lambda: len(turns) == 0)
    first.join()


def test_what_is_no_http_is_refused(server: Server) -> None:
    raw = Raw(server.address)
    raw.send("HELO example\r\n\r\n")
    assert raw.socket.recv(100).startswith(b"HTTP/1.1 400")
    raw.socket.close()


def test_a_stop_ends_what_is_under_way_first(stores: Stores) -> None:
    with listening(stores.one) as server:
        index = server.service.following.current.index
        answers: list[httpx2.Response] = []
        index._lock.acquire()
        thread = threading.Thread(target=lambda: answers.append(ask(server)))
        thread.start()
        time.sleep(0.3)
        threading.Timer(0.5, index._lock.release).start()
        server.stop()
        thread.join()
        assert answers[0].status_code == 200
        with pytest.raises(httpx2.ConnectError):
            ask(server)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_as_it_does_other_commands(
    stores: Stores, number: signal.Signals
) -> None:
    with process(stores.one, "--max-upload", 1) as started:
        assert started.said["snapshot"] == 1
        before = started.peak_bytes()
        assert {each.status_code for each in in_threads(4, lambda _: ask(started))} == {200}
        if number is signal.SIGTERM:
            raw = Raw(started.address)
            raw.send(head("/query", Transfer_Encoding="chunked"))
            raw.send_until_cut(chunk(bytes(LIMIT)), TWO_GB // LIMIT)
            assert started.peak_bytes() < before + 300_000_000
        started.process.send_signal(number)
        out, err = started.process.communicate(timeout=60)
        assert started.process.returncode == 128 + number
        assert out == ""  # its one value was printed before
        assert "lamella-http" not in err  # no thread was left behind
        assert "stopped" in err
        assert "Traceback" not in err


def test_a_port_that_is_taken_is_named(stores: Stores) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = complaint(lamella("serve", stores.one, "--port", port))
        assert f"--port {port} cannot be listened on at 127.0.0.1" in said
        assert "or 0 to have one chosen" in said
    with pytest.raises(InputError, match="is no address of this machine"):
        listen("no.such.host.invalid", 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--host", "0.0.0.0"), "set LAMELLA_TOKEN"),
        (("--token", "short"), "at least 16 characters"),
        (("--allow-url", "example"), "--allow-url takes the beginning of addresses"),
        (("--snapshot", "9"), "9"),
        (("--queue", "0"), "--queue"),
        (("--max-upload", "-1"), "--max-upload"),
        (("--port", "70000"), "--port"),
    ],
)
def test_options_that_cannot_be_used_are_refused_before_anything_listens(
    stores: Stores, options: tuple[str, ...], said: str
) -> None:
    assert said in complaint(lamella("serve", stores.one, "--port", 0, *options))


def test_a_store_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "nowhere" in complaint(lamella("serve", tmp_path / "nowhere", "--port", 0))


def test_what_is_not_installed_is_named_with_its_cure(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "PACKAGES", ("fastapi", "not_here"))
    said = complaint(lamella("serve", stores.one))
    assert "(not_here)" in said
    assert "pip install 'lamella[serve]'" in said


def test_it_is_asked_without_any_library(server: Server) -> None:
    request = urllib.request.Request(
        f"{server.address}/query", ASK.encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert len(json.load(answer)["answers"][0]["results"]) == 3
