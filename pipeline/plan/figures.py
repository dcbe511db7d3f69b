"""Arithmetic of means with standard errors."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from lamella.schemas.plan import Figure


def mean_of(values: Sequence[float] | NDArray[np.integer]) -> Figure:
    """Return the mean of some values and its standard error, s / sqrt(n).

    The error of one value is 0, and so are mean and error of none.
    """
    if len(values) == 0:
        return Figure(mean=0.0)
    found = np.asarray(values, np.float64)
    error = float(found.std(ddof=1)) / math.sqrt(len(found)) if len(found) > 1 else 0.0
    return Figure(mean=float(found.mean()), error=error)


def scaled(figure: Figure, factor: float, plus: float = 0.0) -> Figure:
    """Return a figure times a factor, plus a number without error."""
    return Figure(mean=figure.mean * factor + plus, error=figure.error * factor)


def total(figures: Iterable[Figure]) -> Figure:
    """Return the sum of independent figures: the squares of their errors add up."""
    found = list(figures)
    return Figure(
        mean=sum(each.mean for each in found),
        error=math.sqrt(sum(each.error**2 for each in found)),
    )


def per(figure: Figure, of: float) -> Figure:
    """Return `of` divided by a figure, with the same relative error; 0 if the figure is 0."""
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
