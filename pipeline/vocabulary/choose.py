"""Choose how descriptors find their words: among all or through cells, on a GPU or a CPU."""

import os

from lamella.pipeline.arrays import Float32s
from lamella.pipeline.vocabulary.assign import Assigner, ExactAssigner
from lamella.schemas.vocabulary import AssignerKind, VocabularySpec

EXACT_UP_TO = 2_048
"""Largest vocabulary for which `auto` compares with every word; see `choose_assigner`."""


CARD_FROM = 8_192
"""From this many words on, comparing with all of them is worth a GPU."""


def choose_assigner(words: int, spec: VocabularySpec) -> AssignerKind:
    """Return the assigner for a vocabulary of this many words.

    A choice in the spec holds; `auto` is exact up to `EXACT_UP_TO` words.
    """
    if spec.assigner != "auto":
        return spec.assigner
    return "exact" if words <= EXACT_UP_TO else "cells"


def exact_assigner(centroids: Float32s) -> Assigner:
    """Return an exact assigner of words (K, D), on a GPU where that pays.

    Both give the same words, for float64 decides. torch is imported only from `CARD_FROM` words on,
    and not in a worker without a GPU: there `CUDA_VISIBLE_DEVICES` is empty.
    """
    if len(centroids) >= CARD_FROM and os.environ.get("CUDA_VISIBLE_DEVICES") != "":
        import torch

        if torch.cuda.is_available():
            from lamella.pipeline.vocabulary.on_gpu import GpuAssigner

            return GpuAssigner(centroids)
    return ExactAssigner(centroids)
