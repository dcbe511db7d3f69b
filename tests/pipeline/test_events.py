import logging
from collections.abc import Iterator
from unittest import mock

import pytest

from lamella.pipeline import events


@pytest.fixture
def told() -> Iterator[list[logging.LogRecord]]:
    """All events of this process, as a handler gets them."""
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    before, level = events.LOGGER.handlers[:], events.LOGGER.level
    propagates = events.LOGGER.propagate
    events.LOGGER.handlers[:] = [Keep()]
    events.LOGGER.setLevel(logging.DEBUG)
    with mock.patch.dict(events._everywhere, clear=True):  # an earlier job of this process
        yield records
    events.LOGGER.handlers[:] = before
    events.LOGGER.setLevel(level)
    events.LOGGER.propagate = propagates  # `collect` ends that


def test_an_event_is_a_line_with_its_fields_and_the_reason_last(
    told: list[logging.LogRecord],
) -> None:
    with events.within(stage="vocabulary p15", shard="00042"):
        events.warning("task-retried", "the disk is slow", attempt=2)
    (record,) = told
    assert record.getMessage() == (
        'task-retried stage="vocabulary p15" shard=00042 attempt=2: the disk is slow'
    )
    assert (record.levelname, record.event) == ("WARNING", "task-retried")  # type: ignore[attr-defined]


def test_fields_end_with_their_block(told: list[logging.LogRecord]) -> None:
    with events.within(stage="extract"):
        with events.within(shard="7"):
            events.info("inner")
        events.info("outer")
    events.info("outside")
    assert [record.fields for record in told] == [  # type: ignore[attr-defined]
        {"stage": "extract", "shard": "7"},
        {"stage": "extract"},
        {},
    ]


def test_what_a_picture_is_called_cannot_break_the_line(told: list[logging.LogRecord]) -> None:
    events.info("picture-refused", "bad\nheader", picture="a\x1b[31m.jpg")
    assert told[0].getMessage() == "picture-refused picture=a\\x1b[31m.jpg: bad\\nheader"


def test_a_workers_events_arrive_with_its_fields_and_their_time(
    told: list[logging.LogRecord],
) -> None:
    handlers = events.LOGGER.handlers[:]
    collector = events.collect(logging.INFO)
    with events.within(stage="extract", node="node-b"):
        events.info("picture-refused", "too-slow", picture="a.jpg")
        events.debug("not wanted by this driver")
    taken = collector.take()
    assert collector.take() == ()
    events.LOGGER.handlers[:] = handlers
    events.replay(taken)
    (record,) = told
    assert record.created == taken[0]["time"]
    assert record.fields == {"stage": "extract", "node": "node-b", "picture": "a.jpg"}  # type: ignore[attr-defined]
    assert record.reason == "too-slow"  # type: ignore[attr-defined]


def test_of_too_many_events_the_rest_is_counted(told: list[logging.LogRecord]) -> None:
    collector = events.collect(logging.INFO)
    for number in range(events.MOST_COLLECTED + 3):
        events.info("picture-refused", picture=f"{number}.jpg")
    *kept, last = collector.take()
    assert len(kept) == events.MOST_COLLECTED
    assert (last["event"], last["reason"]) == (
        "events-dropped",
        "3 more events of this worker were not kept",
    )


def test_the_last_problem_is_kept_whatever_the_level_and_wherever_it_was(
    told: list[logging.LogRecord],
) -> None:
    events.forget_problem()
    events.info("task-done")
    assert events.last_problem is None
    events.LOGGER.setLevel(logging.ERROR)
    events.warning("task-retried", "its worker died")
    last = events.last_problem
    assert last is not None
    assert (last.level, last.event, last.reason) == (
        logging.WARNING,
        "task-retried",
        "its worker died",
    )
    told_there = {"time": 7.0, "level": logging.ERROR, "event": "x", "reason": "y", "fields": {}}
    events.replay([told_there])
    assert events.last_problem == (7.0, logging.ERROR, "x", "y")
    assert [record.event for record in told] == ["task-done", "x"]
