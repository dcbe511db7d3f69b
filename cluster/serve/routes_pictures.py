"""The routes that show indexed pictures, by their ids alone: no path ever comes from outside."""

from typing import Any

from fastapi import FastAPI, Query, Request, Response

from lamella.cluster.serve import models
from lamella.cluster.serve.following import Following
from lamella.cluster.serve.settings import ServeSettings
from lamella.cluster.serve.shown import Shown, original

YEAR_S = 31_536_000

MISSING: dict[int | str, dict[str, Any]] = {
    404: {"model": models.Failure, "description": "No such image."},
    410: {"model": models.Failure, "description": "Its picture is gone, or another by now."},
}


def add(app: FastAPI, settings: ServeSettings, following: Following) -> None:
    """Add the routes to an application."""
    shown = Shown(settings.threads)

    @app.get("/random", response_model=models.RandomPicture, tags=["pictures"])
    def random() -> models.RandomPicture:
        """Draw an indexed image."""
        with following.serving() as served:
            row = served.row(served.random())
        return models.RandomPicture(image_id=str(row["image_id"]), name=row["name"])

    @app.get("/pictures/{image_id}", responses=MISSING, tags=["pictures"])
    def picture(image_id: int) -> Response:
        """Return the file of an indexed image, as it is."""
        with following.serving() as served:
            return original(served, image_id)

    @app.get("/pictures/{image_id}/thumbnail", responses=MISSING, tags=["pictures"])
    def thumbnail(
        request: Request,
        image_id: int,
        size: int = Query(
            256, ge=16, le=1024, description="Its longer edge in pixels, at most; a JPEG."
        ),
    ) -> Response:
        """Return an indexed image made small."""
        with following.serving() as served:
            row = served.row(image_id)
            tag = f'"{row["sha256"].hex()[:32]}-{size}"'
            headers = {"ETag": tag, "Cache-Control": f"private, max-age={YEAR_S}"}
            if request.headers.get("if-none-match") == tag:
                return Response(status_code=304, headers=headers)
            return Response(shown.thumbnail(served, row, size), 200, headers, "image/jpeg")
