"""What a store takes, as `lamella status` shows it."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lamella.pipeline.text import byte_size, printable
from lamella.pipeline.upkeep.sizes import KINDS, Sizes


def show_sizes(console: Console, store: str, sizes: Sizes) -> None:
    """Print the bytes of a store by kind of file, and what `gc` would free of them."""
    table = Table("files", "size")
    table.columns[1].justify = "right"
    for kind, name in KINDS.items():
        if sizes.kinds[kind]:
            table.add_row(name, byte_size(sizes.kinds[kind]))
    table.add_section()
    table.add_row("all", byte_size(sizes.total))
    console.print(table)
    if sizes.unknown:
        said = f"what gc would free is not known: {sizes.unknown}"
        console.print(Text(printable(said)), style="yellow", soft_wrap=True)
        return
    for command, now, later in (
        ("lamella gc", sizes.gc, sizes.gc_later),
        ("lamella gc --intermediate", sizes.intermediate, sizes.intermediate_later),
    ):
        also = " besides" if command.endswith("intermediate") else ""
        said = (
            f"`{command} {store}` would free {byte_size(now)}{also}, {byte_size(later)} more once "
            "a day old"
        )
        console.print(Text(printable(said)), soft_wrap=True)
