"""What a request asks: the body of `POST /query` read as JSON, or as a form with pictures."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartParser
from starlette.requests import Request

from lamella.cluster.serve.problems import Problem
from lamella.pipeline.errors import one_line
from lamella.pipeline.names import known_names, shown
from lamella.pipeline.text import counted

M = TypeVar("M", bound=BaseModel)

MOST_QUERIES = 64
"""Of one request. A program that has more sends several, and others get their turn in between."""

Uploaded = list[tuple[str, bytes]]
"""Names and bytes of pictures."""


async def read_request(request: Request, of_json: type[M], of_form: type[M]) -> tuple[M, Uploaded]:
    """Return what a request says, and the pictures that came with it.

    Raises:
        Problem: it cannot be read, is too large or too slow, or has a value that is wrong.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return checked(of_json, await request.body()), []
    if kind != "multipart/form-data":
        raise Problem(
            415,
            "wrong-request",
            "a query is multipart/form-data with pictures, or application/json with names, ids or "
            f"urls; got {one_line(repr(kind), 100)}: set Content-Type",
        )
    parser = MultiPartParser(
        request.headers, request.stream(), max_files=MOST_QUERIES, max_fields=MOST_QUERIES
    )
    try:
        form = await parser.parse()
    except KeyError as error:  # of old versions, where the boundary is missing
        raise Problem(400, "wrong-request", f"the form cannot be read: no {error}") from None
    fields: dict[str, Any] = {}
    pictures: Uploaded = []
    try:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                pictures.append((value.filename or f"picture {len(pictures)}", await value.read()))
            elif name in fields:
                raise Problem(400, "wrong-request", f"the field {shown(name)} stands twice")
            else:
                fields[name] = value
    finally:
        await form.close()
    return checked(of_form, fields), pictures


def checked(model: type[M], value: bytes | dict[str, Any]) -> M:
    """Return the values of a request. Raises Problem where one is wrong, with all that are."""
    try:
        if isinstance(value, bytes):
            return model.model_validate_json(value)
        return model.model_validate(value)
    except ValidationError as error:
        said = "; ".join(_clause(model, each) for each in error.errors()[:10])
        raise Problem(400, "wrong-request", said) from None


def _clause(model: type[BaseModel], error: Any) -> str:
    key = ".".join(one_line(part, 100) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"there is no field {shown(key)}: it has {known_names(key, model.model_fields)}"
    said = one_line(error["msg"]).removeprefix("Input ")
    got = "" if error["type"] == "missing" else f"; got {one_line(repr(error['input']), 60)}"
    return f"{key or 'the body'}: {said}{got}"


def check_count(count: int) -> None:
    """Raise Problem where a request has no query, or too many."""
    if not count:
        raise Problem(400, "wrong-request", "there is no query: send a picture, an id or a name")
    if count > MOST_QUERIES:
        raise Problem(
            400,
            "wrong-request",
            f"a request has at most {counted(MOST_QUERIES, 'query')}; got {count}: send several",
        )
