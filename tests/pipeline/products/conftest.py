from collections.abc import Iterator

import pytest

from lamella.pipeline.products import choice
from lamella.pipeline.search.cascade import CASCADES
from lamella.pipeline.vocabulary import refine


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin as a new process does; products are worth another kind however small they are."""
    monkeypatch.setattr(refine, "WORTH", 0)
    choice.forget()
    CASCADES.forget()
    yield
    choice.forget()
    CASCADES.forget()
