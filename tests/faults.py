"""A real HTTP proxy on loopback between a client and a server, that does harm on request.

It passes every request on as it came, Host and all, so that signatures stay valid. A rule says what
happens to which request; a seeded one harms a stated share of them.
"""

import asyncio
import io
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal, Self

import aiohttp
import yarl
from aiohttp import web

Fault = Literal[
    "error",  # 500 InternalError, not passed on
    "slow down",  # 503 SlowDown, not passed on
    "silence",  # not passed on, and never answered
    "reset",  # the connection is cut, not passed on
    "lost reply",  # passed on; the connection is cut instead of an answer
    "delay",  # passed on after `DELAY_S`
    "slow body",  # the body comes in two halves, `DELAY_S` apart
    "cut body",  # the connection is cut after half of the body
]
DELAY_S = 0.3
_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "content-length"}
_ERRORS = {"error": (500, "InternalError"), "slow down": (503, "SlowDown")}


@dataclass(frozen=True)
class Request:
    """What a rule may look at: `number` counts from 0 all requests, `path` is /bucket/key."""

    number: int
    method: str
    path: str
    conditional: bool


Rule = Callable[[Request], Fault | None]


def no_fault(request: Request) -> Fault | None:
    return None


def shares(wanted: Mapping[Fault, float], seed: int) -> Rule:
    """Return a rule that does each harm to its share of all requests, chosen by the seed."""

    def rule(request: Request) -> Fault | None:
        drawn = random.Random(f"{seed} {request.number}").random()
        for fault, share in wanted.items():
            drawn -= share
            if drawn < 0:
                return fault
        return None

    return rule


class FaultProxy:
    """The proxy, in a thread of its own; `rule` may be changed at any time."""

    def __init__(self, upstream: str, rule: Rule = no_fault) -> None:
        self.rule = rule
        self.seen: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.endpoint = ""
        self._upstream = upstream
        self._number = 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="faults", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main())
        self._loop.close()

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{rest:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession(
            auto_decompress=False, requote_redirect_url=False
        ) as self._session:
            self._ready.set()
            await self._stop.wait()
        await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        conditional = "If-None-Match" in request.headers
        asked = Request(self._number, request.method, request.path, conditional)
        self._number += 1
        self.seen[request.method] += 1
        body = await request.read()
        fault = self.rule(asked)
        if fault is not None:
            self.done[fault] += 1
        if fault in _ERRORS:
            status, code = _ERRORS[fault]
            text = f"<Error><Code>{code}</Code><Message>made by a test</Message></Error>"
            return web.Response(status=status, text=text, content_type="application/xml")
        if fault == "reset":
            return _cut(request)
        if fault == "silence":
            await self._stop.wait()  # the handler is ended when the client hangs up
        if fault == "delay":
            await asyncio.sleep(DELAY_S)
        try:
            status, headers, data = await self._pass_on(request, body)
        except aiohttp.ClientError:
            return _cut(request)  # the server is away, or went away in the middle
        if fault == "lost reply":
            return _cut(request)
        if request.method == "HEAD":
            return web.Response(status=status, headers=headers)
        headers.pop("Content-Length", None)
        if fault not in ("slow body", "cut body") or len(data) < 2:
            return web.Response(status=status, headers=headers, body=data)
        reply = web.StreamResponse(
            status=status, headers=headers | {"Content-Length": str(len(data))}
        )
        await reply.prepare(request)
        await reply.write(data[: len(data) // 2])
        if fault == "cut body":
            return _cut(request, reply)
        await asyncio.sleep(DELAY_S)
        with suppress(ConnectionError):
            await reply.write(data[len(data) // 2 :])
            await reply.write_eof()
        return reply

    async def _pass_on(
        self, request: web.Request, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        headers = {n: v for n, v in request.headers.items() if n.lower() not in _HOP}
        url = yarl.URL(self._upstream + request.raw_path, encoded=True)
        async with self._session.request(
            request.method,
            url,
            data=io.BytesIO(body) if body else None,
            headers=headers,
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Content-Type", "Accept"),
        ) as reply:
            hop = _HOP - {"content-length"}
            kept = {n: v for n, v in reply.headers.items() if n.lower() not in hop}
            return reply.status, kept, await reply.read()


def _cut(request: web.Request, reply: web.StreamResponse | None = None) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return reply or web.Response()


@contextmanager
def faulty(upstream: str, rule: Rule = no_fault) -> Iterator[FaultProxy]:
    """Have a proxy before a server, and this process's requests go to it, inside the block."""
    from tests.s3 import environ, environment

    with FaultProxy(upstream, rule) as proxy, environ(environment(proxy.endpoint)):
        yield proxy
