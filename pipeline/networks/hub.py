"""Weights from a library's own cache or hub, without minutes of tries where there is no network."""

import os
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from lamella.pipeline.errors import InputError, LamellaError, one_line

ADDRESS = "https://huggingface.co"
ANSWERS_WITHIN_S = 3.0


@contextmanager
def asking(name: str, otherwise: str) -> Iterator[None]:
    """Let a library ask its hub inside the block, or look into its cache alone.

    Only its cache where HF_HUB_OFFLINE says so, or where no connection to the hub can be made.

    Args:
        name: of the network.
        otherwise: how else weights can be given, for the message.

    Raises:
        InputError: the weights are not to be had.
    """
    offline = _said_offline() or not _answers()
    try:
        if offline:
            with _without_hub():
                yield
        else:
            yield
    except LamellaError:
        raise
    except Exception as error:
        why = (
            "they are in no cache of this machine, and "
            + ("HF_HUB_OFFLINE is set" if _said_offline() else "the hub cannot be reached from it")
            if offline
            else one_line(error)
        )
        raise InputError(f"the weights of {name} are not to be had: {why}: {otherwise}") from error


def _said_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")


def _answers() -> bool:
    """Say whether the hub takes a connection; through a proxy, that is left to the library."""
    place = urlsplit(os.environ.get("HF_ENDPOINT") or ADDRESS)
    if urllib.request.getproxies().get(place.scheme):
        return True
    port = place.port or (443 if place.scheme == "https" else 80)
    try:
        socket.create_connection((place.hostname or "", port), ANSWERS_WITHIN_S).close()
    except OSError:
        return False
    return True


@contextmanager
def _without_hub() -> Iterator[None]:
    """Keep libraries to what is in their caches inside the block."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
