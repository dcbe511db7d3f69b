"""`lamella serve`: one process that holds an index open, an HTTP API, and a page."""

import gc
import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer
from rich.console import Console
from rich.text import Text

from lamella.cluster.commands import options
from lamella.cluster.commands.choices import choice
from lamella.cluster.commands.failures import Stopped, Told
from lamella.cluster.commands.output import begin, emit, unfolded
from lamella.pipeline.errors import InputError
from lamella.pipeline.text import counted, printable
from lamella.schemas.job import ProductKind

if TYPE_CHECKING:
    from lamella.cluster.serve.run import Server
    from lamella.cluster.serve.settings import ServeSettings

PACKAGES = ("fastapi", "uvicorn", "python_multipart")

console = unfolded(Console())


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(serve)


def serve(
    store: options.Store,
    host: Annotated[
        str,
        typer.Option(
            help="The address to listen on. One that others can reach, such as 0.0.0.0, needs a "
            "token.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(min=0, max=65_535, help="The port to listen on; 0 has a free one chosen."),
    ] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="LAMELLA_TOKEN",
            help="What every request must show: as Authorization: Bearer TOKEN, or in a browser by "
            "opening /?token=TOKEN once. Better set as a variable: others see command lines.",
            show_default=False,
        ),
    ] = None,
    number: options.Snapshot = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow/--no-follow",
            help="Serve a snapshot as soon as it is promoted, without a restart. One that is named "
            "by --snapshot stays.",
        ),
    ] = True,
    allow_url: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-url",
            metavar="URL",
            help="Fetch query pictures from addresses that begin so, such as "
            "https://pictures.example/; may be given several times.",
            show_default="none",
        ),
    ] = None,
    queue: Annotated[
        int,
        typer.Option(
            min=1, max=10_000, help="Requests that may wait; one more is told to come later (429)."
        ),
    ] = 64,
    max_upload: Annotated[
        float,
        typer.Option(
            min=0.001, max=2_000, metavar="MB", help="The most megabytes of a request (413 beyond)."
        ),
    ] = 32.0,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the page in a browser.")
    ] = False,
    pictures: options.Pictures = None,
    weights: options.Weights = None,
    products: Annotated[
        str,
        choice(
            "--products",
            ("auto", *get_args(ProductKind)),
            help="Numbers of the products that propose pictures, which change no answer; auto is "
            "what is fastest on this CPU.",
        ),
    ] = "auto",
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Serve an index: a page to search with, and an HTTP API, until it is stopped.

    On this machine, at http://127.0.0.1:8000; /docs there tells of the API:
    [bold]lamella serve ./index[/]

    For others too:
    [bold]LAMELLA_TOKEN=$(openssl rand -hex 16) lamella serve ./index --host 0.0.0.0[/]

    By a program:
    [bold]curl -F picture=@photo.jpg http://127.0.0.1:8000/query[/]

    Network and index stay open, and what waits at the same time is answered together.
    Ctrl-C and SIGTERM let requests that are under way end. With [bold]--json[/], one
    value is printed once the server answers.
    """
    check_installed()
    from lamella.cluster.serve.settings import MB, ServeSettings
    from lamella.pipeline.cores import available_cores
    from lamella.pipeline.products.choice import Choice, use

    use(cast(Choice, products))
    settings = ServeSettings(
        store=store,
        snapshot=number,
        weights=weights,
        pictures=pictures,
        threads=available_cores(),
        host=host,
        port=port,
        token=token or None,
        urls=tuple(allow_url or ()),
        queue=queue,
        max_upload=int(max_upload * MB),
        follow_s=ServeSettings.follow_s if follow else None,
    )
    begin(f"opening {store}", quiet=as_json)
    from lamella.cluster.serve.run import Server

    server = Server(settings)
    gc.freeze()  # what is open stays: looking through it for garbage would take seconds at the end
    try:
        server.start()
        _announce(server, settings, as_json=as_json)
        sys.stdout.flush()  # a program may wait for the address
        if open_browser:
            _browse(server.address, settings.token)
        server.wait()
    except Stopped as stopped:
        if as_json:  # its one value is printed
            raise Told from stopped
        raise
    finally:
        server.stop()


def check_installed() -> None:
    """Check that what serving takes is installed.

    Raises:
        InputError: it is not; with the command that brings it.
    """
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        raise InputError(
            f"`lamella serve` needs what is not installed here ({', '.join(absent)}): "
            "pip install 'lamella[serve]'"
        )


def _announce(server: "Server", settings: "ServeSettings", *, as_json: bool) -> None:
    served = server.service.following.current
    if as_json:
        emit(
            {
                "address": server.address,
                "store": settings.store,
                "snapshot": served.snapshot.number,
                "root_digest": served.snapshot.root_digest,
                "indexed": served.snapshot.indexed,
                "layers": list(served.index.layers),
                "process": os.getpid(),
            }
        )
        return
    what = (
        f"  snapshot {served.snapshot.number}, {counted(served.snapshot.indexed, 'picture')}, "
        f"layers {', '.join(served.index.layers)}; the API: {server.address}/docs"
    )
    console.print(Text.assemble("serving ", (server.address, "bold")), soft_wrap=True)
    console.print(Text(printable(what)), soft_wrap=True)
    if settings.token is not None:
        console.print("  in a browser: /?token=TOKEN once; programs: Authorization: Bearer TOKEN")
    console.print("  Ctrl-C stops it")


def _browse(address: str, token: str | None) -> None:
    import webbrowser

    webbrowser.open(f"{address}/?token={token}" if token else address)
