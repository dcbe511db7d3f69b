"""How events are written: as lines for people, or as one JSON object each for machines.

Both go to standard error; standard output has results alone.
"""

import logging
import os
import re
import sys
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, get_args

from pythonjsonlogger.json import JsonFormatter

from lamella.pipeline import events

Format = Literal["text", "json"]
Level = Literal["debug", "info", "warning", "error"]

FORMATS: tuple[Format, ...] = get_args(Format)
LEVELS: tuple[Level, ...] = get_args(Level)

SECRETS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "RAY_AUTH_TOKEN",
    "LAMELLA_TOKEN",
)
"""Variables whose values no event shows, whatever a library has put into its message."""


def begin(form: str | None, level: str | None) -> None:
    """Write events from here on.

    Args:
        form: one of `FORMATS`, text by default.
        level: one of `LEVELS`; by default info for machines, and warning for people, whom
            progress shows the rest.
    """
    events.for_machines = form == "json"
    handler = _ToStderr()
    handler.setFormatter(_Json() if events.for_machines else _Text())
    events.LOGGER.handlers[:] = [handler]
    least = level or ("info" if events.for_machines else "warning")
    events.LOGGER.setLevel(least.upper())


def without_secrets(text: str) -> str:
    """Return a text without the values of `SECRETS`, and without a password in an address."""
    for name in SECRETS:
        if len(secret := os.environ.get(name, "")) >= 8:
            text = text.replace(secret, f"[{name}]")
    return re.sub(r"://[^/@\s]+@", "://[password]@", text)


class _ToStderr(logging.StreamHandler[TextIO]):
    """Writes to what standard error is at that moment: a progress bar puts itself in between."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


class _Text(logging.Formatter):
    """`12:04:31 warning task-retried stage=extract shard=00042: ...`"""

    def format(self, record: logging.LogRecord) -> str:
        time = self.formatTime(record, "%H:%M:%S")
        return without_secrets(f"{time} {record.levelname.lower()} {record.getMessage()}")


class _Json(JsonFormatter):
    """`time`, `level`, `event`, the event's fields, and `reason` where it has one."""

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        """See python-json-logger."""
        log_data["time"] = datetime.fromtimestamp(record.created, UTC).isoformat(
            "T", "milliseconds"
        )
        log_data["level"] = record.levelname.lower()
        log_data["event"] = getattr(record, "event", "message")
        log_data.update(getattr(record, "fields", {}))
        if reason := getattr(record, "reason", "" if hasattr(record, "event") else record.message):
            log_data["reason"] = reason
        log_data.update(message_dict)

    def serialize_log_record(self, log_data: dict[str, Any]) -> str:
        """See python-json-logger."""
        return super().serialize_log_record(
            {k: without_secrets(v) if isinstance(v, str) else v for k, v in log_data.items()}
        )
