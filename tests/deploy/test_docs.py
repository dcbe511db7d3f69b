"""The documents name what is there: files, headings and modules."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(
            page
            for part in ("schemas", "cluster", "deploy")
            for page in (ROOT / part).rglob("*.md")
        ),
    ]
)
FILES = [
    str(path.relative_to(ROOT))
    for part in ("schemas", "pipeline", "cluster", "tests", "deploy")
    for path in (ROOT / part).rglob("*")
    if path.is_file()
] + [path.name for path in ROOT.iterdir() if path.is_file()]


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def broken_links(page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = target.partition("#")
        if target.startswith(("https://", "http://")):
            continue
        found = (page.parent / path).resolve() if path else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_are_there(page: Path) -> None:
    named = set(re.findall(r"(?<![\w/.~-])([\w/]*\w\.(?:py|md))(?![\w/])", prose(page)))
    missing = {name for name in named if not any(f"/{each}".endswith(f"/{name}") for each in FILES)}
    assert missing == set()


def test_code_cites_no_document_that_is_not_there() -> None:
    cited = {
        (str(path.relative_to(ROOT)), name)
        for part in ("schemas", "pipeline", "cluster")
        for path in (ROOT / part).rglob("*.py")
        for name in re.findall(r"[\w/]*\w\.md\b", path.read_text(encoding="utf-8"))
    }
    assert cited
    assert not {each for each in cited if not any(f"/{f}".endswith(f"/{each[1]}") for f in FILES)}


def test_every_page_of_decisions_is_in_the_index() -> None:
    index = (ROOT / "cluster" / "DECISIONS.md").read_text(encoding="utf-8")
    for page in (ROOT / "cluster" / "decisions").glob("*.md"):
        assert f"(decisions/{page.name})" in index
