"""Pictures by address: from allowed places alone, whatever the address looks like."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lamella.cluster.serve.problems import Problem
from lamella.cluster.serve.urls import check_url, fetch
from lamella.pipeline.corpus.refused import Refused
from tests.end_to_end.commands import Stores
from tests.serving import asked, error_of, png

ALLOWED = ("https://pictures.example/shots/", "http://127.0.0.1:1/")


class _Pictures(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer as the path says."""
        port = self.server.server_port  # type: ignore[attr-defined]
        self.path = self.path.partition("?")[0]
        if self.path.startswith("/ok/to/"):
            places = {
                "inside": f"http://127.0.0.1:{port}/ok/a.png",
                "beside": f"http://127.0.0.1:{port}/private.png",
                "file": "file:///etc/passwd",
                "round": self.path,
            }
            self._say(302, b"", Location=places[self.path.rpartition("/")[2]])
        elif self.path == "/ok/a.png":
            self._say(200, png())
        elif self.path == "/ok/large":
            self._say(200, bytes(50_000))
        elif self.path == "/ok/slow":
            self.send_response(200)
            self.end_headers()
            for _ in range(40):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.02)
        else:
            self._say(404, b"")

    def _say(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        """Do not mind a client that leaves."""
        try:
            super().handle()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, *said: object) -> None:
        """Write no line for each request."""


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Pictures) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "url",
    [
        "https://pictures.example/shots/a.jpg",
        "https://pictures.example/shots/a.jpg?size=2&x=../y",
        "http://127.0.0.1:1/a%20b.jpg",
    ],
)
def test_an_address_in_an_allowed_place_passes(url: str) -> None:
    check_url(url, ALLOWED)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://pictures.example/other/a.jpg",
        "https://pictures.example/shots/../other/a.jpg",
        "https://pictures.example/shots/%2e%2e/other/a.jpg",
        "https://pictures.example/shots/..\\other",
        "http://pictures.example/shots/a.jpg",
        "https://pictures.example.evil/shots/",
        "https://pictures.example@evil/shots/",
        "https://user@pictures.example/shots/a",
        "HTTPS://pictures.example/shots/a",
        "https://pictures.example/shots/a b",
        "https://pictures.example/shots/a\r\nHost: evil",
        "http://127.0.0.1:1@evil/",
        "http://127.0.0.1:10/",
        "file:///etc/passwd",
    ],
)
def test_an_address_elsewhere_is_refused_with_the_rule(url: str) -> None:
    with pytest.raises(Problem, match=r"begin with https://pictures\.example/shots/ or") as told:
        check_url(url, ALLOWED)
    assert (told.value.status, told.value.code) == (403, "url-not-allowed")


def test_a_redirect_is_followed_inside_the_allowed_places_alone(place: str) -> None:
    allowed = [f"{place}ok/"]
    assert fetch(f"{place}ok/to/inside", allowed, 10_000, 5) == png()
    for way in ("beside", "file"):
        with pytest.raises(Problem, match="must begin with"):
            fetch(f"{place}ok/to/{way}", allowed, 10_000, 5)
    with pytest.raises(Refused, match="leads on more than 3 times"):
        fetch(f"{place}ok/to/round", allowed, 10_000, 5)


def test_a_picture_that_is_too_large_too_slow_or_away_is_refused(place: str) -> None:
    allowed = [place, "http://127.0.0.1:1/"]
    for path, said in (
        ("ok/large", "more than 10,000 bytes"),
        ("ok/slow", "more than 0.3 s"),
        ("nothing", "answers 404"),
    ):
        with pytest.raises(Refused, match=said):
            fetch(f"{place}{path}", allowed, 10_000, 0.3)
    with pytest.raises(Refused, match="refused"):
        fetch("http://127.0.0.1:1/a", allowed, 10_000, 1)


def test_queries_by_address_are_answered_and_refused_each_by_itself(
    stores: Stores, place: str
) -> None:
    with asked(stores.one, urls=(f"{place}ok/",)) as (client, service):
        urls = [f"{place}ok/nothing.png", f"{place}ok/a.png?key=secret", f"{place}ok/large"]
        answers = client.post("/query", json={"urls": urls, "k": 3}).json()["answers"]
        assert [each["refused"] and each["refused"]["reason"] for each in answers] == [
            "unreadable",
            None,
            "not-an-image",
        ]
        assert answers[1]["query"] == f"{place}ok/a.png"  # without what may be a key
        found = service.following.current.index.query(png(), k=3)
        assert [hit["score"] for hit in answers[1]["results"]] == found.scores[0].tolist()
        elsewhere = client.post("/query", json={"urls": [urls[1], f"{place}private.png"]})
        error_of(elsewhere, 403, "url-not-allowed")
        none = client.post("/query", json={"urls": [urls[0]]}).json()["answers"]
        assert none[0]["refused"]["detail"] == "its server answers 404"
    with asked(stores.one) as (client, _):
        said = error_of(client.post("/query", json={"urls": urls[0]}), 403, "url-not-allowed")
        assert "started without --allow-url" in said
