"""The language of filters: a text such as `year >= 2020 and startswith(name, "cats/")`.

It has the grammar of Python's expressions, of which it knows a few kinds, and nothing is ever
executed: the parsed text becomes an Arrow expression over an index's columns. A value that is not
known (null) makes a comparison unknown, and what is unknown is never true.
"""

import ast
import operator
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.names import known_names, shown
from lamella.pipeline.search.where_values import (
    BOOL,
    FLOAT,
    INT,
    NULL,
    TEXT,
    Value,
    WrongType,
    as_list,
    in_words,
    is_number,
    is_time,
    literal,
    paired,
)

LONGEST, DEEPEST = 10_000, 50
"""The most characters of a filter, and how deep its parts may be inside each other."""

FACTS = {"name": TEXT, "container": TEXT, "format": TEXT} | dict.fromkeys(
    ("width", "height", "size_bytes"), INT
)
"""The columns that every index has."""

SOURCE = "source"
"""The column of a corpus of several sources: the first part of the name."""

KEPT = "meta."
"""Begins the name of a kept column in tables, where other columns may have the same name."""

EXAMPLE = 'year >= 2020 and startswith(name, "cats/")'


@dataclass(frozen=True)
class Filter:
    """A filter that was understood.

    Attributes:
        text: as it was given.
        expression: an Arrow expression over columns called as in `columns`.
        columns: those that it speaks of: names of `FACTS`, `SOURCE`, or `KEPT` and a kept one's.
    """

    text: str
    expression: Any
    columns: tuple[str, ...]


def parse_filter(text: str, kept: Any, *, several: bool) -> Filter:
    """Return a filter, understood.

    Args:
        kept: the schema of the kept columns.
        several: whether the corpus has several sources.

    Raises:
        InputError: it is no filter of this index: what is wrong, and what would do.
    """
    if len(text) > LONGEST:
        raise wrong(text, f"a filter has at most {LONGEST:,} characters; got {len(text):,}")
    types = FACTS | ({SOURCE: TEXT} if several else {})
    types |= {KEPT + each.name: each.type for each in kept}
    reader = _Reader(types)
    try:
        found = reader.condition(_parsed(text))
    except WrongType as error:
        raise wrong(text, str(error)) from None
    return Filter(text, found, tuple(reader.used))


def wrong(text: str, why: str) -> InputError:
    """Return the error that says what is wrong with a filter."""
    return InputError(f"--where (search.where) {one_line(repr(text), 120)}: {why}")


def _parsed(text: str) -> ast.expr:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of "\d", which a pattern may well hold
            found = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        said = error.msg if isinstance(error, SyntaxError) else "it is nested too deeply"
        where = error.offset if isinstance(error, SyntaxError) else None
        at = f" at character {where}" if where else ""
        raise WrongType(
            f"it cannot be read{at} ({one_line(said, 100)}): compare with ==, join with and, or, "
            f"not in small letters, and put text in quotes, as in {EXAMPLE}"
        ) from None
    level: list[ast.AST] = [found]
    for _ in range(DEEPEST):
        if not (level := [inner for node in level for inner in ast.iter_child_nodes(node)]):
            return found
    raise WrongType(f"its parts are more than {DEEPEST} deep inside each other: ask for less")


@dataclass
class _Reader:
    """Turns parts of a filter into Arrow expressions; `used` are the columns it met."""

    types: dict[str, Any]
    used: dict[str, None] = field(default_factory=dict)

    def condition(self, node: ast.expr) -> Any:
        """Return the expression of a part that must be true or false."""
        value = self.value(node)
        if value.type != BOOL:
            raise WrongType(
                f"{value.said} is {in_words(value.type)}, and true or false is wanted there: "
                f"compare it, as in {EXAMPLE}"
            )
        return value.expression

    def value(self, node: ast.expr) -> Value:
        """Return a part of a filter, with its type."""
        said = one_line(ast.unparse(node), 60)
        match node:
            case ast.BoolOp(op=op, values=values):
                parts = [self.condition(each) for each in values]
                joined = operator.and_ if isinstance(op, ast.And) else operator.or_
                return Value(said, BOOL, _balanced(joined, parts))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return Value(said, BOOL, ~self.condition(operand))
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as op, operand=operand):
                return _signed(said, self.number(operand), isinstance(op, ast.USub))
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() as op):
                numbers = self.number(left), self.number(node.right)
                return _calculated(said, op, *numbers)
            case ast.Compare(left=left, ops=ops, comparators=others):
                return Value(said, BOOL, self.compared([left, *others], ops))
            case ast.Call():
                return self.called(said, node)
            case ast.Constant(value=constant):
                return literal(said, constant)
            case ast.Name() | ast.Attribute() | ast.Subscript():
                return self.column(node)
        raise WrongType(
            f"{said} is nothing that a filter knows: it knows comparisons, and, or, not, in [...], "
            f"+ - * /, and {', '.join(FUNCTIONS)}"
        )

    def number(self, node: ast.expr) -> Value:
        """Return a part that must be a number."""
        value = self.value(node)
        if not is_number(value.type):
            raise WrongType(f"{value.said} is {in_words(value.type)}; + - * / take numbers")
        return value

    def column(self, node: ast.expr) -> Value:
        """Return a column: `year`, `meta.year` or, of any name, `meta["the year"]`."""
        name = _dotted(node)
        found = next((each for each in (name, KEPT + name) if each in self.types), None)
        if found is None:
            if name in FUNCTIONS:
                raise WrongType(f"{name} is a function: write {FUNCTIONS[name].example}")
            if name.casefold() in ("true", "false", "null", "none"):
                raise WrongType(f"{name} is written True, False or None")
            kept_first = sorted(self.types, key=lambda each: not each.startswith(KEPT))
            known = [each.removeprefix(KEPT) for each in kept_first]
            raise WrongType(f"there is no column {shown(name)}: it has {known_names(name, known)}")
        self.used[found] = None
        return Value(one_line(name, 60), self.types[found], pc.field(found))

    def compared(self, nodes: Sequence[ast.expr], ops: Sequence[ast.cmpop]) -> Any:
        """Return the expression of a chain of comparisons, such as `2000 <= year < 2010`."""
        parts = []
        for left, op, right in zip(nodes, ops, nodes[1:], strict=False):
            if isinstance(op, ast.In | ast.NotIn):
                inside = self.inside(self.value(left), right)
                parts.append(~inside if isinstance(op, ast.NotIn) else inside)
            else:
                parts.append(_compared(self.value(left), op, self.value(right)))
        return _balanced(operator.and_, parts)

    def inside(self, value: Value, node: ast.expr) -> Any:
        """Return the expression of `value in [...]`; unknown where the value is."""
        if not isinstance(node, ast.List | ast.Tuple | ast.Set):
            raise WrongType(
                f"`in` takes a list, as in {value.said} in [...]; of a part of a text ask with "
                'contains(name, "cat")'
            )
        listed = as_list(value, [self.value(each) for each in node.elts])
        unknown = pc.scalar(pa.scalar(None, BOOL))
        return pc.if_else(value.expression.is_valid(), value.expression.isin(listed), unknown)

    def called(self, said: str, node: ast.Call) -> Value:
        """Return what a function gives."""
        name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
        function = FUNCTIONS.get(name)
        if function is None:
            raise WrongType(
                f"there is no function {shown(name)}: it knows {known_names(name, FUNCTIONS)}"
            )
        values = [self.value(each) for each in node.args]
        fits = len(values) == function.takes and not node.keywords
        if not fits or not function.fits(values[0].type):
            got = ", ".join(in_words(each.type) for each in values) or "nothing"
            raise WrongType(f"{name} is asked as in {function.example}; got {got}")
        if function.takes == 2:
            pattern = values[1].constant
            if not isinstance(pattern, str):
                raise WrongType(f"{name} takes a text in quotes, as in {function.example}")
            return Value(said, function.gives, function.make(values[0].expression, pattern))
        return Value(said, function.gives, function.make(values[0].expression))


def _dotted(node: ast.expr) -> str:
    """Return the name of a column as written; `meta` may stand before it, also with brackets."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=before, attr=name):
            return f"{_dotted(before)}.{name}"
        case ast.Subscript(value=ast.Name(id="meta"), slice=ast.Constant(value=str(name))):
            return KEPT + name
    raise WrongType(
        f'{one_line(ast.unparse(node), 60)} is no column: write year, or meta["the year"]'
    )


def _balanced(join: Callable[[Any, Any], Any], parts: Sequence[Any]) -> Any:
    """Join parts two by two, so that thousands of them are not thousands deep."""
    if len(parts) <= 2:
        return reduce(join, parts)
    half = len(parts) // 2
    return join(_balanced(join, parts[:half]), _balanced(join, parts[half:]))


def _signed(said: str, value: Value, negative: bool) -> Value:
    if not negative:
        return value
    if value.constant is not None:
        return literal(said, -value.constant)
    return Value(said, value.type, pc.negate_checked(value.expression))


def _calculated(said: str, op: ast.operator, left: Value, right: Value) -> Value:
    """Return what + - * / give: whole numbers of whole ones, but for /."""
    if isinstance(op, ast.Div):
        return Value(said, FLOAT, pc.divide(left.as_float(), right.as_float()))
    make = {ast.Add: pc.add_checked, ast.Sub: pc.subtract_checked, ast.Mult: pc.multiply_checked}
    if left.type == right.type:
        return Value(said, left.type, make[type(op)](left.expression, right.expression))
    return Value(said, FLOAT, make[type(op)](left.as_float(), right.as_float()))


_COMPARED: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def _compared(left: Value, op: ast.cmpop, right: Value) -> Any:
    if NULL in (left.type, right.type):
        asked = left if right.type == NULL else right
        if asked.type == NULL or not isinstance(op, ast.Eq | ast.Is | ast.NotEq | ast.IsNot):
            raise WrongType("None, which is not known, stands behind == or != and a column")
        known = asked.expression.is_valid()
        return ~known if isinstance(op, ast.Eq | ast.Is) else known
    if type(op) not in _COMPARED:
        raise WrongType(f"`is` asks for None alone: write {left.said} == {right.said}")
    if left.type == right.type == BOOL and not isinstance(op, ast.Eq | ast.NotEq):
        raise WrongType(f"{left.said} is true or false, and compared with == or != alone")
    return _COMPARED[type(op)](*paired(left, right))


@dataclass(frozen=True)
class Function:
    """A function of filters: what it takes, what it gives, and how it is asked."""

    example: str
    make: Callable[..., Any]
    gives: Any = BOOL
    takes: int = 2
    fits: Callable[[Any], bool] = lambda kind: kind == TEXT


def _matches(text: Any, pattern: str) -> Any:
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowException as error:
        raise WrongType(f"{pattern!r} is no pattern of RE2: {one_line(error, 200)}") from None
    return pc.match_substring_regex(text, pattern)


FUNCTIONS = {
    "startswith": Function('startswith(name, "cats/")', lambda t, p: pc.starts_with(t, pattern=p)),
    "endswith": Function('endswith(name, ".png")', lambda t, p: pc.ends_with(t, pattern=p)),
    "contains": Function('contains(name, "cat")', lambda t, p: pc.match_substring(t, pattern=p)),
    "matches": Function(r'matches(name, "IMG_[0-9]+")', _matches),
    "lower": Function('lower(name) == "a.jpg"', pc.utf8_lower, TEXT, 1),
    "year": Function("year(taken) >= 2020", pc.year, INT, 1, is_time),
}
"""By name."""
