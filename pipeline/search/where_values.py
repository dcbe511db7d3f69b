"""Values in a filter: constants, what has which type, and which types go together."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lamella.pipeline.errors import one_line

BOOL, INT, FLOAT, TEXT, NULL = pa.bool_(), pa.int64(), pa.float64(), pa.string(), pa.null()


class WrongType(Exception):
    """What is wrong with a part of a filter, for a person."""


@dataclass(frozen=True)
class Value:
    """A part of a filter.

    Attributes:
        said: how it was written.
        type: of Arrow.
        expression: of Arrow.
        constant: its value in Python, None where it depends on the picture.
    """

    said: str
    type: Any
    expression: Any
    constant: Any = None

    def as_float(self) -> Any:
        """Return a number as an expression of float64; the cast is exact, or fails when it runs."""
        return self.expression if self.type == FLOAT else self.expression.cast(FLOAT)


def in_words(kind: Any) -> str:
    """Return a type for a person: "a whole number (int64)"."""
    named = {BOOL: "true or false", INT: "a whole number", FLOAT: "a number", TEXT: "text"}
    if kind in named:
        return named[kind]
    if kind == NULL:
        return "None"
    return f"a day ({kind})" if pa.types.is_date(kind) else f"a time ({kind})"


def is_number(kind: Any) -> bool:
    """Say whether a type is one of numbers."""
    return kind in (INT, FLOAT)


def is_time(kind: Any) -> bool:
    """Say whether a type is one of days or times."""
    return bool(pa.types.is_date(kind) or pa.types.is_timestamp(kind))


def literal(said: str, constant: object) -> Value:
    """Return a constant.

    Raises:
        WrongType: it is of a kind that filters do not know, or out of range.
    """
    if constant is None:
        return Value(said, NULL, None)
    for python, kind in ((bool, BOOL), (int, INT), (float, FLOAT), (str, TEXT)):
        if isinstance(constant, python):
            try:
                return Value(said, kind, pc.scalar(pa.scalar(constant, kind)), constant)
            except (OverflowError, pa.ArrowException):
                raise WrongType(f"{said} is out of range: a whole number has 64 bits") from None
            except UnicodeEncodeError:
                raise WrongType(f"{said} holds what is no character") from None
    raise WrongType(f"{said} is {type(constant).__name__}: write a number or a text in quotes")


def paired(left: Value, right: Value) -> tuple[Any, Any]:
    """Return two values as expressions that can be compared.

    Raises:
        WrongType: their types do not go together.
    """
    if is_number(left.type) and is_number(right.type):
        if left.type == right.type:
            return left.expression, right.expression
        return _as_numbers(left, right)
    if is_time(left.type) and isinstance(right.constant, str):
        return left.expression, pc.scalar(_moment(right, left))
    if is_time(right.type) and isinstance(left.constant, str):
        return pc.scalar(_moment(left, right)), right.expression
    if left.type == right.type:
        return left.expression, right.expression
    raise WrongType(
        f"{left.said} is {in_words(left.type)}, {right.said} is {in_words(right.type)}: a "
        f"comparison has one type on both sides{_cure(left, right)}"
    )


def _cure(left: Value, right: Value) -> str:
    for column, given in ((left, right), (right, left)):
        if is_number(column.type) and isinstance(given.constant, str):
            return f"; write numbers without quotes, as in {column.said} == 2020"
        if column.type == TEXT and is_number(given.type):
            return f'; write text in quotes, as in {column.said} == "{given.said}"'
        if is_time(column.type) and is_number(given.type):
            return f'; write a day as text, as in {column.said} >= "2020-05-17"'
    return ""


def _as_numbers(left: Value, right: Value) -> tuple[Any, Any]:
    """Return a whole number and one with a fraction as they can be compared exactly."""
    for mine, other in ((left, right), (right, left)):
        whole = isinstance(mine.constant, float) and mine.constant.is_integer()
        if other.type == INT and whole and abs(mine.constant) < 2**63:
            same = pc.scalar(pa.scalar(int(mine.constant), INT))
            return (same, right.expression) if mine is left else (left.expression, same)
    return left.as_float(), right.as_float()


def as_list(value: Value, items: Sequence[Value]) -> Any:
    """Return the values of a list as an Arrow array of the type of what is looked for in it.

    Raises:
        WrongType: one is no constant, or of another type.
    """
    found = []
    for item in items:
        if item.type == NULL or item.constant is None:
            raise WrongType(
                f"{item.said} in a list: a list holds numbers or texts; of what is not known ask "
                f"with {value.said} == None"
            )
        if is_time(value.type) and item.type == TEXT:
            found.append(_moment(item, value).as_py())
        elif item.type == value.type:
            found.append(item.constant)
        elif is_number(value.type) and is_number(item.type):
            if value.type == INT and not item.constant.is_integer():
                continue  # no whole number is equal to it
            found.append(int(item.constant) if value.type == INT else float(item.constant))
        else:
            paired(value, item)  # says what is wrong
    try:
        return pa.array(found, value.type)
    except (OverflowError, pa.ArrowException):
        raise WrongType(f"a number in the list is out of range for {value.said}") from None


def _moment(given: Value, like: Value) -> Any:
    """Return a day or a time that was written as text, as an Arrow scalar of a column's type."""
    text, kind = given.constant, like.type
    try:
        if pa.types.is_date(kind):
            return pa.scalar(date.fromisoformat(text), kind)
        moment = datetime.fromisoformat(text)
        if kind.tz is not None and moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        if kind.tz is None and moment.tzinfo is not None:
            raise WrongType(f"{like.said} has no time zone: leave it out of {given.said}")
        return pa.scalar(moment, kind)
    except (ValueError, OverflowError, pa.ArrowException) as error:
        example = "2020-05-17" if pa.types.is_date(kind) else "2020-05-17T10:30:00"
        raise WrongType(
            f"{like.said} is {in_words(kind)}, and {given.said} is none ({one_line(error, 80)}): "
            f'write it as "{example}"'
        ) from None
