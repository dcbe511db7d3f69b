"""Reading an image table, by the schema that it must have."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.store.tables import check_nulls, read_parquet
from schemas.corpus import IMAGES
from schemas.refusals import RefusalReason


def read_images(path: Path, columns: list[str] | None = None) -> Any:
    """Return an image table, in `IMAGES`, or some columns of it.

    Raises:
        ValueError: it is no such table, or a row says what no picture has.
    """
    table = read_parquet(path, columns, IMAGES)
    check_nulls(table, IMAGES)
    if columns is None:
        sound = pc.is_null(table.column("refusal"))
        for name in ("width", "height", "sha256"):
            if pc.any(pc.and_(sound, pc.is_null(table.column(name)))).as_py():
                raise ValueError(f"a picture that is not refused has no {name}")
        for name, least in (("width", 1), ("height", 1), ("offset", 0), ("size_bytes", 0)):
            if pc.any(pc.less(table.column(name), least)).as_py():
                raise ValueError(f"{name} of a picture is below {least}")
        check_reasons(table.column("refusal"))
    return table


def check_reasons(reasons: Any) -> None:
    """Check that a column names reasons for refusals, or nothing.

    Raises:
        ValueError: it names something else.
    """
    said = pc.unique(reasons.drop_null())
    known = pa.array([reason.value for reason in RefusalReason])
    strange = said.filter(pc.invert(pc.is_in(said, known)))
    if len(strange):
        raise ValueError(f"{strange[0].as_py()!r} is no reason for a refusal")
