"""HTML elements whose text and attributes are always escaped.

Text reaches the browser as a text node and attributes as attribute values, never as HTML or as a property string, so records,
prompts and answers may hold anything.
"""

from __future__ import annotations

from nicegui.elements.mixins.text_element import TextElement

Attribute = str | int | float | bool | None


class Tag(TextElement):
    """One HTML element. An attribute's underscores become hyphens (``aria_label``); None leaves the attribute out."""

    def __init__(self, tag: str, text: str = "", classes: str = "", **attributes: Attribute) -> None:
        super().__init__(tag=tag, text=text)
        if classes:
            self.classes(classes)
        for name, value in attributes.items():
            if value is not None:
                self.props[name.rstrip("_").replace("_", "-")] = value


def div(classes: str = "", text: str = "", **attributes: Attribute) -> Tag:
    """A block."""
    return Tag("div", text, classes, **attributes)


def span(text: str = "", classes: str = "", **attributes: Attribute) -> Tag:
    """A run of text."""
    return Tag("span", text, classes, **attributes)


def paragraph(text: str = "", classes: str = "", **attributes: Attribute) -> Tag:
    """A paragraph."""
    return Tag("p", text, classes, **attributes)


def heading(level: int, text: str, classes: str = "", **attributes: Attribute) -> Tag:
    """A heading of level 1 to 6."""
    return Tag(f"h{level}", text, classes, **attributes)


def link(text: str, target: str, classes: str = "", **attributes: Attribute) -> Tag:
    """A link to a page of this application; ``target`` begins with a slash.

    Raises:
        ValueError: the target would leave the application.
    """
    if not target.startswith("/") or target.startswith("//"):
        raise ValueError(f"not a page of this application: {target!r}")
    return Tag("a", text, classes, href=target, **attributes)


def button(text: str = "", classes: str = "button", **attributes: Attribute) -> Tag:
    """A push button; add a handler with ``.on("click", ...)``."""
    return Tag("button", text, classes, type="button", **attributes)
