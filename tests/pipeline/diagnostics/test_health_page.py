"""The page of words: its figures, its patches once each, and names that do nothing."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from lamella.pipeline.diagnostics.health_page import Excited, caption, excited_words, render, story
from lamella.pipeline.diagnostics.inspect import LayerHealth, inspect_layer
from lamella.pipeline.diagnostics.patches import Patch, Seen, WordPatches
from lamella.pipeline.page.jpeg import JPEG_START, jpeg_of
from lamella.pipeline.store.local import LocalStore
from tests.conftest import Indexed

EVIL = (
    "<script>alert(1)</script>",
    '"><img src=x onerror="alert(1)">',
    "\u202egnp.back",
    "\x1b[31mred",
    "{{ 7 * 7 }}",
)


class Tags(HTMLParser):
    """Notes the tags of a page, and every attribute that would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.acting: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.acting += [name for name, _ in attrs if name in ("src", "href") or name[:2] == "on"]


def patch(name: str, shade: int) -> Patch:
    return Patch(name, 0.1, jpeg_of(np.full((8, 8, 3), shade, np.uint8)))


def excited(*names: str, word: int = 0, unreadable: int = 0) -> Excited:
    patches = tuple(patch(name, 40 * place) for place, name in enumerate(names))
    seen = Seen((WordPatches(word, patches, unreadable),), 1_000, 1_000)
    return Excited("The most used words", (word,), seen)


@pytest.fixture(scope="module")
def health(indexed: Indexed) -> LayerHealth:
    return inspect_layer(LocalStore(indexed.store), indexed.snapshot, "p15", listed=4)


def test_the_page_of_a_real_index(indexed: Indexed, health: LayerHealth) -> None:
    store = LocalStore(indexed.store)
    groups = excited_words(store, indexed.snapshot, health, 4)
    page = render(indexed.snapshot, [(health, groups)])
    assert [each.heading for each in groups] == ["The most used words", "Words drawn at random"]
    assert groups[0].words == health.use.most_used(4)
    assert not set(groups[0].words) & set(groups[1].words)
    tags = Tags()
    tags.feed(page)
    assert tags.tags.count("svg") == 1 + 6  # the brand, and six charts
    assert tags.acting == []
    shown = sum(len(word.patches) for each in groups for word in each.seen.words)
    assert shown == page.count('<div class="patch ') == page.count("data:image/jpeg;base64,") > 0
    for line in health.most_used:
        assert f"<b>word {line.word}</b>" in page
    assert indexed.snapshot.root_digest in page
    for rule in re.findall(r'class="patch ([^"]+)"', page):
        assert f".{rule}{{" in page


def test_names_do_nothing(indexed: Indexed, health: LayerHealth) -> None:
    snapshot = indexed.snapshot.model_copy(update={"corpus": "".join(EVIL)})
    page = render(snapshot, [(health, [excited(*EVIL)])])
    tags = Tags()
    tags.feed(page)
    assert not {"script", "img", "iframe", "link"} & set(tags.tags)
    assert tags.acting == []
    assert not {char for char in page if not char.isprintable() and char != "\n"}
    for shown in ("&lt;script&gt;alert(1)", "\\u202egnp.back", "\\x1b[31mred", "{{ 7 * 7 }}"):
        assert page.count(shown) >= 3  # the title, the head, a patch
    assert "default-src &#39;none&#39;" not in page
    assert "default-src 'none'" in page
    assert "script-src 'none'" in page


def test_what_is_no_jpeg_is_refused(indexed: Indexed, health: LayerHealth) -> None:
    bad = WordPatches(0, (Patch("a", 0.1, b"}</style>"),), 0)
    with pytest.raises(ValueError, match="patches are JPEG bytes; one of 0 is not"):
        render(indexed.snapshot, [(health, [Excited("", (0,), Seen((bad,), 1, 1))])])
    assert patch("a", 1).jpeg.startswith(JPEG_START)


def test_the_caption_says_what_was_looked_at_and_what_was_left_out() -> None:
    whole = caption([excited("a")])
    assert "of the 1,000 descriptors that the words were trained on; at most one a picture" in whole
    assert "6 x 6 strides of the layer's grid" in whole
    assert "left out" not in whole
    some = excited("a", unreadable=2)
    some = replace(some, seen=replace(some.seen, rows=5_000))
    text = caption([some, excited("b", unreadable=1)])
    assert "of 1,000 of the 5,000 descriptors" in text
    assert "3 patches are left out: their pictures can no longer be read." in text
    assert caption([]) == caption([replace(some, seen=Seen((), 0, 0))])
    assert "no sample" in caption([])


def test_the_story_says_when_there_are_fewer_words_than_asked_for(health: LayerHealth) -> None:
    assert "asked for" not in story(health)
    fewer = health.vocabulary.model_copy(update={"words_requested": 99})
    assert " (of 99 asked for) of p15 " in story(replace(health, vocabulary=fewer))


def test_a_page_without_rounds_or_patches_is_drawn(indexed: Indexed, health: LayerHealth) -> None:
    page = render(indexed.snapshot, [(replace(health, rounds=(), recall=None), ())])
    assert "round by round" not in page
    assert "There are no patches" in page


def test_rows_held_out_are_drawn_beside_those_trained_on(
    indexed: Indexed, health: LayerHealth
) -> None:
    rounds = tuple(
        replace(line, held_error=line.objective * 1.1 if place else None)
        for place, line in enumerate(health.rounds)
    )
    held = replace(health, rounds=rounds, held_error=0.4321, held_rows=50)
    page = render(indexed.snapshot, [(held, ())])
    assert "rows held out" in page
    assert "0.4321" in page
    assert "rows held out" not in render(
        indexed.snapshot,
        [(replace(health, rounds=tuple(replace(each, held_error=None) for each in rounds)), ())],
    )
