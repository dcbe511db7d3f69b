"""The server from its start to its end: a socket, uvicorn in a thread, a graceful stop."""

import logging
import socket
import threading

import uvicorn

from lamella.cluster.serve.service import Service
from lamella.cluster.serve.settings import ServeSettings
from lamella.pipeline import events
from lamella.pipeline.errors import InputError, LamellaError, one_line

BACKLOG = 512
KEEP_ALIVE_S = 15
WAIT_S = 0.5


class Server:
    """A store that is served in threads of this process, from `start` to `stop`.

    Attributes:
        address: where it is asked, such as http://127.0.0.1:8000.

    Raises:
        InputError: the port cannot be listened on, or there is no store or no snapshot.
        StoreError: the store is damaged, or does not answer.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._socket = listen(settings.host, settings.port)
        try:
            self.service = Service(settings)
        except BaseException:
            self._socket.close()
            raise
        self._settings = settings
        config = uvicorn.Config(
            self.service.app,
            http="h11",
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(settings.stop_s),
        )
        self._server = uvicorn.Server(config)
        # Not joined: what a signal raises inside `join` makes Python 3.11 take it for ended.
        self._thread = threading.Thread(target=self._run, name="lamella-http", daemon=True)
        self._ended = threading.Event()
        host, port = self._socket.getsockname()[:2]
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def start(self) -> None:
        """Begin to answer."""
        _quiet_uvicorn()
        self._thread.start()
        self.service.following.begin()

    def wait(self) -> None:
        """Wait for a signal. Raises LamellaError if the server ends by itself."""
        while not self._ended.wait(WAIT_S):
            pass
        raise LamellaError("the server has ended by itself: start it again; its log may say why")

    def _run(self) -> None:
        try:
            self._server.run([self._socket])
        finally:
            self._ended.set()

    def stop(self) -> None:
        """Take no more requests, end those that are under way, and let the index go."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._ended.wait(self._settings.stop_s + 1.0)
        self.service.stop()
        self._socket.close()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises InputError where there can be none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, place = found[0]
        made = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"--host {one_line(repr(host), 100)} is no address of this machine "
            f"({one_line(getattr(error, 'strerror', None) or error)}): give one, or leave it out"
        ) from None
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(place)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        raise InputError(
            f"--port {port} cannot be listened on at {host} ({error.strerror or error}): give one "
            "that is free, or 0 to have one chosen"
        ) from None
    return made


class _AsEvents(logging.Handler):
    """Tells what uvicorn logs as events of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        """See logging."""
        events.warning("http", one_line(record.getMessage()))


def _quiet_uvicorn() -> None:
    """Have uvicorn's lines as events alone: what fails in the application the door tells."""
    logger = logging.getLogger("uvicorn")
    logger.handlers[:] = [_AsEvents()]
    logger.propagate = False
    logger.setLevel(logging.ERROR)  # its warnings are of clients that speak no HTTP
