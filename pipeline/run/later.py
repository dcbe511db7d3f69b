"""A part of a task that is read when its turn comes, so that waiting tasks hold no memory."""

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Later(Generic[T]):
    """A value that is made whenever it is asked for; to a worker elsewhere goes the value itself.

    So a worker needs nothing that only the machine of the command has, such as a file.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make

    def __call__(self) -> T:
        """Return the value."""
        return self._make()

    def __reduce__(self) -> tuple[type["_Made[T]"], tuple[T]]:
        return _Made, (self._make(),)


class _Made(Generic[T]):
    def __init__(self, value: T) -> None:
        self._value = value

    def __call__(self) -> T:
        return self._value
