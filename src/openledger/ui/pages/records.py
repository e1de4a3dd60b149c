"""``/records/{digest}``: one record and its life, accepted → trained → influenced → paid."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from openledger.node.views import ContradictionRow, RecordView
from openledger.primitives import PPM
from openledger.ui.dom import Tag, div, paragraph, span
from openledger.ui.formatting import exact_ppm, plural
from openledger.ui.icons import icon
from openledger.ui.layout import page
from openledger.ui.loading import fetch
from openledger.ui.pages.datanets import record_link
from openledger.ui.parts import Column, badge, card, empty, page_head, show_hash, show_party, table

if TYPE_CHECKING:
    from openledger.node.views import VerdictRow
    from openledger.ui.views_protocol import Views


def register(node: Views) -> None:
    """Serves the page."""

    @page(node, "/records/{digest}", "Record", "datanets")
    async def record(digest: str) -> None:
        _draw(await fetch(node.record, digest), await fetch(node.contradiction, digest))


def _draw(view: RecordView, contradiction: ContradictionRow | None) -> None:
    with page_head(view.question, crumbs=[("Datanets", "/datanets")]):
        badge(view.status)
    with div("facts-line"):
        show_party(view.contributor)
        span(f"contribution #{view.contribution}")
        span(view.kind)
        show_hash(view.hash, "record hash")
    with card("Its life"):
        _life(view)
    with div("columns wide-left"):
        with div("stack"):
            with card("Answer"):
                paragraph(view.answer, "wrap-text")
            if contradiction is not None:
                _contradiction(contradiction)
            with card("Review", flush=True):
                _verdicts(view.verdicts)
        with div("stack"):
            with card("Facts"):
                _pairs(view.facts, "This record states no separate facts.")
            with card("Source"):
                _pairs(view.source, "No source is given.")


def _contradiction(found: ContradictionRow) -> None:
    note = "Both speak of the same matter and differ in facts. Found by words, for a person to judge: both may be true."
    with card("Speaks against an accepted record", note):
        record_link(found.trusted_question, found.trusted, "clamp")
        _pairs({"this record says": " · ".join(found.says), "that one says": " · ".join(found.instead_of)}, "")


def _life(view: RecordView) -> None:
    accepts = sum(verdict.accept for verdict in view.verdicts)
    accepted, rejected = view.status == "accepted", view.status == "rejected"
    jury = f"{accepts} of {plural(len(view.verdicts), 'reviewer')} for it" if view.verdicts else "no verdict yet"
    with Tag("ol", classes="life"):
        state = "done" if accepted else "failed" if rejected else ""
        _step("Rejected" if rejected else "Accepted" if accepted else "Under review", jury, state)
        trained = ", ".join(view.trained_in) or "in no model yet"
        _step("Trained", trained, "done" if view.trained_in else "")
        _step("Influenced", plural(view.influenced, "answer"), "done" if view.influenced else "")
        credit = f"{view.credited_ppm / PPM:,.3f}"
        note = f"credited with {credit} answers in sum" if view.credited_ppm else "no credit yet"
        _step("Paid", note, "done" if view.credited_ppm else "", exact_ppm(view.credited_ppm))


def _step(name: str, note: str, state: str, tip: str = "") -> None:
    with Tag("li", classes=state):
        with span("", "step", aria_hidden="true"):
            icon({"done": "check", "failed": "cross"}.get(state, "clock"))
        span(name, "strong")
        span(note, "muted small", data_tip=tip or None)


def _verdicts(rows: list[VerdictRow]) -> None:
    if not rows:
        empty("No reviewer has given a verdict yet.")
        return
    columns = [
        Column["VerdictRow"]("Reviewer", lambda row: show_party(row.reviewer)),
        Column["VerdictRow"]("Verdict", lambda row: badge("accepted" if row.accept else "rejected")),
        Column["VerdictRow"]("Reason", lambda row: span(row.reason or "–", "wrap-text"), "text"),
    ]
    table("Verdicts", columns, rows)


def _pairs(values: dict[str, Any], nothing: str) -> None:
    shown = {key: value for key, value in values.items() if value not in ("", None)}
    if not shown:
        paragraph(nothing, "muted")
        return
    with Tag("dl", classes="pairs"):
        for key, value in shown.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            Tag("dt", key.replace("_", " ").capitalize())
            with Tag("dd"):
                if text.startswith("https://"):
                    Tag("a", text, href=text, rel="noopener noreferrer nofollow", target="_blank")
                else:
                    span(text, "wrap-text")
