"""Charts as inline SVG that follows the page's colours: classes and variables, no numbers of ink.

A chart is 380 units wide so that its text stays readable on a telephone. Colours s0 to s7 and all
other classes are defined in page.css.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 380, 250
LEFT, RIGHT, TOP, BOTTOM = 54, 20, 12, 42
COLOURS = 8
Placer = Callable[[tuple[float, float]], tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """One line or cloud of dots.

    Attributes:
        name: for the legend; empty = not listed there.
        points: (x, y) in the axes' units; a point with a nan is left out.
        colour: slot 0 to 7, wraps around.
        dots: a dot each instead of a line.
        faint: thin and pale, behind the series that matter.
        titles: what a dot says under the pointer; empty = nothing.
        labelled: titles stand beside their dots, too.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 0
    dots: bool = False
    faint: bool = False
    titles: Sequence[str] = ()
    labelled: bool = False


@dataclass(frozen=True)
class Axis:
    """Values `low` to `high` with a label; `log` spaces factors evenly, `percent` writes %."""

    label: str
    low: float
    high: float
    log: bool = False
    percent: bool = False

    def place(self, value: float) -> float:
        """Share of the axis, 0-1, at which a value lies; values outside stick to the ends."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = (math.log10(max(one, 1e-12)) for one in (low, high, value))
        return min(1.0, max(0.0, (value - low) / (high - low or 1)))

    def ticks(self) -> list[float]:
        """Round values along the axis."""
        if self.log:
            powers = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            return [10.0**power for power in powers]
        step = round_step((self.high - self.low) / 5)
        first = math.ceil(self.low / step - 1e-9)
        return [step * at for at in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def text(self, value: float) -> str:
        """A tick's label."""
        return f"{100 * value:.3g} %" if self.percent else f"{value:.6g}"


def round_step(rough: float) -> float:
    """The step 1, 2 or 5 times a power of ten that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    return next(power * one for one in (1, 2, 5, 10) if power * one >= rough * (1 - 1e-9))


def fit_axis(label: str, values: Sequence[float], *, percent: bool = False) -> Axis:
    """An axis from a round value below all to a round value above all."""
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    step = round_step((high - low) / 5 if high > low else max(abs(high), 1.0) / 5)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return Axis(label, low, high if high > low else low + step, percent=percent)


def draw_chart(
    series: Sequence[Series], *, x: Axis, y: Axis, alt: str, marks: Sequence[tuple[float, str]] = ()
) -> str:
    """SVG of series over two axes.

    Args:
        series: later ones are drawn over earlier ones.
        x, y: the axes.
        alt: the chart in one sentence, for those who do not see it.
        marks: (x, words) of vertical lines.
    """
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return LEFT + wide * x.place(point[0]), TOP + high * (1 - y.place(point[1]))

    parts = [*_y_grid(y, at, x.low), *_x_grid(x, at, y.low)]
    for value, words in marks:
        place = at((value, y.low))[0]
        side, gap = ("end", -5) if x.place(value) > 0.6 else ("start", 5)
        parts.append(f'<path class="mark" d="M{place:.1f} {TOP}V{TOP + high}"/>')
        parts.append(_text(place + gap, TOP + high - 8, words, f"{side} strong"))
    for one in series:
        kept = [all(map(math.isfinite, point)) for point in one.points]
        places = [at(point) for point, keep in zip(one.points, kept, strict=True) if keep]
        titles = [title for title, keep in zip(one.titles, kept, strict=False) if keep]
        parts.append(_dots(one, places, titles) if one.dots else _line(one, places))
    return _svg(parts, HEIGHT, alt)


def draw_strips(rows: Sequence[tuple[str, Sequence[float]]], *, x: Axis, alt: str) -> str:
    """SVG with a row a name: a dot a value, and a bar at their mean."""
    left, row_height = 128, 20
    wide, bottom = WIDTH - left - RIGHT, TOP + row_height * len(rows)

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return left + wide * x.place(point[0]), bottom - point[1]

    parts = _x_grid(x, at, 0.0, top=TOP)
    for number, (name, values) in enumerate(rows):
        middle = TOP + row_height * (number + 0.5)
        shown = name if len(name) <= 17 else name[:8] + "…" + name[-8:]
        parts.append(_text(left - 8, middle + 4, shown, "end", title=name))
        places = [(at((value, 0))[0], middle) for value in values]
        parts.append(_dots(Series("", (), faint=True, dots=True), places, []))
        mean = at((sum(values) / len(values), 0))[0]
        parts.append(f'<path class="mean" d="M{mean:.1f} {middle - 7}v14"/>')
    return _svg(parts, bottom + BOTTOM, alt)


def _svg(parts: Sequence[str], height: float, alt: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(alt)}">'
        + "".join(parts)
        + "</svg>"
    )


def _text(x: float, y: float, text: str, kind: str = "", *, title: str = "") -> str:
    told = f"<title>{escape(title)}</title>" if title and title != text else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}{told}</text>'


def _y_grid(y: Axis, at: Placer, start: float) -> list[str]:
    parts = []
    for tick in y.ticks():
        place = at((start, tick))[1]
        parts.append(f'<path class="grid" d="M{LEFT} {place:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(_text(LEFT - 6, place + 4, y.text(tick), "end"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text transform="translate(11 {middle:g}) rotate(-90)" class="middle">'
        f"{escape(y.label)}</text>"
    )
    return parts


def _x_grid(x: Axis, at: Placer, start: float, *, top: float = TOP) -> list[str]:
    parts, base = [], at((x.low, start))[1]
    for tick in x.ticks():
        place = at((tick, start))[0]
        parts.append(f'<path class="grid" d="M{place:.1f} {top}V{base:.1f}"/>')
        parts.append(_text(place, base + 16, x.text(tick), "middle"))
    middle = (at((x.low, start))[0] + WIDTH - RIGHT) / 2
    return [*parts, _text(middle, base + 34, x.label, "middle")]


def _line(one: Series, places: Sequence[tuple[float, float]]) -> str:
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    if not path:
        return ""
    # A line of one point would not be seen: a round end makes it a dot.
    path += "h0" if len(places) == 1 else ""
    faint = " faint" if one.faint else ""
    return f'<path class="line c{one.colour % COLOURS}{faint}" d="M{path}"/>'


def _dots(one: Series, places: Sequence[tuple[float, float]], titles: Sequence[str]) -> str:
    kind = f"dots c{one.colour % COLOURS}" + (" faint" if one.faint else "")
    if not titles:
        path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in places)
        return f'<path class="{kind}" d="{path}"/>' if path else ""
    parts = []
    for (x, y), title in zip(places, titles, strict=True):
        parts.append(f'<path class="{kind}" d="M{x:.1f} {y:.1f}h0">')
        parts.append(f"<title>{escape(title)}</title></path>")
    return "".join([*parts, *(_labels(places, titles) if one.labelled else [])])


def _labels(places: Sequence[tuple[float, float]], titles: Sequence[str]) -> list[str]:
    """Texts beside dots, moved up or down until they do not cover an earlier one."""
    parts, taken = [], list[tuple[float, float, float]]()
    for (x, y), title in sorted(zip(places, titles, strict=True), key=lambda one: one[0][1]):
        wide = 6.6 * len(title)
        end = x + 7 + wide > WIDTH
        left = x - 7 - wide if end else x + 7
        shifts = sorted(range(-60, 61, 4), key=abs)
        free = [
            shift
            for shift in shifts
            if all(abs(y + shift - b) >= 12 or left + wide < a or left > c for a, b, c in taken)
        ]
        shift = free[0] if free else 0
        taken.append((left, y + shift, left + wide))
        parts.append(_text(x - 7 if end else x + 7, y + shift + 4, title, "end" if end else ""))
    return parts
