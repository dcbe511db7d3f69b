"""Objects are fetched ahead: a few at once, each to whoever asks for it, errors too."""

import threading

import pytest

from lamella.pipeline.corpus import prefetch
from lamella.pipeline.corpus.prefetch import AHEAD_BYTES, FETCHED_AHEAD, Sized, reading_ahead

PLACES = [f"s3://bucket/{number:02d}" for number in range(50)]


def sized(*places: str, size: int = 10) -> list[Sized]:
    return [(place, size) for place in places]


class Server:
    """Gives each place its own name as its bytes, and notes what was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.wanted_at_once = 1
        self._met = threading.Condition()

    def read(self, place: str, stop: int | None, most_bytes: int) -> bytes:
        with self._met:
            self.asked.append(place)
            self._met.notify_all()
            enough = self._met.wait_for(lambda: len(self.asked) >= self.wanted_at_once, 30)
        assert enough, "the requests wait for each other"
        if place.endswith("7"):
            raise FileNotFoundError(place)
        return place.encode()

    def first(self, count: int) -> list[str]:
        """Return the places that were asked for, once there are so many."""
        with self._met:
            assert self._met.wait_for(lambda: len(self.asked) >= count, 30)
            return sorted(self.asked)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(prefetch, "read_object", server.read)
    return server


def test_each_object_and_each_error_goes_to_who_asks_for_it(server: Server) -> None:
    with reading_ahead(sized(*PLACES), 100) as reads:
        assert reads is not None
        for place in PLACES:
            if place.endswith("7"):
                with pytest.raises(FileNotFoundError, match=place):
                    reads.read(place)
            else:
                assert reads.read(place) == place.encode()
    assert sorted(server.asked) == PLACES  # each once


def test_a_few_are_on_their_way_at_once_and_no_more(server: Server) -> None:
    server.wanted_at_once = FETCHED_AHEAD
    with reading_ahead(sized(*PLACES), 100) as reads:
        assert reads is not None
        for number, place in enumerate(PLACES[:7]):
            assert reads.read(place) == place.encode()
            assert len(server.asked) <= number + 1 + FETCHED_AHEAD


@pytest.mark.parametrize(
    ("size", "at_once"),
    [
        (AHEAD_BYTES // 4, 4),
        (AHEAD_BYTES // 4 + 1, 3),
        (AHEAD_BYTES * 3, 1),  # one is always on its way
        (-1, 2),  # of a size that is not known: as large as it may be
    ],
)
def test_bytes_ahead_are_bounded(server: Server, size: int, at_once: int) -> None:
    server.wanted_at_once = at_once
    most = AHEAD_BYTES // 2 if size < 0 else AHEAD_BYTES * 4
    with reading_ahead(sized(*PLACES, size=size), most) as reads:
        assert reads is not None
        for number, place in enumerate(PLACES[:7]):
            assert reads.read(place) == place.encode()
            assert len(server.asked) <= number + 1 + at_once


def test_what_is_asked_for_before_its_turn_is_fetched_once_and_holds_up_nothing(
    server: Server,
) -> None:
    with reading_ahead(sized(*PLACES[:6], size=AHEAD_BYTES), AHEAD_BYTES) as reads:
        assert reads is not None
        for number in (2, 1, 0):
            assert reads.read(PLACES[number]) == PLACES[number].encode()
        assert server.first(4) == PLACES[:4]  # nobody asked for the last of them yet


def test_what_was_not_expected_is_fetched_all_the_same(server: Server) -> None:
    with reading_ahead(sized(*PLACES[:2]), 100) as reads:
        assert reads is not None
        assert reads.read("s3://bucket/other") == b"s3://bucket/other"
        for _ in range(2):
            assert reads.read(PLACES[0]) == PLACES[0].encode()


def test_local_files_are_not_fetched_ahead(server: Server) -> None:
    with reading_ahead(sized("/pictures/a.jpg"), 100) as reads:
        assert reads is None
