"""The language of filters: what each means on a small table, and what is said of the others."""

import contextlib
import datetime as dt
import warnings

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.pipeline.errors import InputError
from lamella.pipeline.search.where import LONGEST, parse_filter

NS, DAYS = pa.timestamp("ns", "UTC"), [dt.datetime(2020, 1, 1), dt.datetime(2021, 1, 1), None]
KEPT = {
    "year": pa.array([2019, 2020, None], pa.int64()),
    "author": pa.array(["Ann", "bob", None]),
    "taken": pa.array(DAYS, pa.timestamp("us")),
    "day": pa.array([each and each.date() for each in DAYS]),
    "utc": pa.array([each and each.replace(tzinfo=dt.UTC) for each in DAYS], NS),
    "score": pa.array([0.5, float("nan"), None]),
    "big": pa.array([2**53 + 1, 2**53, None], pa.int64()),
    "free": pa.array([True, False, None]),
    "the year": pa.array([1, 2, 3], pa.int64()),
    "name": pa.array(["x", "y", "z"]),
    "exif.iso": pa.array([1, 2, 3], pa.int64()),
}
FACTS = {
    "name": ["cats/1", "dogs/2", 'cats/it\'s "x" \\'],
    "container": ["", "", "a.tar"],
    "format": ["png", "jpeg", None],
    "width": [1, 2, 3],
    "height": [1, 1, 1],
    "size_bytes": [10, 20, None],
    "source": ["cats", "dogs", "cats"],
}
TABLE = pa.table(
    FACTS | {f"meta.{name}": values for name, values in KEPT.items()} | {"row": [0, 1, 2]}
)
SCHEMA = pa.schema([(name, values.type) for name, values in KEPT.items()])


def rows(text: str, *, several: bool = True) -> list[int]:
    found: list[int] = TABLE.filter(parse_filter(text, SCHEMA, several=several).expression)[
        "row"
    ].to_pylist()
    return sorted(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("year >= 2020", [1]),
        ("2019 <= year < 2020", [0]),
        ("year < 2020 or year >= 2020", [0, 1]),
        ("not (year > 2019)", [0]),  # of a year that is not known nothing is true
        ("year != 2019", [1]),
        ("year in [2019, 2020.0, 2021.5]", [0, 1]),
        ("year not in (2019, -1)", [1]),
        ("year in []", []),
        ("year == None", [2]),
        ("year is not None and author is not None", [0, 1]),
        ("free", [0]),
        ("not free", [1]),
        ("free == False", [1]),
        ("free or year == None", [0, 2]),
        ("author == 'Ann' or format == None", [0, 2]),
        ('startswith(name, "cats/")', [0, 2]),
        ("endswith(name, '\\\\')", [2]),
        ('name == "cats/it\'s \\"x\\" \\\\"', [2]),
        ('contains(name, "s/")', [0, 1, 2]),
        (r'matches(name, "^\w+/\d$")', [0, 1]),
        ('lower(author) == "ann"', [0]),
        ("year(taken) == 2020 or year(day) > 2020", [0, 1]),
        ('taken >= "2020-06-01"', [1]),
        ('"2020-01-01 00:00:00.000001" > taken', [0]),
        ('day in ["2020-01-01", "1999-12-31"]', [0]),
        ('utc > "2020-01-01T01:00:00+01:00"', [1]),
        ('utc in ["2021-01-01", "2020-01-01T01:00+01:00"]', [0, 1]),
        ("score > 0.4", [0]),
        ("score != score", [1]),
        ("score + 1 == 1.5", [0]),
        ("year / 2 > 1009.6", [1]),
        ("year / 0 > 0", [0, 1]),
        ("width * 2 + 1 == 5", [1]),
        ("-year < -2019", [1]),
        ("big == 9007199254740993", [0]),
        ("year == 2019.0", [0]),
        ("year == 1e300", []),
        ("width == height", [0]),
        ("size_bytes > 10", [1]),
        ('meta["the year"] == 2', [1]),
        ('meta.name == "y"', [1]),
        ("meta.year > 2019", [1]),
        ("exif.iso == 3", [2]),
        ('source == "cats" and container == ""', [0]),
        ("1 < 2", [0, 1, 2]),
        (" or ".join(["year == 2019"] * 600), [0]),
        (f"year in [{','.join(['1'] * 3000)}]", []),
    ],
)
def test_a_filter_means(text: str, expected: list[int]) -> None:
    assert rows(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("yaer > 3", r"no column 'yaer': it has year, .* and .* more: did you mean year\?"),
        ("nothing == 3", "no column 'nothing': it has year, author, taken, day"),
        ('year > "2020"', "year is a whole number, '2020' is text: .*; write numbers without quot"),
        ("author > 3", 'author is text, 3 is a whole number: .* as in author == "3"'),
        ("taken > 5", 'taken is a time .*; write a day as text, as in taken >= "2020-05-17"'),
        ("taken == day", r"taken is a time .*, day is a day .*: a comparison has one type"),
        ('day == "x"', "day is a day .*, and 'x' is none .*: write it as \"2020-05-17\""),
        ('taken > "2020-01-01T00:00Z"', "taken has no time zone: leave it out"),
        ("width == True", "width is a whole number, True is true or false"),
        ("free > False", "free is true or false, and compared with == or != alone"),
        ('author == "x', "cannot be read at character 11 .*unterminated"),
        ("year = 2020", "cannot be read at character 6 .*: compare with =="),
        ("year > 3 AND free", "join with and, or, not in small letters"),
        ("", "cannot be read"),
        ("\0", "cannot be read"),
        ("(" * 300, "cannot be read .*too many nested"),
        ("-" * 9000 + "1", "cannot be read"),
        ("1" + "+1" * 4000 + " > 0", "nested too deeply"),
        ("not " * 60 + "free", "more than 50 deep inside each other"),
        ("x" * (LONGEST + 1), "at most 10,000 characters; got 10,001"),
        ("year", "year is a whole number, and true or false is wanted there: compare it"),
        ("author and free", "author is text, and true or false is wanted"),
        ("author + 1 == 2", r"author is text; \+ - \* / take numbers"),
        ("year % 2 == 0", "year % 2 is nothing that a filter knows"),
        ("year if free else year", "nothing that a filter knows"),
        ('f"{name}" == "x"', "nothing that a filter knows"),
        ("[year for year in free]", "nothing that a filter knows"),
        ("year == [1]", r"\[1\] is nothing that a filter knows"),
        ('__import__("os").system("x")', "no function .*: it knows startswith, endswith"),
        ("(lambda: 1)()", "no function 'lambda: 1'"),
        ("name.upper()", "no function 'name.upper'"),
        ("startwith(name, 'x')", "no function 'startwith': .*did you mean startswith?"),
        ("startswith", r"startswith is a function: write startswith\(name"),
        ("startswith(name, author)", "startswith takes a text in quotes"),
        ('startswith(year, "2")', "startswith is asked as in .*; got a whole number, text"),
        ("startswith(name)", "startswith is asked as in .*; got text"),
        ('startswith(name, pattern="x")', "startswith is asked as in"),
        ("year(name) > 3", r"year is asked as in year\(taken\) >= 2020; got text"),
        ('matches(name, "(")', "'.' is no pattern of RE2"),
        ('"cat" in name', r'`in` takes a list.* contains\(name, "cat"\)'),
        ("year is 2020", "`is` asks for None alone: write year == 2020"),
        ("None == None", "None, which is not known, stands behind"),
        ("year > None", "None, which is not known, stands behind"),
        ("year in [None, 3]", "None in a list: .* ask with year == None"),
        ("year in [width]", "width in a list: a list holds numbers or texts"),
        ("author in [1]", "author is text, 1 is a whole number"),
        ("width in [9e99]", "a number in the list is out of range for width"),
        ("year == 9223372036854775808", "is out of range: a whole number has 64 bits"),
        ("year == 1j", "1j is complex: write a number or a text in quotes"),
        ('b"x" == name', "is bytes: write"),
        ('name == "\\ud800"', "holds what is no character"),
        ("true", "true is written True, False or None"),
        ('name["a"] == 1', r'is no column: write year, or meta\["the year"\]'),
    ],
)
def test_a_wrong_filter_says_what_would_do(text: str, message: str) -> None:
    with pytest.raises(InputError, match=r"^--where \(search.where\) .*: .*" + message):
        rows(text)


def test_a_source_is_a_column_where_there_are_several() -> None:
    with pytest.raises(InputError, match="no column 'source'"):
        rows('source == "cats"', several=False)


def test_nothing_is_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rows(r'matches(name, "\d") and year is not None') == [0, 1]


WORDS = st.sampled_from(
    [
        "year",
        "name",
        "free",
        "None",
        "True",
        "2020",
        '"x"',
        "(",
        ")",
        "[",
        "]",
        ",",
        "==",
        "<",
        "in",
        "not",
        "and",
        "or",
        "is",
        "+",
        "/",
        "-",
        "*",
        ".",
        ":",
        "meta",
        "lower(",
        "startswith(",
        "year(",
    ]
)


@given(st.lists(WORDS, max_size=12).map(" ".join) | st.text(max_size=40))
def test_any_text_is_a_filter_or_an_error_that_says_why(text: str) -> None:
    with contextlib.suppress(InputError):
        assert set(rows(text)) <= {0, 1, 2}
