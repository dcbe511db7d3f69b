"""What every command has: options for events; and for jobs, metrics, and a name in all of it."""

import functools
import inspect
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from lamella.cluster.commands import logs
from lamella.cluster.commands.beats import Beating
from lamella.cluster.commands.choices import choice
from lamella.cluster.commands.failures import Told, code_of, stop_behind
from lamella.pipeline import events, meters

JOBS = frozenset(
    [
        *("demo", "index", "reindex", "query", "evaluate", "retry", "repair"),
        *("compare", "duplicates", "reproduce"),
    ]
)
"""The commands that run tasks or answer queries."""

PANEL = "Seen from outside"

Log = Annotated[
    str | None,
    choice(
        "--log",
        logs.FORMATS,
        help="Events on standard error: lines for people, or one JSON object each.",
        envvar="LAMELLA_LOG",
        show_default="text",
        show_envvar=False,
        rich_help_panel=PANEL,
    ),
]
LogLevel = Annotated[
    str | None,
    choice(
        "--log-level",
        logs.LEVELS,
        help="The least events to tell.",
        envvar="LAMELLA_LOG_LEVEL",
        show_default="warning; of --log json info",
        show_envvar=False,
        rich_help_panel=PANEL,
    ),
]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        min=1,
        max=65_535,
        metavar="PORT",
        help="Serve metrics for Prometheus while the job runs, on 127.0.0.1.",
        envvar="LAMELLA_METRICS_PORT",
        show_envvar=False,
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Push = Annotated[
    str | None,
    typer.Option(
        "--push",
        metavar="URL",
        help="Push the metrics to a gateway of Prometheus when the job has ended.",
        envvar="LAMELLA_PUSH",
        show_envvar=False,
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
OF_ALL = {"log": Log, "log_level": LogLevel}
OF_JOBS = {"metrics_port": MetricsPort, "push": Push}


def observe(app: typer.Typer, above: str = "") -> None:
    """Give the options to all commands of an app, and say when its jobs begin and end."""
    for command in app.registered_commands:
        if command.callback is not None:
            name = command.name or command.callback.__name__.replace("_", "-")
            command.callback = _observed(command.callback, f"{above}{name}")
    for group in app.registered_groups:
        if group.typer_instance is not None:
            observe(group.typer_instance, f"{group.name or group.typer_instance.info.name} ")


def _observed(callback: Callable[..., Any], name: str) -> Callable[..., Any]:
    is_job = name in JOBS
    more = OF_ALL | (OF_JOBS if is_job else {})

    @functools.wraps(callback)
    def run(**given: Any) -> Any:
        own = {option: given.pop(option) for option in more}
        logs.begin(own["log"], own["log_level"])
        if not is_job:
            return callback(**given)
        with job(name, _store_of(given), own["metrics_port"], own["push"]):
            return callback(**given)

    signature = inspect.signature(callback)
    added = [
        inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for option, kind in more.items()
    ]
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), *added]
    )
    run.__annotations__ = callback.__annotations__ | more
    return run


def _store_of(given: Mapping[str, Any]) -> str:
    """Return the address of the store that a job works on, from the arguments of its command."""
    if (folder := given.get("folder")) is not None:
        return f"{folder}/index"  # of `demo`
    # `into` of a query is a run, and `b` is what is compared.
    return str(given.get("store") or given.get("into") or given.get("b"))


@contextmanager
def job(command: str, store: str, port: int | None, gateway: str | None) -> Iterator[None]:
    """Tell that a job begins and how it ends, as events, metrics and beats; serve and push metrics.

    Args:
        port: where metrics are served meanwhile.
        gateway: the push gateway that gets them in the end.

    Raises:
        InputError: the port is taken.
    """
    began = time.time()
    named = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(began))}-{secrets.token_hex(4)}"
    meters.reset()
    events.forget_problem()
    beating = Beating(named, command, store, began)
    meters.JOB_STARTED.set(began, command=command)
    events.always(job=named)
    if port is None and gateway is None:
        with _told(beating, command, store, began):
            yield
        return
    from lamella.cluster.commands.metrics_export import push, served

    try:
        with served(port), _told(beating, command, store, began):
            yield
    finally:
        if gateway is not None:
            push(gateway, {"command": command, "store": store})


@contextmanager
def _told(beating: Beating, command: str, store: str, began: float) -> Iterator[None]:
    events.info("job-begun", command=command, store=store)
    beating.begin()
    code, reason = 0, ""
    try:
        yield
    except typer.Exit as error:
        code = error.exit_code
        raise
    except BaseException as error:
        failed = (
            error.__cause__ or error if isinstance(error, Told) else stop_behind(error) or error
        )
        code, reason = code_of(failed), str(failed)
        raise
    finally:
        ended = time.time()
        meters.JOB_ENDED.set(ended, command=command)
        meters.JOB_EXIT_CODE.set(code, command=command)
        if code == 0:
            meters.JOB_SUCCEEDED.set(ended, command=command)
        told = {"command": command, "code": code, "seconds": round(ended - began, 1)}
        if code and events.for_machines:  # people are told by the line that the command ends with
            events.error("job-ended", reason, **told)
        else:
            events.info("job-ended", **told)
        beating.end(code, reason)
