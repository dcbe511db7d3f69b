"""The HTTP application: its routes, and how each error is told."""

from importlib import metadata
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from lamella.cluster.serve import routes_asking, routes_pictures, routes_server
from lamella.cluster.serve.following import Following
from lamella.cluster.serve.problems import Problem, problem_of
from lamella.cluster.serve.settings import ServeSettings
from lamella.cluster.serve.turns import Turns


def make_app(settings: ServeSettings, following: Following, turns: Turns[Any, Any]) -> FastAPI:
    """Return the application, without its door."""
    app = FastAPI(
        title="Lamella",
        version=metadata.version("lamella"),
        description="Ranks the pictures of an index for pictures, by several layers together.",
        docs_url=None,
        redoc_url=None,
    )
    for kind in (Problem, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, _failed)
    routes_asking.add(app, settings, turns)
    routes_pictures.add(app, settings, following)
    routes_server.add(app, settings, following, turns)
    return app


async def _failed(request: Request, error: Exception) -> Response:
    if isinstance(error, RequestValidationError):
        said = "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())
        problem = Problem(400, "wrong-request", said)
    elif isinstance(error, HTTPException):
        problem = Problem(
            error.status_code,
            "no-such-path" if error.status_code == 404 else "wrong-request",
            f"{request.method} {request.url.path}: {error.detail}; /docs lists what there is",
            error.headers,
        )
    else:
        problem = problem_of(error)
    return JSONResponse(problem.body(), problem.status, problem.headers)
