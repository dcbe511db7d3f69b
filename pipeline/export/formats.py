"""The formats of exported vectors, for those who only name them."""

from typing import Literal, get_args

Format = Literal["parquet", "npy", "arrow", "faiss", "lance"]
FORMATS: tuple[Format, ...] = get_args(Format)
