"""Charts as SVG by matplotlib, in the colours of the page, light or dark.

Colours are names of the page's style sheet (`ink`, `soft`, `line`, `card`, `one`, `two`, `three`,
`right`, `wrong`), which `svg` puts in the place of stand-ins that matplotlib can draw with. Text
stays text: it can be searched, read aloud, and is never markup, for matplotlib escapes it.
"""

import hashlib
import html
import io
import logging
import re
from collections.abc import Callable
from typing import Any, Literal

NAMES = ("ink", "soft", "line", "card", "one", "two", "three", "right", "wrong", "accent", "bar")

COLOURS = {name: f"#fe01{place:02x}" for place, name in enumerate(NAMES)}
"""The stand-in of each colour; no chart has it otherwise."""

MAP = "viridis"
"""The colour map of heat maps: even to the eye, and to the colour-blind."""

STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lamella",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": COLOURS["ink"],
    "axes.edgecolor": COLOURS["soft"],
    "axes.labelcolor": COLOURS["soft"],
    "axes.titlecolor": COLOURS["ink"],
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": COLOURS["line"],
    "xtick.color": COLOURS["soft"],
    "ytick.color": COLOURS["soft"],
    "lines.linewidth": 2.0,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}

WIDE, HIGH = 4.6, 2.9

NOT_SAID = ("Date", "Creator", "Format", "Type")
"""What matplotlib would write beside a drawing, with the addresses of its schemas."""


def chart(
    draw: Callable[[Any], None], title: str, *, wide: float = WIDE, high: float = HIGH
) -> str:
    """Return a chart as an SVG element; the same drawing gives the same bytes.

    Args:
        draw: draws into the axes that it is given.
        title: what the chart shows, for those who do not see it.
        wide, high: its size in inches, of which a page takes the shape alone.
    """

    def one(figure: Any) -> None:
        draw(figure.add_subplot())

    return several(one, title, wide=wide, high=high)


def several(
    draw: Callable[[Any], None], title: str, *, wide: float = WIDE, high: float = HIGH
) -> str:
    """Return a chart of several axes as `chart` does; `draw` is given the figure.

    What a `matplotlibrc` says, the user's or one in the current folder, has no effect.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # a home that is read-only is no news
    from matplotlib import rc_context, rcdefaults, rcParams
    from matplotlib.figure import Figure

    out = io.StringIO()
    with rc_context():
        rcdefaults()
        rcParams.update(STYLE)
        figure = Figure(figsize=(wide, high), layout="constrained")
        draw(figure)
        figure.savefig(out, format="svg", metadata=dict.fromkeys(NOT_SAID))
    return _for_page(out.getvalue(), title)


def in_powers(axes: Any, *which: Literal["x", "y"]) -> None:
    """Make axes logarithmic, with plain numbers beside 1, 3, 10, 30 and so on."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for name in which:
        axes.set(**{f"{name}scale": "log"})
        axis = getattr(axes, f"{name}axis")
        axis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axis.set_minor_formatter(NullFormatter())


def _for_page(drawn: str, title: str) -> str:
    """Return the SVG element alone, with its title, and with the colours of the page."""
    element = drawn[drawn.index("<svg") :]
    for name, stand_in in COLOURS.items():
        element = element.replace(stand_in, f"var(--{name})")
    element = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", element, count=1)
    element = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", element, count=1)
    # Two charts of a page may not share an id.
    own = f"c{hashlib.sha256(element.encode()).hexdigest()[:8]}-"
    element = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{own}", element)
    label = f'<svg role="img" aria-label="{html.escape(title)}"'
    return element.replace("<svg", label, 1)
