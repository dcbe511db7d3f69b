"""Make self-contained HTML pages from templates.

Names of pictures are untrusted: templates escape everything, `printable` spells unprintable
characters out, and the policy of a page allows no script but its own, by its SHA-256.
"""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from lamella.pipeline.text import printable

FRAME = "lamella.pipeline.page"


def render(
    package: str,
    name: str,
    *,
    scripts: Sequence[str] | None = None,
    live: bool = False,
    **values: Any,
) -> str:
    """Return a page.

    The template `name.html.jinja` of the package extends `frame.html.jinja`, which says what blocks
    there are. `name.css` and `name.js` beside it are put into the page, after the style of all
    pages.

    Args:
        package: the module whose folder has the files, such as `lamella.pipeline.evaluate`.
        name: of the files.
        scripts: files that make up the script, in their order, where it is not `name.js` alone.
        live: whether its script asks the server that gave it, and shows files that a person chose.
        values: what the template shows.

    Raises:
        jinja2.UndefinedError: the template shows a value that was not given.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def source(asked: str) -> str | None:
        return _text(FRAME, asked) or _text(package, asked)

    environment = Environment(
        loader=FunctionLoader(source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["printable"] = printable
    environment.filters["grouped"] = lambda value: f"{value:,}"
    named = [f"{name}.js"] if scripts is None else scripts
    script = "".join(_text(package, each) or "" for each in named)
    return environment.get_template(f"{name}.html.jinja").render(
        style=(_text(FRAME, "house.css") or "") + (_text(package, f"{name}.css") or ""),
        script=script,
        policy=_policy(script, live),
        **values,
    )


def _text(package: str, name: str) -> str | None:
    file = files(package).joinpath(name)
    return file.read_text(encoding="utf-8") if file.is_file() else None


def _policy(script: str, live: bool) -> str:
    """Return what a page may load: pictures within it or beside it, and its own script."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"script-src 'sha256-{digest}'" if script else "script-src 'none'"
    policy = f"default-src 'none'; img-src data: 'self'; style-src 'unsafe-inline'; {allowed}"
    return f"{policy.replace('data:', 'data: blob:')}; connect-src 'self'" if live else policy
