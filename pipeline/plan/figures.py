"""Means with their standard errors, and the little arithmetic that they need."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from lamella.schemas.plan import Figure


def mean_of(values: Sequence[float] | NDArray[np.integer]) -> Figure:
    """Return the mean of some values and its standard error, s / sqrt(n); 0 of one or none."""
    if len(values) == 0:
        return Figure(mean=0.0)
    found = np.asarray(values, np.float64)
    error = float(found.std(ddof=1)) / math.sqrt(len(found)) if len(found) > 1 else 0.0
    return Figure(mean=float(found.mean()), error=error)


def scaled(figure: Figure, factor: float, plus: float = 0.0) -> Figure:
    """Return a figure times a factor, and something known added."""
    return Figure(mean=figure.mean * factor + plus, error=figure.error * factor)


def total(figures: Iterable[Figure]) -> Figure:
    """Return the sum of figures; errors of independent ones add as squares."""
    found = list(figures)
    return Figure(
        mean=sum(each.mean for each in found),
        error=math.sqrt(sum(each.error**2 for each in found)),
    )


def per(figure: Figure, of: float) -> Figure:
    """Return `of` over a figure, as pictures over seconds; its relative error stays. 0 over 0."""
    if figure.mean == 0:
        return Figure(mean=0.0)
    mean = of / figure.mean
    return Figure(mean=mean, error=mean * figure.error / figure.mean)


def product(one: Figure, other: Figure) -> Figure:
    """Return the product of two independent figures, to the first order in their errors."""
    return Figure(
        mean=one.mean * other.mean,
        error=math.hypot(one.error * other.mean, one.mean * other.error),
    )
