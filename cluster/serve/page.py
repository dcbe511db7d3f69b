"""The page to search with, and what it is made of."""

from functools import cache

from lamella.pipeline.page.kit import render

SCRIPTS = ("page.state.js", "page.rank.js", "page.view.js", "page.why.js", "page.js")


@cache
def page() -> str:
    """Return the page. It asks the server for all that it shows."""
    return render(__package__, "page", scripts=SCRIPTS, live=True)
