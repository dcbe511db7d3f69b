"""Who may ask: this machine, whoever shows the token, and no page from elsewhere."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lamella.cluster.serve.settings import ServeSettings, is_loopback
from lamella.pipeline.errors import InputError
from tests.end_to_end.commands import Stores
from tests.serving import asked, error_of

TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def client(stores: Stores) -> Iterator[TestClient]:
    with asked(stores.one) as (opened, _):
        yield opened


@pytest.fixture
def guarded(stores: Stores) -> Iterator[TestClient]:
    with asked(stores.one, token=TOKEN, host="0.0.0.0") as (opened, _):
        yield opened


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8000", "[::1]:8000", "127.1.2.3"])
def test_this_machine_may_ask_by_its_own_names(client: TestClient, host: str) -> None:
    assert client.get("/index", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "10.0.0.1", "", "["])
def test_another_name_that_leads_here_is_not_answered(client: TestClient, host: str) -> None:
    said = error_of(client.get("/index", headers={"Host": host}), 403, "wrong-host")
    assert "LAMELLA_TOKEN" in said


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    ],
)
def test_a_page_from_elsewhere_may_not_ask(client: TestClient, headers: dict[str, str]) -> None:
    body = {"names": ["00.png"]}
    error_of(client.post("/query", json=body, headers=headers), 403, "wrong-origin")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"},
    ],
)
def test_the_own_page_and_a_link_from_elsewhere_are_answered(
    client: TestClient, headers: dict[str, str]
) -> None:
    assert client.get("/", headers=headers).status_code == 200


def test_every_answer_says_what_a_browser_may_do_with_it(client: TestClient) -> None:
    for path in ("/", "/index", "/docs", "/nothing", "/pictures/7"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
    page = client.get("/").text
    assert "default-src 'none'" in page
    assert "script-src 'sha256-" in page
    assert "connect-src 'self'" in page


@pytest.mark.parametrize(
    "given", [None, f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer", "Bearer é"]
)
def test_without_the_token_nothing_is_answered(guarded: TestClient, given: str | None) -> None:
    headers = {"Authorization": given.encode()} if given else {}
    for path in ("/", "/index", "/metrics", "/docs", "/pictures/7", "/openapi.json"):
        response = guarded.get(path, headers=headers)  # type: ignore[arg-type]
        said = error_of(response, 401, "no-token")
        assert "Authorization: Bearer TOKEN" in said
    assert guarded.get("/healthz").status_code == 200


def test_programs_show_the_token_in_a_header(guarded: TestClient) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Host": "pictures.example"}
    response = guarded.post("/query", json={"names": ["00.png"]}, headers=headers)
    assert response.status_code == 200


def test_a_browser_opens_a_link_once_and_has_a_cookie_then(guarded: TestClient) -> None:
    first = guarded.get(f"/?token={TOKEN}&id=3&k=12", follow_redirects=False)
    assert (first.status_code, first.headers["location"]) == (303, "/?id=3&k=12")
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert TOKEN not in cookie
    assert guarded.get("/index").status_code == 200  # the client has kept the cookie
    guarded.cookies.clear()
    guarded.cookies.set("lamella", TOKEN)
    error_of(guarded.get("/index"), 401, "no-token")


def test_a_wrong_token_in_a_link_opens_nothing(guarded: TestClient) -> None:
    error_of(guarded.get("/?token=wrong", follow_redirects=False), 401, "no-token")
    error_of(guarded.get("/?xtoken=1", follow_redirects=False), 401, "no-token")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"host": "0.0.0.0"}, "may be reached by others, and they must then show a token"),
        ({"host": "example"}, "openssl rand -hex 16"),
        ({"token": "short"}, "at least 16 characters, or it could be guessed; this one has 5"),
        ({"token": "with a space in it, oh"}, "has others"),
        ({"token": "x\r\nSet-Cookie: a=b; more"}, "has others"),
        ({"urls": ("pictures.example",)}, "got pictures.example"),
        ({"urls": ("https://pictures.example",)}, "with a whole host and the slash behind it"),
        ({"urls": ("file:///etc/",)}, "--allow-url takes the beginning of addresses"),
    ],
)
def test_a_server_does_not_start_open_to_others(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said.replace(".", r"\.")):
        ServeSettings("store", **settings)


def test_which_addresses_are_of_this_machine() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.example", "")))
