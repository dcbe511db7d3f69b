"""Whatever a request has wrong, it is told what, and what to do; nothing else happens."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lamella.cluster.serve.service import Service
from lamella.pipeline.corpus.decode import DecodeLimits
from tests.bombs import TOO_LARGE
from tests.end_to_end.commands import Stores
from tests.serving import asked, error_of, png


@pytest.fixture(scope="module")
def both(stores: Stores) -> Iterator[tuple[TestClient, Service]]:
    with asked(stores.one, max_upload=100_000) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(both: tuple[TestClient, Service]) -> TestClient:
    return both[0]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "one of ids, names and urls; got none"),
        ({"ids": [1], "names": ["00.png"]}, "one of ids, names and urls; got ids, names"),
        ({"names": []}, "there is no query: send a picture, an id or a name"),
        ({"names": ["00.png"] * 65}, "at most 64 queries; got 65: send several"),
        ({"names": ["nobody.png"]}, "snapshot 1 has no image of name 'nobody.png'"),
        ({"names": ["05.png"]}, "has no image of name '05.png'"),  # refused when it was indexed
        ({"names": ["\ud800"]}, "names"),
        ({"ids": [7]}, "image 7 is not in snapshot 1, which has 5 images"),
        ({"ids": [2**70]}, "is not in snapshot 1"),
        ({"ids": ["x"]}, "ids.0: "),
        ({"names": ["00.png"], "k": 0}, "k: should be greater than or equal to 1; got 0"),
        ({"names": ["00.png"], "k": 10**9}, "k: should be less than or equal to 10000"),
        ({"names": ["00.png"], "kk": 3}, "there is no field 'kk': it has "),
        ({"names": ["00.png"], "layers": ["haed"]}, "snapshot 1 has no layer 'haed'"),
        ({"names": ["00.png"], "layers": ["haed"]}, "did you mean head?"),
        ({"names": ["00.png"], "t": [2]}, "got 2"),
        ({"names": ["00.png"], "p": [1, 1, 1]}, "fusion.p takes one value a layer"),
        ({"names": ["00.png"], "w": ["nan", 1]}, "finite"),
        ({"names": ["00.png"], "above": -1}, "search.above"),
        ({"names": ["00.png"], "mode": "fast"}, "mode: should be 'exact', 'candidates' or 'paper'"),
        ({"names": ["00.png"], "format": "xml"}, "format: should be 'json' or 'arrow'"),
        ({"names": ["00.png"], "expand": 101}, "expand: should be less than or equal to 100"),
    ],
)
def test_a_value_that_is_wrong_is_named_with_the_rule(
    client: TestClient, body: dict[str, Any], said: str
) -> None:
    content = json.dumps(body)
    response = client.post("/query", content=content, headers={"Content-Type": "application/json"})
    assert said in error_of(response, 400, "wrong-request")


@pytest.mark.parametrize(
    ("content", "kind", "status", "said"),
    [
        (b"{", "application/json", 400, "Invalid JSON"),
        (b"[]", "application/json", 400, "the body: "),
        (b"\xff", "application/json", 400, ""),
        (b"x", "text/plain", 415, "got 'text/plain': set Content-Type"),
        (b"", "", 415, "got ''"),
        (b"x", "multipart/form-data", 400, "the form cannot be read"),
        (b"x", "multipart/form-data; boundary=b", 400, "the form cannot be read"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(
    client: TestClient, content: bytes, kind: str, status: int, said: str
) -> None:
    response = client.post("/query", content=content, headers={"Content-Type": kind})
    assert said in error_of(response, status, "wrong-request")


@pytest.mark.parametrize(
    ("form", "files", "said"),
    [
        ({"k": "3"}, [], "there is no query"),
        ({"k": "three"}, [("p", ("a", png()))], "k: should be a valid integer"),
        ({"t": "0.1,x"}, [("p", ("a", png()))], "t.1: should be a valid number"),
        ({"exclude_self": "true"}, [("p", ("a", png()))], "--exclude-self"),
        ({"names": "00.png"}, [("p", ("a", png()))], "there is no field 'names'"),
        ({"k": ["1", "2"]}, [("p", ("a", png()))], "the field 'k' stands twice"),
        ({}, [("p", ("a", png()))] * 65, "the form cannot be read: Too many files"),
    ],
)
def test_a_form_that_is_wrong_is_told_what(
    client: TestClient, form: dict[str, Any], files: list[Any], said: str
) -> None:
    files = files or [("k", (None, "3"))]
    response = client.post("/query", data=form, files=files)
    if said == "there is no query":
        response = client.post("/query", files=[("k", (None, "3"))])
    assert said in error_of(response, 400, "wrong-request")


@pytest.mark.parametrize(
    ("path", "status", "code", "said"),
    [
        ("/pictures/7", 404, "no-picture", "snapshot 1 has no image 7"),
        (f"/pictures/{2**70}", 404, "no-picture", "has no image"),
        ("/pictures/-1/thumbnail", 404, "no-picture", "has no image -1"),
        ("/pictures/x", 400, "wrong-request", "image_id: "),
        ("/pictures/..%2f..%2fetc%2fpasswd", 404, "no-such-path", "/docs lists"),
        ("/pictures/1/thumbnail?size=5000", 400, "wrong-request", "size: "),
        ("/explain?query=00.png", 400, "wrong-request", "result: "),
        ("/explain?query=00.png&result=00.png", 400, "wrong-request", "another RESULT"),
        ("/explain?query=/etc/passwd&result=00.png", 400, "wrong-request", "no indexed image"),
        ("/explain?query=7&result=00.png", 400, "wrong-request", "image 7 is not in"),
        ("/explain?query=00.png&result=01.png&layers=x", 400, "wrong-request", "no layer 'x'"),
        ("/nothing", 404, "no-such-path", "GET /nothing: Not Found; /docs lists what there is"),
        ("/query", 405, "wrong-request", "Method Not Allowed"),
    ],
)
def test_a_look_at_what_is_not_there_is_told_so(
    client: TestClient, path: str, status: int, code: str, said: str
) -> None:
    assert said in error_of(client.get(path), status, code)


def test_a_query_never_names_a_file_of_the_server(client: TestClient, stores: Stores) -> None:
    path = str(stores.pictures / "00.png")
    for body in ({"names": [path]}, {"names": [f"file://{path}"]}):
        error_of(client.post("/query", json=body), 400, "wrong-request")
    form = {"result": "01.png", "query": path}
    error_of(client.post("/explain", data=form, files={"p": b"x"}), 400, "wrong-request")


def test_a_body_that_is_too_large_is_not_read(client: TestClient) -> None:
    files = {"p": ("big.png", bytes(100_001))}
    said = error_of(client.post("/query", files=files), 413, "too-large")
    assert "at most 100,000 bytes" in said
    assert "--max-upload" in said


@pytest.mark.parametrize("name", sorted(TOO_LARGE)[:4])
def test_an_upload_bomb_is_a_refused_query(client: TestClient, name: str) -> None:
    files = [("p", ("bomb", TOO_LARGE[name])), ("p", ("good.png", png()))]
    bomb, good = client.post("/query", files=files).json()["answers"]
    assert bomb["refused"]["reason"] == "too-many-pixels"
    assert good["refused"] is None
    assert good["results"]


def test_uploads_have_the_limits_of_the_job_that_made_the_index(
    both: tuple[TestClient, Service],
) -> None:
    client, service = both
    limits = service.following.current.limits
    assert limits == service.following.current.index._opened.limits  # type: ignore[union-attr]
    assert limits.max_pixels == 100_000_000 != DecodeLimits().max_pixels
    answer = client.post("/query", files={"p": TOO_LARGE["pgm"]}).json()["answers"][0]
    assert f"{limits.max_pixels:,}" in answer["refused"]["detail"]


def test_an_error_that_nobody_foresaw_is_told_without_its_insides(
    both: tuple[TestClient, Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, service = both

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(service.following.current.index, "query", fails)
    said = error_of(client.post("/query", json={"names": ["00.png"]}), 500, "failed")
    assert "RuntimeError" in said
    assert "secret" not in said
