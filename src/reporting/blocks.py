"""What a report's page is made of: sections of tables, charts, pictures and words."""

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from core.files import without_nan

# page.html, a Jinja template, page.css, and page.js for tables that sort: nothing from outside.
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Cell:
    """A table's cell: `shade` 0-1 colours it, `mark` makes it stand out, `text` is left-aligned."""

    value: str
    shade: float | None = None
    mark: bool = False
    text: bool = False


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row is its heading, and the last `foot` rows are summaries.

    `closed` is shown at a click, `sortable` by any column at a click on its head.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    foot: int = 0
    closed: bool = False
    sortable: bool = False
    kind: str = "table"


@dataclass(frozen=True)
class Figure:
    """A chart with its legend: (colour, name) of series."""

    title: str
    svg: str
    legend: Sequence[tuple[int, str]] = ()
    note: str = ""
    kind: str = "figure"


@dataclass(frozen=True)
class Card:
    """A picture as data URI; `layers` lie over it, each with the kind of what it shows."""

    source: str
    alt: str
    caption: str
    score: str
    size: tuple[int, int]
    layers: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Gallery:
    """Pictures under a heading, if it has one; `legend` holds (CSS colour, name).

    `views` are what one may choose to see of all cards, the first at once: a kind of layer, or
    "both" and "image" for all layers and none.
    """

    title: str
    cards: Sequence[Card]
    legend: Sequence[tuple[str, str]] = ()
    views: Sequence[str] = ()
    kind: str = "gallery"


@dataclass(frozen=True)
class Section:
    """A chapter of the page.

    Attributes:
        key: its anchor.
        title: its heading.
        blocks: tables, figures and galleries in order.
        lead: sentences above them.
        notes: what is missing, and why.
        figures: what is shown, as plain values for programs.
        half: two such sections share the width of a screen.
    """

    key: str
    title: str
    blocks: Sequence[Any] = ()
    lead: Sequence[str] = ()
    notes: Sequence[str] = ()
    figures: dict[str, Any] = field(default_factory=dict)
    half: bool = False


def number(value: Any, digits: int = 4) -> str:
    """A score as text; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}"


def widen_alone(sections: Sequence[Section]) -> list[Section]:
    """Sections in which a half without another half beside it takes the whole width."""
    shown: list[Section] = []
    open_half = False
    for section in sections:
        if open_half and not section.half:
            shown[-1] = replace(shown[-1], half=False)
        open_half = section.half and not open_half
        shown.append(section)
    if open_half:
        shown[-1] = replace(shown[-1], half=False)
    return shown


def render_page(
    sections: Sequence[Section],
    *,
    kicker: str = "Out-of-fold report",
    refresh: float = 0,
    **facts: Any,
) -> str:
    """The page as HTML.

    Args:
        sections: in order.
        kicker: the line above the title.
        refresh: seconds after which a browser loads it again; 0: never.
        facts: what the head of the template names: title, subtitle, tiles, footer.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    figures = {section.key: section.figures for section in sections if section.figures}
    text = json.dumps(without_nan(figures))
    # Inside <script> only this could end the element early.
    text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    sections = widen_alone(sections)
    style = (HERE / "page.css").read_text(encoding="utf-8")
    sortable = any(getattr(block, "sortable", False) for one in sections for block in one.blocks)
    script = (HERE / "page.js").read_text(encoding="utf-8") if sortable else ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = environment.get_template("page.html")
    facts |= {"kicker": kicker, "refresh": refresh, "script": script, "digest": digest}
    return template.render(sections=sections, figures=text, style=style, **facts)
