"""Work beside the caller: in order, two pieces held at most, and no error lost."""

import threading

import pytest

from lamella.pipeline.extract.background_writer import Beside, at_once


def test_pieces_are_done_in_order_in_one_other_thread() -> None:
    done: list[tuple[int, int]] = []
    with Beside() as beside:
        for number in range(20):
            beside.do(lambda number=number: done.append((number, threading.get_ident())))  # type: ignore[misc]
    assert [number for number, _ in done] == list(range(20))
    threads = {thread for _, thread in done}
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


def test_a_third_piece_waits_until_the_first_is_done() -> None:
    gate, given = threading.Event(), threading.Event()
    with Beside() as beside:
        beside.do(lambda: waited(gate))
        beside.do(lambda: None)

        def give() -> None:
            beside.do(lambda: None)
            given.set()

        third = threading.Thread(target=give)
        third.start()
        assert not given.wait(0.2)
        gate.set()
        third.join()
    assert given.is_set()


def waited(gate: threading.Event) -> None:
    gate.wait(60)


def fail() -> None:
    raise OSError("the disk is full")


def test_an_error_is_raised_at_a_later_piece_or_at_the_end() -> None:
    with pytest.raises(OSError, match="the disk is full"), Beside() as beside:
        beside.do(fail)
    with pytest.raises(OSError, match="the disk is full"), Beside() as beside:  # noqa: PT012
        beside.do(fail)
        beside.do(lambda: None)
        beside.do(lambda: None)
        pytest.fail("the error of the first piece was not raised at the third")


def test_after_an_error_of_the_caller_what_waits_is_not_done() -> None:
    gate, done = threading.Event(), list[int]()
    with pytest.raises(KeyError), Beside() as beside:  # noqa: PT012
        beside.do(lambda: waited(gate))
        beside.do(lambda: done.append(1))
        threading.Timer(0.1, gate.set).start()
        raise KeyError
    assert done == []


def test_at_once_is_at_once() -> None:
    done: list[int] = []
    at_once(lambda: done.append(1))
    assert done == [1]
