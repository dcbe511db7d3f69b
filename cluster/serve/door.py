"""What every request passes: who may ask, how much it may send, what is counted of it."""

import asyncio
import hashlib
import hmac
import time
import traceback
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lamella.cluster.serve.problems import Problem
from lamella.cluster.serve.settings import ServeSettings, is_loopback
from lamella.pipeline import events, meters
from lamella.pipeline.errors import one_line

COOKIE = "lamella"
OPEN = ("/healthz",)
"""What needs no token: a scheduler that looks has none."""

DRAIN_S, DRAIN_BYTES = 1.0, 16_000_000
"""Of a body that is not wanted, this is read after the answer: else the client, which is still
sending, would be cut off before it has read why."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
}


class Gone(Problem):
    """The client has gone before it had sent all."""

    def __init__(self) -> None:
        super().__init__(499, "gone", "the client has gone")


def cookie_of(token: str) -> str:
    """Return what the cookie of a page holds: it shows that the token was known, and is not it."""
    return hashlib.sha256(f"lamella-cookie:{token}".encode()).hexdigest()


class Door:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        body = _Body(self._settings, scope, receive)
        reply = _Reply(send, body)
        try:
            check_asker(self._settings, scope)
            body.check_length()
            await self._app(scope, body.receive, reply.send)
        except Problem as problem:
            await reply.fail(problem, scope)
        except Exception as error:
            events.error(
                "request-failed",
                one_line("".join(traceback.format_exception(error)), 4_000),
                path=scope["path"],
            )
        finally:
            route = getattr(scope.get("route"), "path", "other")
            meters.REQUESTS.add(route=route, code=str(reply.status))
            meters.REQUEST_SECONDS.observe(time.monotonic() - began, route=route)


def check_asker(settings: ServeSettings, scope: Scope) -> None:
    """Check that a request comes from whom it may come from.

    Raises:
        Problem: it lacks the token; or it is one that a page from elsewhere has made a browser
            send, which a name that leads to this machine (DNS rebinding) could do too.
    """
    host = _header(scope, "host")
    if settings.token is None and not is_loopback(_name_of(host)):
        raise Problem(
            403,
            "wrong-host",
            f"without a token this server is asked as localhost or 127.0.0.1; got the host "
            f"{one_line(repr(host), 100)}: ask it so, or start it with LAMELLA_TOKEN",
        )
    origin = _header(scope, "origin")
    elsewhere = bool(origin) and urlsplit(origin).netloc != host
    embedded = (
        _header(scope, "sec-fetch-site") == "cross-site"
        and _header(scope, "sec-fetch-mode") != "navigate"
    )
    if elsewhere or embedded:
        raise Problem(
            403,
            "wrong-origin",
            f"pages of other places may not ask this server; this one is of "
            f"{one_line(repr(origin or 'elsewhere'), 100)}: ask from the server's own page, or "
            "from a program",
        )
    if settings.token is not None and scope["path"] not in OPEN and not _shows(settings, scope):
        raise Problem(
            401,
            "no-token",
            "this server needs its token: send Authorization: Bearer TOKEN, or open /?token=TOKEN "
            "in a browser",
            {"WWW-Authenticate": "Bearer"},
        )


def _shows(settings: ServeSettings, scope: Scope) -> bool:
    """Say whether a request shows the token: in a header, by the cookie, or in a link."""
    token = settings.token or ""
    kind, _, given = _header(scope, "authorization").partition(" ")
    if kind.lower() == "bearer" and _same(given.strip(), token):
        return True
    try:
        cookie = SimpleCookie(_header(scope, "cookie")).get(COOKIE)
    except CookieError:
        cookie = None
    if cookie is not None and _same(cookie.value, cookie_of(token)):
        return True
    linked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])
    return scope["path"] == "/" and _same(linked[0], token)


def _same(given: str, right: str) -> bool:
    """Compare in a time that tells nothing of where they differ."""
    return hmac.compare_digest(given.encode(), right.encode())


def _name_of(host: str) -> str:
    """Return the host of a header without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _header(scope: Scope, name: str) -> str:
    return Headers(scope=scope).get(name, "")


class _Body:
    """The body of a request, which may be neither too large nor too slow."""

    def __init__(self, settings: ServeSettings, scope: Scope, receive: Receive) -> None:
        self._settings, self._receive = settings, receive
        self._taken = 0
        self._end = time.monotonic() + settings.body_s
        said = _header(scope, "content-length")
        self._length = int(said[:20]) if said.isdecimal() else 0
        self.done = not self._length and not _header(scope, "transfer-encoding")

    def check_length(self) -> None:
        """Raise Problem where a request says that its body is too large."""
        if self._length > self._settings.max_upload:
            raise self._too_large()

    async def receive(self) -> Message:
        """Return the next part; raise Problem where it may not or does not come."""
        if self.done:
            return await self._receive()
        try:
            left = min(self._settings.chunk_s, self._end - time.monotonic())
            message = await asyncio.wait_for(self._receive(), max(left, 0.0))
        except TimeoutError:
            raise Problem(
                408,
                "too-slow",
                f"the body of a request comes within {self._settings.body_s:g} s, and its next "
                f"bytes within {self._settings.chunk_s:g} s; this one did not: send it again",
            ) from None
        if message["type"] == "http.disconnect":
            raise Gone
        self._taken += len(message.get("body", b""))
        if self._taken > self._settings.max_upload:
            raise self._too_large()
        self.done = not message.get("more_body", False)
        return message

    async def drain(self) -> None:
        """Read what is still sent, for a while, and forget it."""
        end, taken = time.monotonic() + DRAIN_S, 0
        while not self.done and taken < DRAIN_BYTES:
            try:
                message = await asyncio.wait_for(self._receive(), end - time.monotonic())
            except TimeoutError:
                return
            taken += len(message.get("body", b""))
            self.done = not message.get("more_body", False)

    def _too_large(self) -> Problem:
        most = self._settings.max_upload
        return Problem(
            413,
            "too-large",
            f"a request has at most {most:,} bytes; this one has more: send fewer or smaller "
            "pictures, or start the server with a larger --max-upload",
        )


class _Reply:
    """Sends an answer with the headers that all have; closes where the body was not read."""

    def __init__(self, send: Send, body: _Body) -> None:
        self._send, self._body = send, body
        self.status = 499
        self._begun = False

    async def send(self, message: Message) -> None:
        """See ASGI."""
        if message["type"] == "http.response.start":
            self._begun, self.status = True, message["status"]
            headers = list(message.get("headers", []))
            there = {name.lower() for name, _ in headers}
            for name, value in HEADERS.items():
                if name.lower().encode() not in there:
                    headers.append((name.lower().encode(), value.encode()))
            if not self._body.done:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        elif not message.get("more_body", False) and not self._body.done:
            await self._send({**message, "more_body": True})
            await self._body.drain()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def fail(self, problem: Problem, scope: Scope) -> None:
        """Answer with a problem, unless an answer has begun or nobody is there."""
        if self._begun or isinstance(problem, Gone):
            return
        response = JSONResponse(problem.body(), problem.status, problem.headers)
        await response(scope, self._body.receive, self.send)
