"""Other people's text: cut for the heatmap without loss, drawn from Markdown without HTML, and never a way out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openledger.primitives import InputError
from openledger.ui.components import split_tokens
from openledger.ui.dom import link
from openledger.ui.pages.governance import read_value
from openledger.ui.parts import render_markdown

tokens = st.lists(st.text(min_size=1, max_size=6), max_size=12)


@given(tokens, st.data())
def test_the_parts_of_the_tokens_are_the_tokens_and_cover_exactly_the_spans(
    words: list[str], data: st.DataObject
) -> None:
    length = sum(map(len, words))
    ends = st.integers(0, length)
    spans = data.draw(st.lists(st.tuples(ends, ends).map(lambda pair: (min(pair), max(pair))), max_size=4))
    parts = split_tokens(words, spans)
    assert ["".join(text for text, _ in token) for token in parts] == words
    covered = [inside for token in parts for text, inside in token for _ in text]
    assert covered == [any(low <= at < high for low, high in spans) for at in range(length)]


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[press](javascript:alert(1))",
        "![pixel](https://tracker.example/p.png)",
        '<a href="x" onclick="alert(1)">x</a>',
        "```\n</code><script>alert(1)</script>\n```",
    ],
)
def test_markdown_gives_no_html_of_its_author_no_script_and_no_image(hostile: str) -> None:
    html = render_markdown(f"# Card\n\n{hostile}\n")
    assert "<h3>Card</h3>" in html
    for forbidden in ("<script", "<img", '<a href="x"', 'href="javascript'):
        assert forbidden not in html


def test_the_front_matter_of_a_card_is_not_shown() -> None:
    assert render_markdown("---\nlicence: MIT\n---\ntext") == "<p>text</p>\n"
    assert "licence" in render_markdown("---\nlicence without an end")


@pytest.mark.parametrize("outside", ["https://example.org", "//example.org", "javascript:alert(1)", ""])
def test_a_link_of_the_pages_cannot_lead_out_of_them(outside: str) -> None:
    with pytest.raises(ValueError, match="not a page"):
        link("press", outside)


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("60", "ppm", 600_000),
        ("12.5 %", "ppm", 125_000),
        ("0.05", "wei", 5 * 10**16),
        ("3600", "s", 3600),
        ("5", "count", 5),
    ],
)
def test_a_parameter_is_read_in_the_unit_that_people_write(text: str, unit: str, value: int) -> None:
    assert read_value(text, unit) == value


@pytest.mark.parametrize(
    ("text", "unit"), [("0.00001", "ppm"), ("1.5", "count"), ("-1", "s"), ("many", "count"), ("", "wei")]
)
def test_a_value_finer_than_its_unit_or_no_number_is_refused(text: str, unit: str) -> None:
    with pytest.raises(InputError):
        read_value(text, unit)
