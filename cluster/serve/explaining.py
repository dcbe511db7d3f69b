"""Why an image has its rank, for a page to draw."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from lamella.cluster.serve.models import Fused
from lamella.cluster.serve.served import Served
from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.pair import Explanation
from lamella.pipeline.names import shown


class ExplainForm(Fused):
    """What stands in a form beside the picture that is explained."""

    result: str = Field(description="The id of an indexed image, or its name.")


@dataclass(frozen=True, eq=False)
class Pair:
    """A query and a result. The query is an indexed image, or the name and bytes of a picture."""

    query: str | tuple[str, bytes]
    result: str
    arguments: Mapping[str, Any]


def explain(served: Served, pair: Pair) -> dict[str, Any]:
    """Return the explanation of a pair, as JSON has it.

    Raises:
        LamellaError: as `Index.explain`.
    """
    result = _image(served, pair.result)
    if isinstance(pair.query, str):
        found = served.index.explain(_image(served, pair.query), result, **pair.arguments)
        return _plain(found)
    name, data = pair.query
    value = _plain(served.index.explain(data, result, **pair.arguments))
    return value | {"query": value["query"] | {"name": name}}


def _image(served: Served, text: str) -> int:
    """Return the image that is meant by an id or a name; never a file, which a text may name too.

    Raises:
        InputError: there is none.
    """
    if text.isascii() and text.isdecimal():
        return int(text[:30])
    found = served.ids_of([text])
    if text not in found:
        raise InputError(
            f"snapshot {served.snapshot.number} has no indexed image of name {shown(text)}: names "
            "are relative to the source"
        )
    return found[text]


def _plain(explanation: Explanation) -> dict[str, Any]:
    """Return it with ids as texts, as in all answers: numbers of JavaScript have 53 bits."""
    value = explanation.to_dict()
    sides = [value["query"], value["result"], *value["above"], *value["below"]]
    for side in sides:
        if side["image_id"] is not None:
            side["image_id"] = str(side["image_id"])
    return value


def explanation_json(value: Mapping[str, Any]) -> bytes:
    """Return an explanation as bytes."""
    return json.dumps(value).encode()
