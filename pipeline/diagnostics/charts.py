"""Small SVG charts, coloured by the page's style sheet, light or dark.

All text is escaped. Classes are `grid`, `tick`, `label`, and those given for lines, dots and bars.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 390, 240
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 42

NOTE_WIDTH = 75
"""Approximate width of a short text."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Axis:
    """An axis from low to high; `log` makes it logarithmic, and low is then above 0."""

    low: float
    high: float
    label: str
    log: bool = False
    whole: bool = False

    def place(self, value: float) -> float:
        """Return the position of a value: 0 at the low end, 1 at the high end."""
        if self.log:
            low, high = math.log10(self.low), math.log10(self.high)
            return (math.log10(max(value, self.low)) - low) / ((high - low) or 1.0)
        return (value - self.low) / ((self.high - self.low) or 1.0)

    def ticks(self) -> list[float]:
        """Return the values of its ticks."""
        return log_ticks(self.low, self.high) if self.log else self._even_ticks()

    def _even_ticks(self) -> list[float]:
        step = nice_step((self.high - self.low) / 5)
        if self.whole:
            step = max(1.0, step)
        first = math.ceil(self.low / step - 1e-9)
        count = math.floor(self.high / step + 1e-9) - first + 1
        return [(first + number) * step for number in range(max(count, 0))]


def nice_step(about: float) -> float:
    """Return the least of 1, 2, 5 times a power of ten that is not below a number.

    >>> nice_step(0.03), nice_step(7.0)
    (0.05, 10.0)
    """
    if about <= 0:
        return 1.0
    power = math.floor(math.log10(about))
    for factor in (1, 2, 5):
        if factor * 10.0**power >= about * (1 - 1e-9):
            return float(f"{factor}e{power}")
    return float(f"1e{power + 1}")


def log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten from low to high; with 2 and 5 times them where they are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        found = [factor * 10.0**power for power in powers for factor in factors]
        found = [value for value in found if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if len(found) >= 3:
            break
    return found


def spread(values: Sequence[float], margin: float = 0.06) -> tuple[float, float]:
    """Return the ends of an axis for values, with a margin."""
    low, high = min(values), max(values)
    room = (high - low) * margin or abs(high) * margin or 1.0
    return low - room, high + room


@dataclass
class Chart:
    """Collects what is drawn between two axes."""

    x: Axis
    y: Axis
    title: str
    parts: list[str] = field(default_factory=list)
    notes: list[tuple[float, float]] = field(default_factory=list)

    def at(self, x: float, y: float) -> tuple[str, str]:
        """Return the coordinates of a point, as SVG writes them."""
        across = LEFT + self.x.place(x) * (WIDTH - LEFT - RIGHT)
        down = HEIGHT - BOTTOM - self.y.place(y) * (HEIGHT - TOP - BOTTOM)
        return f"{across:.1f}", f"{down:.1f}"

    def line(self, points: Points, kind: str) -> "Chart":
        """Draw a line through the points."""
        joined = " ".join(",".join(self.at(x, y)) for x, y in points)
        self.parts.append(f'<polyline class="{kind}" points="{joined}"/>')
        return self

    def dots(self, points: Points, kind: str, radius: float, titles: Sequence[str] = ()) -> "Chart":
        """Draw a dot at each point; its title shows on hover."""
        for place, (x, y) in enumerate(points):
            across, down = self.at(x, y)
            title = f"<title>{html.escape(titles[place])}</title>" if titles else ""
            self.parts.append(
                f'<circle class="{kind}" cx="{across}" cy="{down}" r="{radius:g}">{title}</circle>'
            )
        return self

    def bars(self, tops: Points, half: float, kind: str, titles: Sequence[str]) -> "Chart":
        """Draw bars from the bottom to (x, y), from x - half to x + half."""
        foot = HEIGHT - BOTTOM
        for (x, y), title in zip(tops, titles, strict=True):
            left, top = self.at(x - half, y)
            right, _ = self.at(x + half, y)
            wide, high = float(right) - float(left), foot - float(top)
            self.parts.append(
                f'<rect class="{kind}" x="{left}" y="{top}" width="{wide:.1f}" '
                f'height="{high:.1f}" rx="1.5"><title>{html.escape(title)}</title></rect>'
            )
        return self

    def note(self, x: float, y: float, text: str, *, left: bool = False) -> "Chart":
        """Write a text beside a point, unless it would overlap an earlier one."""
        across, down = (float(each) for each in self.at(x, y))
        anchor, shift = ("end", -7) if left else ("start", 7)
        middle = across + (-NOTE_WIDTH if left else NOTE_WIDTH) / 2
        if any(abs(middle - a) < NOTE_WIDTH and abs(down - b) < 13 for a, b in self.notes):
            return self
        self.notes.append((middle, down))
        self.parts.append(
            f'<text class="note" x="{across + shift:.1f}" y="{down + 4:.1f}" '
            f'text-anchor="{anchor}">{html.escape(text)}</text>'
        )
        return self

    def svg(self, x_ticks: Sequence[tuple[float, str]] | None = None) -> str:
        """Return the chart; `x_ticks` replace the ticks of the x axis."""
        foot, end = HEIGHT - BOTTOM, WIDTH - RIGHT
        drawn = []
        for value in self.y.ticks():
            _, down = self.at(self.x.low, value)
            drawn.append(f'<path class="grid" d="M{LEFT} {down}H{end}"/>')
            drawn.append(
                f'<text class="tick" x="{LEFT - 7}" y="{float(down) + 4:.1f}" '
                f'text-anchor="end">{short(value)}</text>'
            )
        ticks = x_ticks or [(value, short(value)) for value in self.x.ticks()]
        for value, text in ticks:
            across, _ = self.at(value, self.y.low)
            drawn.append(
                f'<text class="tick" x="{across}" y="{foot + 16}" '
                f'text-anchor="middle">{html.escape(text)}</text>'
            )
        middle = (TOP + foot) / 2
        title = html.escape(self.title)
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">'
            f"{''.join(drawn)}"
            f'<path class="foot" d="M{LEFT} {foot}H{end}"/>{"".join(self.parts)}'
            f'<text class="label" x="{(LEFT + end) / 2:g}" y="{HEIGHT - 5}" '
            f'text-anchor="middle">{html.escape(self.x.label)}</text>'
            f'<text class="label" transform="translate(12 {middle:g}) rotate(-90)" '
            f'text-anchor="middle">{html.escape(self.y.label)}</text></svg>'
        )


def short(value: float) -> str:
    """Return a number as axes write it.

    >>> short(20000), short(0.25), short(3.0)
    ('20k', '0.25', '3')
    """
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= max(size, 1e4):
            return f"{value / size:g}{unit}"
    return f"{value:.6g}"
