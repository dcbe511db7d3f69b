"""A card only proposes: whatever it rounds, and however it is asked, answers are those of CPUs."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lamella.pipeline.errors import InputError
from lamella.pipeline.search import gpu_layers, on_gpu
from lamella.pipeline.search.exact import search_exact
from lamella.pipeline.search.on_gpu import Card
from lamella.pipeline.search.segment import QueryBatch, SegmentData
from lamella.pipeline.search.topk import Effort
from lamella.schemas.query import FusionSpec
from tests.pipeline.search.test_exact import SPECS, assert_same, cut, random_corpus, seeds

on_a_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA here")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, on_a_card])]
each_device = pytest.mark.parametrize("device", DEVICES)
drawn = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
Product = Callable[[Tensor, Tensor], Tensor]


def assert_found(
    device: str, segments: list[SegmentData], queries: QueryBatch, spec: FusionSpec, k: int
) -> Effort:
    effort = Effort()
    card = Card(segments, device)
    found = search_exact(segments, queries, spec, k, effort=effort, find=card.find_reached)
    assert_same(found, search_exact(segments, queries, spec, k))
    return effort


@each_device
@given(seeds, st.integers(1, 40), st.integers(1, 45), st.sampled_from(SPECS))
@drawn
def test_a_card_finds_what_cpus_find(
    device: str, seed: int, n: int, k: int, spec: FusionSpec
) -> None:
    segment, queries = random_corpus(seed, n)
    assert_found(device, cut(segment, np.random.default_rng(seed)), queries, spec, k)


@each_device
@given(seeds, st.sampled_from(SPECS))
@drawn
def test_neither_blocks_nor_groups_nor_runs_of_postings_show(
    device: str, monkeypatch: pytest.MonkeyPatch, seed: int, spec: FusionSpec
) -> None:
    monkeypatch.setattr(on_gpu, "GROUP_QUERIES", 2)
    monkeypatch.setattr(on_gpu, "FIRST_IMAGES", 3)
    monkeypatch.setattr(on_gpu, "SLAB_IMAGES", 15)
    monkeypatch.setattr(gpu_layers, "POSTINGS", 5)
    monkeypatch.setattr(gpu_layers, "SENT_ROWS", 4)
    segment, queries = random_corpus(seed, 40)
    assert_found(device, cut(segment, np.random.default_rng(seed)), queries, spec, 4)


def cut_off(left: Tensor, right: Tensor) -> Tensor:
    """A product as tensor cores may round it: each sum cut off at 22 bits, term by term."""
    total = torch.zeros((len(left), len(right)))
    for place in range(left.shape[1]):
        total += torch.outer(left[:, place].float(), right[:, place].float())
        total = (total.view(torch.int32) & -4).view(torch.float32)
    return total


@given(seeds, st.sampled_from(SPECS))
@drawn
def test_a_product_that_is_cut_off_changes_no_answer(
    monkeypatch: pytest.MonkeyPatch, seed: int, spec: FusionSpec
) -> None:
    monkeypatch.setattr(gpu_layers, "product", cut_off)
    segment, queries = random_corpus(seed, 40)
    assert_found("cpu", [segment], queries, spec, 3)


@each_device
def test_most_images_are_left_out_by_what_the_card_knows(device: str) -> None:
    segment, queries = random_corpus(5, 40)
    effort = assert_found(device, [segment], queries, SPECS[0], 2)
    assert effort.pairs == 120
    assert effort.decided < 30


def test_with_too_little_memory_fewer_queries_are_asked_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    segment, queries = random_corpus(7, 30)

    def short(left: Tensor, right: Tensor) -> Tensor:
        if len(left) > 2:  # of two numbers a query
            raise torch.OutOfMemoryError("CUDA out of memory")
        return left.float() @ right.float().T

    monkeypatch.setattr(gpu_layers, "product", short)
    assert_found("cpu", [segment], queries, SPECS[0], 3)

    def none(left: Tensor, right: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(gpu_layers, "product", none)
    with pytest.raises(InputError, match="no memory left to answer even one query"):
        assert_found("cpu", [segment], queries, SPECS[0], 3)


def test_segments_that_do_not_fit_are_refused_with_what_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    segment, _ = random_corpus(8, 30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 30, 80 << 30))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    with pytest.raises(InputError, match=r"30 images .* 1\.07 GB of 85\.9 GB .* holds 0 images"):
        Card([segment], "cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_the_way_out_is_said() -> None:
    with pytest.raises(InputError, match=r"engine\.search_on"):
        Card([], "cuda")


def test_a_card_is_asked_for_all_of_its_segments() -> None:
    segment, queries = random_corpus(9, 30)
    parts = cut(segment, np.random.default_rng(9))
    card = Card(parts, "cpu")
    with pytest.raises(ValueError, match="all of its segments"):
        search_exact(parts[:1], queries, SPECS[0], 3, find=card.find_reached)
