"""`lamella doctor`: what is installed here, what works, and what is missing for what."""

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from lamella.cluster.commands import options
from lamella.cluster.commands.failures import emit_failed
from lamella.cluster.commands.output import begin, emit, unfolded
from lamella.pipeline.errors import Unfit
from lamella.pipeline.text import counted, duration

if TYPE_CHECKING:
    from lamella.pipeline.doctor.findings import Finding

console = unfolded(Console())


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(doctor)


def doctor(
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            help="A store, or a place for one, in a folder or S3: tried by small files, which are "
            "removed. What the store holds is not touched.",
        ),
    ] = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="Start a Ray on this machine too; takes some seconds.")
    ] = False,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Look at this installation and machine: what works, and what is missing for what.

    Imports the libraries, decodes a tiny picture of each format in the sandbox, compares
    weights with what was published, and writes to the folders that jobs write to. Beside
    what is missing stands the command that brings it. Networks of timm, open_clip,
    transformers and torchvision are looked for and not tried.

    Exit code 0 if everything works that a plain installation has, and the store or Ray if
    you asked for them; else 1. What is missing of extras changes no exit code.

    Examples: [bold]lamella doctor[/];
    [bold]lamella doctor --store s3://bucket/index --ray[/] on a machine of a cluster.
    """
    begin("looking at this installation", quiet=as_json)
    from lamella.pipeline.doctor.examine import examine
    from lamella.pipeline.doctor.findings import Part, caught

    parts = examine(store)
    if ray:
        begin("starting a Ray, which takes some seconds", quiet=as_json)
        parts.append(Part("engine", tuple(caught("Ray", _try_ray, needed=True))))
    findings = [each for part in parts for each in part.findings]
    broken = [each.what for each in findings if each.needed and each.state == "broken"]
    unfit = Unfit(_in_words(broken)) if broken else None
    if as_json:
        value = {
            "works": unfit is None,
            "parts": {part.title: [asdict(each) for each in part.findings] for part in parts},
        }
        if unfit is not None:
            emit_failed(value, unfit)
        emit(value)
        return
    from lamella.cluster.commands.show_doctor import show_parts

    show_parts(console, parts)
    sys.stdout.flush()  # what is wrong comes after it, on the other stream
    if unfit is not None:
        raise unfit


def _in_words(broken: list[str]) -> str:
    what = counted(len(broken), "thing")
    return f"{what} that must work here {'does' if len(broken) == 1 else 'do'} not: " + (
        f"{', '.join(broken)}; the table says what helps"
    )


def _try_ray() -> "Finding":
    """Start our own Ray with one core, let it run a task, and end it."""
    import ray

    from lamella.cluster.ray.connect import connected
    from lamella.pipeline.doctor.findings import Finding

    begun = time.monotonic()
    with connected(cpus=1):
        ray.get(ray.remote(num_cpus=1)(_task).remote(), timeout=TASK_S)
    took = duration(time.monotonic() - begun)
    return Finding("Ray", "ok", f"started, ran a task and ended in {took}", needed=True)


def _task() -> None:
    """What a worker of the trial runs."""


TASK_S = 60.0
"""How long the first task may take: a worker's process starts for it."""
