"""The page of the API, written from its OpenAPI; it loads nothing from elsewhere."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from lamella.pipeline.page.kit import render


def body_of(of_json: type[BaseModel] | None, of_form: type[BaseModel]) -> dict[str, Any]:
    """Return what OpenAPI says of the body of a request: JSON, or a form with pictures."""
    form = of_form.model_json_schema()
    files = {"type": "array", "items": {"type": "string", "format": "binary"}}
    files["description"] = "One or several files, under any names."
    form["properties"] = {"pictures": files} | form["properties"]
    content = {"multipart/form-data": {"schema": form}}
    if of_json is not None:
        content = {"application/json": {"schema": of_json.model_json_schema()}} | content
    return {"requestBody": {"required": True, "content": content}}


def page(openapi: Mapping[str, Any]) -> str:
    """Return the page of an API."""
    schemas = openapi["components"]["schemas"]
    routes = [
        {
            "method": method.upper(),
            "path": path,
            "tag": route["tags"][0],
            "about": route.get("description", ""),
            "parameters": [_parameter(each) for each in route.get("parameters", ())],
            "bodies": [
                (kind, _fields(each["schema"]))
                for kind, each in route.get("requestBody", {}).get("content", {}).items()
            ],
            "answer": _answer(route),
        }
        for path, methods in openapi["paths"].items()
        for method, route in methods.items()
    ]
    named = [
        (name, schema.get("description", ""), _fields(schema))
        for name, schema in schemas.items()
        if "properties" in schema and not name.endswith("ValidationError")
    ]
    return render(
        __package__, "docs", routes=routes, schemas=named, version=openapi["info"]["version"]
    )


def _parameter(said: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": said["name"],
        "type": _type(said["schema"]),
        "about": said.get("description", ""),
        "default": said["schema"].get("default"),
    }


def _fields(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "type": _type(field),
            "about": field.get("description", ""),
            "default": field.get("default"),
        }
        for name, field in schema.get("properties", {}).items()
    ]


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        kinds = [_type(each) for each in schema["anyOf"]]
        return " or ".join(kind for kind in kinds if kind != "null")
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if "additionalProperties" in schema and schema.get("type") == "object":
        values = schema["additionalProperties"]
        return "values by name" if values is True else f"{_type(values)} by layer"
    return str(schema.get("format") or schema.get("const") or schema.get("type", "any"))


def _answer(route: Mapping[str, Any]) -> str:
    schema = route["responses"]["200"].get("content", {}).get("application/json", {})
    return _type(schema.get("schema", {})) if schema.get("schema") else "bytes or JSON"
