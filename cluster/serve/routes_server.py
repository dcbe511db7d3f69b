"""The routes that tell of the server, and its pages."""

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from lamella.cluster.commands.metrics_export import registry
from lamella.cluster.serve import docs, models
from lamella.cluster.serve.answers import fused_layers
from lamella.cluster.serve.door import COOKIE, cookie_of
from lamella.cluster.serve.following import Following
from lamella.cluster.serve.page import page
from lamella.cluster.serve.settings import ServeSettings
from lamella.cluster.serve.turns import Turns

COOKIE_S = 30 * 86_400

PAGE_HEADERS = {
    # What a page may load stands in itself.
    "Content-Security-Policy": "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cache-Control": "no-cache",
}


def add(
    app: FastAPI, settings: ServeSettings, following: Following, turns: Turns[Any, Any]
) -> None:
    """Add the routes to an application."""

    @app.get("/index", response_model=models.IndexFacts, tags=["the server"])
    def index() -> models.IndexFacts:
        """Tell what is served."""
        with following.serving() as served:
            it = served.snapshot
            return models.IndexFacts(
                snapshot=it.number,
                root_digest=it.root_digest,
                published_at=it.published_at,
                images=it.images,
                indexed=it.indexed,
                refused=it.refused,
                layers=[
                    models.Layer(name=each.name, kind=each.kind, given=each.vectors is not None)
                    for each in it.extraction.layers
                ],
                fusion=fused_layers(it.fusion),
                uploads=not served.no_uploads,
                max_upload=settings.max_upload,
                urls=list(settings.urls),
            )

    @app.get("/folders", response_model=list[models.Folder], tags=["the server"])
    def folders() -> list[models.Folder]:
        """List the folders of the source by name; of many, the 500 with most pictures."""
        with following.serving() as served:
            return [models.Folder(name=name, images=count) for name, count in served.folders]

    @app.get("/healthz", response_model=models.Health, tags=["the server"])
    async def healthz() -> models.Health:
        """Say that an index is open. Needs no token."""
        return models.Health(
            status="ok",
            snapshot=following.current.snapshot.number,
            waiting=len(turns),
            follows=following.follows,
            problem=following.problem,
        )

    @app.get("/metrics", tags=["the server"])
    def metrics() -> Response:
        """Return what is counted, for Prometheus."""
        return Response(generate_latest(registry()), media_type=CONTENT_TYPE_LATEST)

    @app.get("/", include_in_schema=False)
    def start(request: Request) -> Response:
        if settings.token is not None and "token" in request.query_params:
            return _with_cookie(request, settings.token)
        return HTMLResponse(page(), headers=PAGE_HEADERS)

    @app.get("/docs", include_in_schema=False)
    def documentation() -> Response:
        return HTMLResponse(docs.page(app.openapi()), headers=PAGE_HEADERS)

    @app.get("/favicon.ico", include_in_schema=False)
    def icon() -> Response:
        return Response(status_code=204)


def _with_cookie(request: Request, token: str) -> Response:
    """Return the page's address without the token, which the door has seen, and a cookie for it."""
    rest = request.url.remove_query_params("token").query
    response = RedirectResponse(f"/?{rest}" if rest else "/", 303)
    # Sent with links from elsewhere, which only show the page, and with no other request of theirs.
    response.set_cookie(COOKIE, cookie_of(token), max_age=COOKIE_S, httponly=True, samesite="lax")
    return response
