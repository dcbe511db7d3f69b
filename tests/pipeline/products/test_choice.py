import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lamella.pipeline.products import choice, codes, rows, trial
from lamella.pipeline.products.cpu import Cpu
from lamella.pipeline.search import cascade
from lamella.pipeline.search.bounds import LEADS_FIRST, Cascade
from lamella.pipeline.search.cascade import CASCADES
from lamella.schemas.job import ProductKind
from tests.pipeline.products.answers import KINDS, by, corpus, digest_of, searched, words_found

ROOT = Path(__file__).parents[3]
WITH_BF16 = Cpu("A CPU", "AVX512", "avx512_bf16", "", "avx512_vnni")
SHAPE = ((256, 1_280),)
LIMITS = ("AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_BF16", "DEFAULT")


def same(left: object, right: object) -> bool:
    names = ("image_ids", "scores", "similarities", "certified")
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in names)


@pytest.mark.parametrize("width", [1, 7, 130])
@pytest.mark.parametrize("kind", KINDS)
def test_every_cascade_gives_the_same_answers(kind: ProductKind, width: int) -> None:
    segments, queries = corpus(width)
    expected = searched(segments, queries)
    for whole in (False, True):
        assert same(searched(segments, queries, by(kind, whole=whole)), expected)
    choice.use(kind)
    assert same(searched(segments, queries), expected)


def test_words_are_the_same_in_bfloat16() -> None:
    expected = words_found()
    choice.use("bfloat16")
    assert choice.for_words(1) == "bfloat16"
    for found, plain in zip(words_found(), expected, strict=True):
        assert np.array_equal(found, plain)


@pytest.mark.parametrize(
    "limit", ["SSE41", *(pytest.param(each, marks=pytest.mark.slow) for each in LIMITS)]
)
def test_answers_are_the_same_whatever_onednn_may_use(limit: str) -> None:
    digest = digest_of("float32")
    found = subprocess.run(
        [sys.executable, "-m", "tests.pipeline.products.answers"],
        cwd=ROOT,
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": limit},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == [digest] * len(KINDS)


def one_off(*_: object) -> None:
    raise RuntimeError("could not create a primitive")


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ("numbers", "a product is "),
        ("nan", "was computed as nan"),
        ("raises", "could not create a primitive; float32"),
    ],
)
@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_kind_that_fails_is_told_once_and_float32_is_used(
    kind: ProductKind,
    lie: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    segments, queries = corpus(20)
    expected, words = searched(segments, queries), words_found()
    owner = codes._BFloat16 if kind == "bfloat16" else codes._Int8
    true = owner.multiply

    def lying(self: codes.Weights, block: np.ndarray, out: np.ndarray) -> None:
        true(self, block, out)  # type: ignore[arg-type]
        out[0, 0] = np.nan if lie == "nan" else out[0, 0] * 1.05 + 1.0

    monkeypatch.setattr(owner, "multiply", one_off if lie == "raises" else lying)
    choice.use(kind)
    with caplog.at_level(logging.WARNING, "lamella"):
        for _ in range(2):
            assert same(searched(segments, queries), expected)
            for found, plain in zip(words_found(), words, strict=True):
                assert np.array_equal(found, plain)
    lines = [each.getMessage() for each in caplog.records]
    assert len(lines) == 1
    assert lines[0].startswith(f"products-fall-back products={kind} cpu=")
    assert said in lines[0]
    assert lines[0].endswith("float32 is used, which gives the same answers and takes longer")


def test_a_lie_in_products_of_rows_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    true = rows.BFloat16Rows.multiply

    def lying(self: rows.BFloat16Rows, left: np.ndarray, out: np.ndarray) -> np.ndarray:
        errors = true(self, left, out)
        out[-1, -1] += np.float32(3.0)
        return errors

    monkeypatch.setattr(rows.BFloat16Rows, "multiply", lying)
    assert trial.what_is_wrong("bfloat16").startswith("a product is ")


def test_words_take_bfloat16_by_themselves_only_where_it_is_there_and_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "this_cpu", lambda: WITH_BF16)
    speeds = {"float32": 100.0, "bfloat16": 119.0}
    monkeypatch.setattr(choice, "gflops_of_rows", lambda kind, *_: speeds[kind])
    assert choice.for_words(1) == "float32"
    choice.forget()
    speeds["bfloat16"] = 120.0
    assert choice.for_words(1) == "bfloat16"
    choice.use("int8")  # of no use for words
    assert choice.for_words(1) == "float32"


def test_torch_waits_until_products_would_have_paid_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    assert not choice.torch_is_worth(choice.IMPORTED_FROM - 1)
    assert choice.torch_is_worth(1)
    choice.forget()
    assert not choice.torch_is_worth(1)
    choice.use("int8")
    assert choice.torch_is_worth(1)


def test_nothing_is_tried_where_little_is_asked() -> None:
    enough = cascade.TRIED_FROM // 256
    assert not CASCADES.due(SHAPE, 128, 100_000, enough - 1)
    assert not CASCADES.due(SHAPE, 128, cascade.IMAGES_FROM - 1, 1)
    assert not CASCADES.due(SHAPE, cascade.QUERIES_FROM - 1, 100_000, 1)
    assert not CASCADES.due((), 128, 100_000, enough)
    choice.use("float32")
    assert not CASCADES.due(SHAPE, 128, 100_000, enough)
    choice.use("auto")
    assert len(CASCADES.due(SHAPE, 128, 100_000, 1)) >= 4  # float32 and int8, axes and whole
    assert not CASCADES.due(SHAPE, 128, 100_000, 1), "they are tried once"


def test_the_fastest_cascade_is_used_by_groups_of_many_queries() -> None:
    tried = CASCADES.due(SHAPE, 128, 100_000, cascade.TRIED_FROM)
    fastest = Cascade("int8", whole=True)
    CASCADES.settle(SHAPE, tried, lambda each: 1.0 if each == fastest else 2.0)
    assert CASCADES.now(SHAPE, 128) == fastest
    assert CASCADES.now(SHAPE, 1) == LEADS_FIRST
    assert CASCADES.now(((8, 16),), 128) == LEADS_FIRST
    choice.use("float32")
    assert CASCADES.now(SHAPE, 128) == LEADS_FIRST


def test_a_kind_that_was_asked_for_is_the_only_one_tried() -> None:
    choice.use("bfloat16")
    assert CASCADES.now(SHAPE, 1) == Cascade("bfloat16")
    found = CASCADES.due(SHAPE, 128, 100_000, cascade.TRIED_FROM)
    assert found == [Cascade("bfloat16"), Cascade("bfloat16", whole=True)]


def test_a_search_tries_cascades_and_answers_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    segments, queries = corpus(40)
    expected = searched(segments, queries)
    for name, value in (("IMAGES_FROM", 1), ("QUERIES_FROM", 1), ("TRIED_FROM", 1)):
        monkeypatch.setattr(cascade, name, value)
    assert same(searched(segments, queries), expected)
    assert set(CASCADES._chosen) == {((40, 40),)}
    assert same(searched(segments, queries), expected)


def test_a_small_index_imports_no_torch() -> None:
    code = """
import sys
from tests.pipeline.products import answers
segments, queries = answers.corpus(20)
answers.searched(segments, queries)
answers.words_found()
print("torch" in sys.modules)
"""
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["False"]


@pytest.mark.parametrize(("seconds", "wins"), [(0.9, False), (0.87, False), (0.86, True)])
def test_another_cascade_must_be_clearly_faster(seconds: float, wins: bool) -> None:
    other = Cascade("int8", whole=True)
    taken = {LEADS_FIRST: 1.0, other: seconds}
    CASCADES.settle(SHAPE, list(taken), lambda each: taken[each])
    assert CASCADES.now(SHAPE, 128) == (other if wins else LEADS_FIRST)
    CASCADES.settle(SHAPE, [other], lambda each: 5.0)  # asked for by name, there is no other
    assert CASCADES.now(SHAPE, 128) == other
