"""Count the ones in an integer, in compiled loops."""

from typing import Any

from lamella.pipeline.compiled import numba


@numba.extending.intrinsic  # type: ignore[untyped-decorator]
def ones_in(typing: Any, value: Any) -> Any:
    """Return how many bits of an unsigned integer are 1, as an integer of its type.

    As with `prefetch.fetch`, compiled functions may call it from another file.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return value(value), generate
