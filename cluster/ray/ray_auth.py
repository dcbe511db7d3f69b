"""Access to Ray: our own token for a Ray that we start, the user's for one that we join.

Whoever reaches Ray's ports runs code, so a Ray without a token trusts its whole network. The mode
is set in the environment, which every process that Ray starts inherits; the token of our own Ray is
new for each one and is only in the environment, in no file and no log.
"""

import functools
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lamella.cluster.ray.starts import ClusterAway
from lamella.pipeline import events
from lamella.pipeline.errors import InputError

MODE, TOKEN, TOKEN_FILE = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
ANSWER_TIMEOUT_S = 10.0


@contextmanager
def own_token() -> Iterator[None]:
    """Make a Ray that is started inside the block require a new token, known to this process."""
    with _environment({MODE: "token", TOKEN: secrets.token_hex(32)}):
        yield


@contextmanager
def users_token(address: str) -> Iterator[None]:
    """Prepare to join a Ray inside the block, with the user's token or without, as it requires.

    Warns, once a process, if the Ray requires none. Addresses other than `host:port`, and a Ray
    behind TLS, are left to Ray and to `RAY_AUTH_MODE`.

    Raises:
        InputError: there is no token, or it is the wrong one.
        ClusterAway: nothing answers at the address.
    """
    if not _is_plain(address):
        yield
        return
    if _lets_in(address, None):
        _warn_of_open(address)
        mode = {MODE: os.environ.get(MODE, "disabled")}
    else:
        token = _found_token()
        if token is None:
            raise InputError(
                f"Ray at {address} asks for a token and none is set: give its token in {TOKEN}, "
                f"or its file in {TOKEN_FILE}"
            )
        if not _lets_in(address, token):
            raise InputError(
                f"Ray at {address} refuses the token given: {TOKEN} or {TOKEN_FILE} must hold "
                "the one that it was started with"
            )
        mode = {MODE: "token"}
    with _environment(mode):
        yield


def _is_plain(address: str) -> bool:
    """Say whether an address is host:port without TLS."""
    plain = re.fullmatch(r"[^:/]+:[0-9]+", address)
    return plain is not None and os.environ.get("RAY_USE_TLS", "0") == "0"


@functools.cache
def _warn_of_open(address: str) -> None:
    text = (
        f"lamella: warning: Ray at {address} asks for no token, so whoever reaches its ports can "
        f"run code as this job; start it with {MODE}=token (deploy/RUNBOOK.md)"
    )
    events.say("ray-without-token", text, logging.WARNING)


def _found_token() -> str | None:
    """Return the token Ray would use: from the environment, its file, or ~/.ray/auth_token."""
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

    loader = AuthenticationTokenLoader.instance()
    loader.reset_cache()
    return loader.get_raw_token(ignore_auth_mode=True) or None


def _lets_in(address: str, token: str | None, timeout_s: float | None = None) -> bool:
    """Say whether a Ray accepts this token, or none.

    Ray's own client tries a refused token for 20 s and says only that it cannot connect.

    Raises:
        InputError: nothing answers.
    """
    import grpc

    timeout_s = timeout_s or ANSWER_TIMEOUT_S
    shown = [] if token is None else [("authorization", f"Bearer {token}")]
    # As Ray itself, which goes to its machines past the proxy of `http_proxy`.
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        # The request is an empty message; only the answer's status matters.
        ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")
        try:
            ask(b"", timeout=timeout_s, metadata=shown, wait_for_ready=True)
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                return False
            raise ClusterAway(
                f"Ray at {address} cannot be reached: no answer in {timeout_s:g} s "
                f"({error.code().name}): check that it runs and that its port is open; "
                "when it is back, run the same command again"
            ) from None
    return True


def how_to_ask(address: str) -> Callable[[], bool]:
    """Return a function that says whether the control plane of a joined Ray answers.

    Behind TLS, where only Ray itself can ask, it always says yes.
    """
    if not _is_plain(address):
        return lambda: True
    token = _found_token() if os.environ.get(MODE) == "token" else None

    def answers() -> bool:
        try:
            _lets_in(address, token, timeout_s=5.0)
        except InputError:
            return False
        return True

    return answers


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables inside the block, and make Ray, which caches them, read them again."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    read_anew()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        read_anew()


def read_anew() -> None:
    """Make Ray in this process read its settings from the environment again."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
