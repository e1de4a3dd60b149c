"""``/receipts`` and ``/receipts/{name}``: each answer, who shaped it, who was paid, and its recomputation."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import TYPE_CHECKING
from urllib.parse import quote

from openledger.node.views import Check, Party, ReceiptRow, ReceiptView, RetrievedView, SpanView, top_words
from openledger.ui.access import may_act, wallet_account
from openledger.ui.components import Heatmap, HeatmapRow, split_tokens
from openledger.ui.dom import Tag, button, div, heading, link, paragraph, span
from openledger.ui.formatting import amount, exact_amount, percent, plural, short_hash
from openledger.ui.icons import icon
from openledger.ui.layout import page
from openledger.ui.loading import act, fetch, refill, tell
from openledger.ui.pages.datanets import record_link
from openledger.ui.parts import (
    ROLES,
    Column,
    Slice,
    badge,
    card,
    empty,
    page_head,
    pager,
    role_colour,
    share_line,
    show_amount,
    show_hash,
    show_party,
    show_ppm,
    show_time,
    split_bar,
    table,
)

if TYPE_CHECKING:
    from openledger.ui.views_protocol import Views

_PER_PAGE = 25
_verifying = threading.Lock()
"""Recomputing takes all the processor it can get: one at a time."""


def register(node: Views) -> None:
    """Serves the pages."""

    @page(node, "/receipts", "Receipts")
    async def receipts() -> None:
        with page_head("Receipts", "Every answer, signed by the host that gave it, with its fee and who shaped it."):
            if may_act(node):
                post = button("Post waiting receipts now")
        with card(flush=True):
            result = div()

        async def show(offset: int = 0) -> None:
            rows, total = await refill(result, node.receipts, offset, _PER_PAGE)
            with result:
                if rows:
                    receipts_table(rows)
                    pager(offset, _PER_PAGE, total, show)
                else:
                    empty(
                        "No receipt yet.",
                        "Ask a model on its page, or over the API.",
                        "openledger ask MODEL 'question'",
                    )

        async def settle() -> None:
            posted = await act(post, node.settle)
            if posted is not None:
                tell(f"{plural(posted, 'receipt')} posted to the chain." if posted else "No receipt was waiting.")
                await show()

        if may_act(node):
            post.on("click", settle, args=[])
        await show()

    @page(node, "/receipts/{name}", "Receipt", "receipts")
    async def receipt(name: str) -> None:
        _draw(node, await fetch(node.receipt, name, wallet_account(node) or ""))


def receipt_link(text: str, name: str, classes: str = "") -> Tag:
    """A link to a receipt's page."""
    return link(text, f"/receipts/{quote(name, safe='')}", classes)


def receipts_table(rows: list[ReceiptRow]) -> None:
    """Receipts as a table."""

    def content(row: ReceiptRow) -> None:
        receipt_link(row.prompt or "(not kept)", row.id, "cell-title clamp")
        span(row.output, "cell-note clamp")

    def shaped(row: ReceiptRow) -> None:
        if row.top_contributor is None:
            span("base model", "muted")
            return
        with div("credited"):
            show_party(row.top_contributor)
            show_ppm(row.top_ppm, "muted small")

    columns = [
        Column[ReceiptRow]("Question and answer", content, "text"),
        Column[ReceiptRow]("Model", lambda row: span(row.model_name, "short")),
        Column[ReceiptRow]("Most credit", shaped),
        Column[ReceiptRow]("Fee", lambda row: show_amount(row.fee), "number"),
        Column[ReceiptRow]("State", lambda row: badge(row.status)),
        Column[ReceiptRow]("Time", lambda row: show_time(row.time)),
    ]
    table("Receipts", columns, rows)


def contributor_shares(contributors: list[tuple[Party, int]], residual_ppm: int) -> None:
    """Bars: each contributor's share of an answer, and the base model's residual."""
    ordered = sorted(contributors, key=lambda share: share[1], reverse=True)
    most = max([ppm for _, ppm in ordered] + [residual_ppm])
    with div("shares"):
        for party, ppm in ordered:
            share_line(lambda party=party: show_party(party), ppm, most)  # type: ignore[misc]
        share_line(lambda: span("Base model (residual)", "muted"), residual_ppm, most, "var(--series-7)")


def _draw(node: Views, view: ReceiptView) -> None:
    row = view.row
    with page_head(f"Receipt {short_hash(row.id)}", crumbs=[("Receipts", "/receipts")]):
        badge(row.status)
    with div("facts-line"):
        span(row.model_name, "strong")
        show_time(row.time)
        show_amount(row.fee)
        span(f"{plural(view.prompt_tokens, 'token')} in, {view.output_tokens:,} out")
    with card("Question"):
        paragraph(row.prompt or "(not kept on this node)", "wrap-text")
    with div("columns wide-left"):
        with div("stack"):
            _influence(view)
            _records(view)
            _verbatim(view)
            _retrieved(view)
            _verification(node, row.id)
        with div("stack"):
            with card("Who shaped it", "Shares of this answer by contributor, from the measured influence."):
                contributor_shares(view.contributors, row.residual_ppm)
            _payouts(view)
            _on_chain(view)


def _influence(view: ReceiptView) -> None:
    with card("Influence", "How much training on a record changed this answer."):
        if not view.tokens or not view.influence:
            paragraph(view.row.output, "quote")
            paragraph("No record's influence on this answer stands out from the noise.", "muted")
            return
        rows = [
            HeatmapRow(record.question, f"{record.contributor.label} · {percent(record.ppm)}", values)
            for record, values in zip(view.records, view.influence, strict=False)
        ]
        Heatmap(view.tokens, rows, view.spans)


def _verbatim(view: ReceiptView) -> None:
    note = "These words stand in that record. That is another claim than influence, which is measured above."
    with card("Verbatim", note):
        if not view.spans:
            paragraph("No longer run of this answer's words stands in a record of the Datanet.", "muted")
            return
        with Tag("p", classes="quote"):
            for text, covered in split_tokens([view.row.output], [(part.start, part.end) for part in view.spans])[0]:
                Tag("mark" if covered else "span", text, "verbatim" if covered else "")
        columns = [
            Column[SpanView]("Words", lambda part: span(f"“{part.text.strip()}”", "wrap-text"), "text"),
            Column[SpanView]("Stands in", _span_records),
        ]
        table("Verbatim words and the records in which they stand", columns, view.spans)


def _retrieved(view: ReceiptView) -> None:
    if not view.retrieved:
        return
    note = (
        "Records that were looked up and put before the question, and how much likelier each made the answer: its loss "
        "without that record in the prompt, less its loss with it. That is another claim than influence of training."
    )

    def words(one: RetrievedView) -> None:
        found = (word.strip(".,;:") for word, _ in top_words(view.tokens, one.effects, 4))
        span(" · ".join(filter(None, found)), "wrap-text small")

    with card("Retrieved context", note):
        columns = [
            Column[RetrievedView]("Record", lambda one: record_link(one.question, one.hash, "clamp"), "text"),
            Column[RetrievedView]("Contributor", lambda one: show_party(one.contributor)),
            Column[RetrievedView]("Likelier by", lambda one: span(f"{one.effect:+.2f} nats"), "number"),
            Column[RetrievedView]("Words", words, "text"),
        ]
        table("Records that were looked up for this answer", columns, view.retrieved)


def _span_records(part: SpanView) -> None:
    with div("line small"):
        for digest in part.records[:4]:
            record_link(short_hash(digest), digest, "mono")
        if len(part.records) > 4:
            span(f"and {len(part.records) - 4:,} more", "muted")


def _records(view: ReceiptView) -> None:
    note = "The records with the largest shares of this answer. What no record can claim is left to the base model."
    with card("Records credited", note):
        if not view.records:
            paragraph("No record has a share: the whole answer is the base model's.", "muted")
            return
        rest = sum(ppm for _, ppm in view.contributors) - sum(record.ppm for record in view.records)
        most = max(record.ppm for record in view.records)
        with div("shares"):
            for record in view.records:

                def draw(record=record) -> None:  # type: ignore[no-untyped-def]
                    record_link(record.question, record.hash, "clamp")
                    with div("line small"):
                        show_party(record.contributor)

                share_line(draw, record.ppm, most)
            if rest > 0:
                with div("line spread muted small"):
                    span("All other records together")
                    show_ppm(rest)


def _payouts(view: ReceiptView) -> None:
    note = "Each part is whole wei; nothing is lost in rounding." if view.payouts else ""
    with card("How the fee is split", note):
        if not view.payouts:
            paragraph("The fee is split once the receipt is in a batch on the chain that nobody disputes.", "muted")
            return
        by_role: dict[str, list[tuple[Party, int]]] = defaultdict(list)
        for party, role, wei in view.payouts:
            by_role[role].append((party, wei))
        order = [*ROLES, *sorted(set(by_role) - set(ROLES))]
        split_bar(
            [
                Slice(role.capitalize(), wei, amount(wei), exact_amount(wei), role_colour(role))
                for role in order
                if (wei := sum(part for _, part in by_role.get(role, [])))
            ],
            "The fee by role",
        )
        with Tag("details"):
            Tag("summary", f"All {plural(len(view.payouts), 'payment')}", "small")
            columns = [
                Column[tuple[Party, str, int]]("Account", lambda row: show_party(row[0])),
                Column[tuple[Party, str, int]]("Role", lambda row: span(row[1])),
                Column[tuple[Party, str, int]]("Part", lambda row: show_amount(row[2]), "number"),
            ]
            table("Payments", columns, view.payouts)


def _verification(node: Views, name: str) -> None:
    with card("Verify", "Recomputes signature, hashes, inclusion, influence and payout from public data."):
        start = button(classes="button primary")
        with start:
            icon("shield")
            span("Verify this receipt")
        result = div(role="status", aria_live="polite")

        def recompute() -> list[Check]:
            with _verifying:
                return node.verify(name)

        async def verify() -> None:
            checks = await act(start, recompute)
            if checks is None or result.is_deleted:
                return
            result.clear()
            with result:
                _checks(checks)

        start.on("click", verify, args=[])


def _checks(checks: list[Check]) -> None:
    passed = sum(check.ok for check in checks)
    if passed == len(checks):
        heading(3, f"All {plural(passed, 'check')} passed")
    else:
        heading(3, f"{len(checks) - passed} of {plural(len(checks), 'check')} failed")
    with Tag("ul", classes="checks"):
        for check in checks:
            with Tag("li", classes="ok" if check.ok else "failed"):
                icon("check" if check.ok else "cross")
                with div("line"):
                    span(check.name, "strong")
                    if check.ok:
                        span("passed", "visually-hidden")
                    else:
                        span("failed", "badge bad")
                span(check.detail, "detail")


def _on_chain(view: ReceiptView) -> None:
    with card("On the chain"):
        if view.batch is None:
            paragraph("Not yet posted: it waits for the next batch.", "muted")
        with Tag("dl", classes="pairs"):
            if view.batch is not None:
                Tag("dt", "Batch")
                Tag("dd", f"#{view.batch}")
            if view.gas_per_inference is not None:
                Tag("dt", "Gas per answer")
                Tag("dd", f"{view.gas_per_inference:,.0f}")
            for name, value in (
                ("Receipt", view.row.id),
                ("Transaction", view.transaction),
                ("Batch root", view.batch_root),
                ("Shares root", view.shares_root),
                ("Signature", view.signature),
            ):
                if value:
                    Tag("dt", name)
                    with Tag("dd"):
                        show_hash(value, name.lower())
            for name, party in (("Consumer", view.consumer), ("Host", view.host)):
                Tag("dt", name)
                with Tag("dd"):
                    show_party(party)
