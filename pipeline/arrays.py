"""Names for arrays by the type of their numbers; docstrings give their shapes."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Float16s = NDArray[np.float16]
Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
UInt8s = NDArray[np.uint8]
UInt16s = NDArray[np.uint16]
UInt32s = NDArray[np.uint32]
UInt64s = NDArray[np.uint64]

Scalar = TypeVar("Scalar", bound=np.generic)


def read_only(array: NDArray[Scalar], dtype: type[Scalar], what: str, ndim: int) -> NDArray[Scalar]:
    """Return a contiguous view that cannot be written, after checking dtype and dimensions.

    One kind of view also saves compiling a function twice.

    Raises:
        ValueError: another dtype or another number of dimensions.
    """
    if array.dtype != dtype or array.ndim != ndim:
        raise ValueError(
            f"{what} must be {np.dtype(dtype).name} with {ndim} dimensions; "
            f"got {array.dtype} with {array.ndim}"
        )
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
