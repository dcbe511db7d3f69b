"""The routes that ask the index; each waits for its turn."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from fastapi import FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from lamella.cluster.serve import models
from lamella.cluster.serve.answers import ARROW, Queries, as_arrow, as_json
from lamella.cluster.serve.docs import body_of
from lamella.cluster.serve.explaining import ExplainForm, Pair, explanation_json
from lamella.cluster.serve.fetched import fetched
from lamella.cluster.serve.problems import Problem
from lamella.cluster.serve.settings import ServeSettings
from lamella.cluster.serve.turns import Turns
from lamella.cluster.serve.uploads import Uploaded, check_count, checked, read_request

T = TypeVar("T")

FAILS: dict[int | str, dict[str, Any]] = {
    code: {"model": models.Failure, "description": said}
    for code, said in (
        (400, "A value that cannot be used, or no query."),
        (401, "The token is missing."),
        (403, "An address, a host or a page that is not allowed."),
        (408, "The body did not come in time."),
        (413, "The body is too large."),
        (429, "The queue is full; Retry-After says when to ask again."),
    )
}


def add(app: FastAPI, settings: ServeSettings, turns: Turns[Any, Any]) -> None:
    """Add the routes to an application."""

    @app.post(
        "/query",
        response_model=models.Answers,
        responses={**FAILS, 200: {"content": {ARROW: {}}}},
        openapi_extra=body_of(models.Asked, models.Search),
        tags=["asking"],
    )
    async def query(request: Request) -> Response:
        """Rank the index for pictures (a form with files), or for ids, names or urls (JSON)."""
        turns.check()  # before a body is read that nobody will look at
        asked, pictures = await read_request(request, models.Asked, models.Search)
        if isinstance(asked, models.Asked):
            queries = await _queries_of(asked, settings)
        else:
            queries = _pictures_of(asked, pictures)
        answers = await _answered(request, turns.ask(queries, queries.key, queries.cost))
        accepted = request.headers.get("accept", "")
        arrow = asked.format == "arrow" or (asked.format is None and ARROW in accepted)
        content = await asyncio.to_thread(as_arrow if arrow else as_json, answers)
        return Response(content, media_type=ARROW if arrow else "application/json")

    @app.get("/explain", responses=FAILS, tags=["asking"])
    async def explain(
        request: Request,
        query: str = Query(description="The id of an indexed image, or its name."),
        result: str = Query(description="The id of an indexed image, or its name."),
        layers: str | None = Query(None, description="As in a query: `head,p15`."),
        t: str | None = Query(None, description="Thresholds, high layer first: `0.2,0.4`."),
        p: str | None = Query(None, description="Powers, high layer first."),
        w: str | None = Query(None, description="Weights of the layers, high layer first."),
    ) -> Response:
        """Say why an image has its rank for another, and where on both the shared words are.

        The answer is what `lamella explain --json` prints: S, f(S) and w f(S) by layer, ranks, the
        images beside it, and `matches`, whose boxes are shares of the upright picture: left, top,
        width, height.
        """
        given = {"layers": layers, "t": t, "p": p, "w": w}
        fused = checked(models.Fused, {name: said for name, said in given.items() if said})
        return await _explained(request, Pair(query, result, fused.arguments()))

    @app.post(
        "/explain", responses=FAILS, openapi_extra=body_of(None, ExplainForm), tags=["asking"]
    )
    async def explain_upload(request: Request) -> Response:
        """The same for a picture from elsewhere, sent as a form."""
        turns.check()
        asked, pictures = await read_request(request, ExplainForm, ExplainForm)
        if len(pictures) != 1:
            raise Problem(
                400, "wrong-request", f"one picture is explained; got {len(pictures)} in the form"
            )
        return await _explained(request, Pair(pictures[0], asked.result, asked.arguments()))

    async def _explained(request: Request, pair: Pair) -> Response:
        explanation: Mapping[str, Any] = await _answered(request, turns.ask(pair))
        content = await asyncio.to_thread(explanation_json, explanation)
        return Response(content, media_type="application/json")


async def _queries_of(asked: models.Asked, settings: ServeSettings) -> Queries:
    """Return what a request in JSON asks."""
    kinds: dict[str, list[Any] | None] = {
        "ids": asked.ids,
        "names": asked.names,
        "urls": asked.urls,
    }
    given = {kind: items for kind, items in kinds.items() if items is not None}
    if len(given) != 1:
        raise Problem(
            400,
            "wrong-request",
            f"a request asks by one of ids, names and urls; got {', '.join(given) or 'none'}: "
            "send one for each",
        )
    ((kind, items),) = given.items()
    check_count(len(items))
    if kind == "urls":
        return await run_in_threadpool(fetched, items, asked.arguments(), settings)
    return Queries(kind, tuple(items), asked.arguments())


def _pictures_of(asked: models.Search, pictures: Uploaded) -> Queries:
    """Return what a form asks."""
    check_count(len(pictures))
    names = tuple(name for name, _ in pictures)
    return Queries("pictures", tuple(data for _, data in pictures), asked.arguments(), names)


async def _answered(request: Request, waiting: "Future[T]") -> T:
    """Return the answer when its turn has come; a client that goes away loses its place."""
    answer = asyncio.wrap_future(waiting)
    gone = asyncio.ensure_future(_disconnected(request))
    both: set[asyncio.Future[Any]] = {answer, gone}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise Problem(499, "gone", "the client has gone")
        return answer.result()
    finally:
        answer.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    """Return when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
