"""What every page is built of: cards, figures, tables, people, amounts, hashes, badges, bars, empty states."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from markdown_it import MarkdownIt
from nicegui import ui

from openledger.node.views import Party
from openledger.ui.components import Timestamp
from openledger.ui.dom import Tag, button, div, heading, link, paragraph, span
from openledger.ui.formatting import (
    amount,
    compact_amount,
    exact_amount,
    exact_ppm,
    percent,
    short_hash,
)
from openledger.ui.icons import icon

Row = TypeVar("Row")
"""What a table or region shows."""

ROLES = ("contributor", "builder", "ancestor", "host", "curator", "validator", "treasury", "base model")
"""Who a fee is split among, in the order in which colours are given."""

_TONES = {
    "accepted": "good",
    "paid": "good",
    "active": "good",
    "approved": "good",
    "executed": "good",
    "succeeded": "good",
    "finalised": "good",
    "answered": "good",
    "staked": "good",
    "decided": "info",
    "posted": "info",
    "queued": "info",
    "evaluated": "info",
    "recorded": "",
    "failed": "bad",
    "interrupted": "bad",
    "rejected": "bad",
    "defeated": "bad",
    "disabled": "bad",
    "expired": "bad",
    "canceled": "bad",
    "withdrawn": "",
    "pending": "warn",
    "proposed": "warn",
    "under review": "warn",
    "in review": "warn",
    "submitted": "warn",
    "deprecated": "warn",
}
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


def series_colour(position: int) -> str:
    """The theme's colour for the series at a position."""
    return f"var(--series-{position % 7 + 1})"


def role_colour(role: str) -> str:
    """The theme's colour for a role in the fee split."""
    return series_colour(ROLES.index(role)) if role in ROLES else series_colour(5)


@contextmanager
def card(title: str = "", note: str = "", *, flush: bool = False, classes: str = "") -> Iterator[Tag]:
    """A titled card; yields its head, for buttons or links. ``flush`` lets a table reach the card's edges."""
    with Tag("section", classes=f"card {classes}"):
        head = div("card-head")
        with head:
            if title:
                heading(2, title)
            if note:
                paragraph(note, "note")
        head.set_visibility(bool(title or note))
        with div("card-body flush" if flush else "card-body"):
            yield head


@contextmanager
def page_head(title: str, note: str = "", crumbs: Sequence[tuple[str, str]] = ()) -> Iterator[None]:
    """The page's heading with the way back (``crumbs``: text, target); its body takes buttons."""
    with Tag("header", classes="page-head"):
        with div("page-title"):
            if crumbs:
                with Tag("nav", classes="crumbs", aria_label="Breadcrumb"):
                    for text, target in crumbs:
                        with link("", target):
                            icon("back")
                            span(text)
            heading(1, title)
            if note:
                paragraph(note)
        with div("page-actions"):
            yield


def figure(name: str, value: str, note: str = "", *, tip: str = "", target: str = "") -> None:
    """One key figure."""
    with link("", target, "figure") if target else div("figure"):
        span(name, "figure-name")
        big_number(value, "figure-value", tip)
        if note:
            span(note, "figure-note")


def big_number(value: str, classes: str, tip: str = "") -> None:
    """A number in large type with its unit, if any, in small."""
    number, _, unit = value.partition(" ")
    with span(number, classes, data_tip=tip or None):
        if unit:
            span(unit, "unit")


def show_amount(wei: int, *, compact: bool = False, bare: bool = False, classes: str = "") -> Tag:
    """An amount of OPEN with the exact value in its tooltip; ``bare`` where a heading already says OPEN."""
    text = compact_amount(wei) if compact else amount(wei)
    if bare:
        text = text.removesuffix(" OPEN")
    return span(text, f"amount {classes}", data_tip=exact_amount(wei))


def show_ppm(ppm: int, classes: str = "") -> Tag:
    """A share with the exact ppm in its tooltip."""
    return span(percent(ppm), classes, data_tip=exact_ppm(ppm))


def show_time(seconds: int) -> None:
    """A moment, relative to now; a dash where it is not known (0)."""
    if seconds:
        Timestamp(seconds)
    else:
        span("–", "muted")


def show_hash(value: str, name: str = "hash") -> None:
    """A hash or address in short, the whole of it in the tooltip, with a copy button."""
    if not value:
        span("–", "muted")
        return
    with span("", "hash"):
        span(short_hash(value), data_tip=value)
        copy_button(value, name)


def copy_button(value: str, name: str) -> None:
    """A button that copies a text; ``name`` says which."""
    with button(classes="copy", aria_label=f"Copy {name}", data_copy=value):
        icon("copy")


def show_party(party: Party | None, *, role: bool = False) -> None:
    """A person or account by name, with a colour of its own and the address in the tooltip."""
    if party is None:
        span("–", "muted")
        return
    digest = hashlib.sha256(party.address.lower().encode()).digest()
    first, second = digest[0] * 360 // 256, digest[1] * 360 // 256
    with span("", "party", data_tip=party.address):
        span("", "avatar", aria_hidden="true").style(
            f"background: linear-gradient(135deg, hsl({first} 62% 52%), hsl({second} 58% 40%))"
        )
        span(party.label, "party-name")
        if role and party.role:
            span(party.role, "party-role")


def badge(state: str) -> Tag:
    """A state as a coloured badge; the word itself says it too."""
    return span(state, f"badge {_TONES.get(state.lower(), '')}")


def empty(title: str, hint: str = "", command: str = "") -> None:
    """What stands where there is nothing yet, and what to do about it."""
    with div("empty"):
        icon("empty")
        paragraph(title, "strong")
        if hint:
            paragraph(hint)
        if command:
            Tag("code", command)


def error_line(message: str) -> None:
    """An error as one clear line."""
    with div("error-line", role="alert"):
        icon("alert")
        span(" ".join(message.split()))


def notice(message: str, symbol: str = "lock") -> Tag:
    """A quiet remark; further parts may be added inside."""
    with div("notice") as box:
        icon(symbol)
        span(message)
    return box


@dataclass(frozen=True)
class Column(Generic[Row]):
    """One column of a table: its heading, what draws a cell, and how it is laid out."""

    title: str
    draw: Callable[[Row], object]
    classes: str = ""
    """``number`` for right-aligned figures, ``text`` for a long text, ``wide`` for what fills a line on a phone."""


def table(caption: str, columns: Sequence[Column[Row]], rows: Sequence[Row], *, stacks: bool = True) -> None:
    """A table; ``stacks`` for one too wide for a phone, which then shows each row as a block. The caption is spoken only."""
    with div("table-scroll"), Tag("table", classes="rows stacks" if stacks else "rows"):
        Tag("caption", caption, "visually-hidden")
        with Tag("thead"), Tag("tr"):
            for column in columns:
                Tag("th", column.title, column.classes, scope="col")
        with Tag("tbody"):
            for row in rows:
                with Tag("tr"):
                    for column in columns:
                        with Tag("td", classes=column.classes, data_label=column.title):
                            column.draw(row)


@dataclass(frozen=True)
class Slice:
    """One part of a whole: its name, its size, its size as text, the exact size, its colour, and whose it is."""

    name: str
    size: int
    text: str
    exact: str
    colour: str
    party: Party | None = None


def split_bar(slices: Sequence[Slice], label: str) -> None:
    """A bar of parts with a legend."""
    whole = sum(part.size for part in slices)
    with div("bar", role="img", aria_label=label):
        for part in slices:
            if part.size and whole:
                span("", data_tip=f"{part.name}: {part.text}").style(
                    f"width: {part.size * 100 / whole:.4f}%; background: {part.colour}"
                )
    with Tag("ul", classes="legend"):
        for part in slices:
            with Tag("li"):
                span("", "dot", aria_hidden="true").style(f"background: {part.colour}")
                if part.party is None:
                    span(part.name)
                else:
                    show_party(part.party)
                span(part.text, "value", data_tip=part.exact)


def share_line(draw: Callable[[], object], ppm: int, most: int, colour: str = "var(--accent)") -> None:
    """A share of one answer: who or what (``draw``), a bar against the largest share, and the percentage."""
    with div("share"):
        with div():
            draw()
        with div("bar thin", aria_hidden="true"):
            span("").style(f"width: {ppm * 100 / max(most, 1):.3f}%; background: {colour}")
        show_ppm(ppm, "value")


def render_markdown(markdown: str) -> str:
    """HTML of Markdown without its front matter, its headings two levels down, below the page's own.

    HTML in it is escaped; images and links to scripts stay plain text.
    """
    if markdown.startswith("---\n"):
        _, end, body = markdown.partition("\n---\n")
        markdown = body if end else markdown
    tokens = _MARKDOWN.parse(markdown)
    for token in tokens:
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(int(token.tag[1:]) + 2, 6)}"
    return str(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))


def prose(markdown: str) -> None:
    """Markdown as a text, sanitised once more in the browser."""
    ui.html(render_markdown(markdown), sanitize=True).classes("prose")


class Region(Generic[Row]):
    """A part of a page that is drawn anew when its data has changed, and left alone (focus and all) while it has not."""

    def __init__(self, draw: Callable[[Row], object]) -> None:
        self._draw = draw
        self._shown: Row | None = None
        self._body = div("stack")

    def show(self, data: Row) -> None:
        """Draws the data unless they are shown already."""
        if data == self._shown or self._body.is_deleted:
            return
        self._shown = data
        self._body.clear()
        with self._body:
            self._draw(data)


def pager(offset: int, limit: int, total: int, turn: Callable[[int], object]) -> None:
    """Buttons to the previous and next page of rows; ``turn`` gets the new offset. Nothing where one page holds all."""
    if total <= limit:
        return
    with Tag("nav", classes="pages", aria_label="Pages"):
        span(f"{offset + 1:,}–{min(offset + limit, total):,} of {total:,}")
        with div("line"):
            before = button("Previous", "button small", disabled=offset == 0 or None)
            before.on("click", lambda: turn(max(0, offset - limit)), args=[])
            after = button("Next", "button small", disabled=offset + limit >= total or None)
            after.on("click", lambda: turn(offset + limit), args=[])
