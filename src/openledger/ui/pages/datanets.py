"""``/datanets`` and ``/datanets/{number}``: communities for data, their records, contributions, people and versions."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from nicegui import ui

from openledger.node.views import (
    ContributionRow,
    ContributorRow,
    DatanetRow,
    DatanetView,
    RecordView,
    VersionRow,
)
from openledger.primitives import OpenLedgerError
from openledger.ui.access import may_act
from openledger.ui.dom import Tag, button, div, heading, link, paragraph, span
from openledger.ui.formatting import plural
from openledger.ui.layout import page
from openledger.ui.loading import act, fetch, refill, tell_failure
from openledger.ui.parts import (
    Column,
    badge,
    card,
    empty,
    notice,
    page_head,
    pager,
    prose,
    show_amount,
    show_hash,
    show_party,
    show_time,
    table,
)

if TYPE_CHECKING:
    from openledger.ui.views_protocol import Views

_RECORDS_PER_PAGE = 25
_STATUSES = {"": "Every state", "accepted": "Accepted", "rejected": "Rejected", "under review": "Under review"}


def register(node: Views) -> None:
    """Serves the pages."""

    @page(node, "/datanets", "Datanets")
    async def datanets() -> None:
        with page_head("Datanets", "Communities that gather, review and version the data which models learn from."):
            pass
        rows = await fetch(node.datanets)
        if not rows:
            with card():
                empty("No Datanet yet.", "The first start of a network sets one up.")
        with div("grid"):
            for row in rows:
                _datanet_card(row)

    @page(node, "/datanets/{number}", "Datanet", "datanets")
    async def datanet(number: int) -> None:
        view = await fetch(node.datanet, number)
        ui.page_title(f"{view.row.name} · OpenLedger")
        await _draw(node, view)


def record_link(text: str, digest: str, classes: str = "") -> Tag:
    """A link to a record's page."""
    return link(text, f"/records/{quote(digest, safe='')}", classes)


def _datanet_card(row: DatanetRow) -> None:
    with link("", f"/datanets/{row.id}", "card"), div("card-body"):
        with div("line titled"):
            heading(2, row.name)
            badge(row.licence)
        paragraph(row.description, "muted clamp")
        with div("line small"):
            span(plural(row.records, "record"), "strong")
            span(plural(row.contributors, "contributor"), "muted")
            span(plural(row.versions, "version"), "muted")
        show_party(row.owner)


async def _draw(node: Views, view: DatanetView) -> None:
    row = view.row
    with page_head(row.name, row.description, crumbs=[("Datanets", "/datanets")]):
        link("Contribute records", f"/datanets/{row.id}/contribute", "button primary")
        link("Train a model on it", f"/factory?datanet={row.id}", "button")
    with div("facts-line"):
        show_party(row.owner)
        badge(row.licence)
        span(plural(row.records, "record"))
        span(plural(row.contributors, "contributor"))
        span(plural(row.versions, "version"))
    with ui.tabs().props("align=left no-caps inline-label mobile-arrows").classes("tabs") as tabs:
        for name, label in (
            ("records", "Records"),
            ("contributions", f"Contributions {len(view.contributions):,}"),
            ("contributors", f"Contributors {len(view.contributors):,}"),
            ("rejected", f"Rejected {len(view.rejections):,}"),
            ("versions", f"Versions {len(view.versions):,}"),
            ("card", "Data card"),
        ):
            ui.tab(name, label=label)
    with ui.tab_panels(tabs, value="records", animated=False).classes("tab-panels"):
        with ui.tab_panel("contributions"), card(flush=True):
            _contributions(node, view.contributions)
        with ui.tab_panel("contributors"), card(flush=True):
            _contributors(view.contributors)
        with ui.tab_panel("rejected"), card(flush=True):
            _rejections(view.rejections)
        with ui.tab_panel("versions"):
            if may_act(node):
                _anchor(node, row.id)
            with card(flush=True):
                _versions(view.versions)
        with ui.tab_panel("card"), card():
            if view.data_card:
                prose(view.data_card)
            else:
                empty("This Datanet has no data card.")
        with ui.tab_panel("records"):
            await _records(node, view)


async def _records(node: Views, view: DatanetView) -> None:
    people = {"": "Everybody"} | {row.party.address: row.party.label for row in view.contributors}
    with card(flush=True):
        with div("filters").style("padding: 8px 20px 8px"):
            text = ui.input("Search the records").props("outlined dense clearable debounce=350 type=search")
            status = ui.select(_STATUSES, value="", label="State").props("outlined dense options-dense")
            contributor = ui.select(people, value="", label="Contributor").props("outlined dense options-dense")
        result = div()
    latest = 0

    async def show(offset: int = 0) -> None:
        nonlocal latest
        latest += 1
        mine = latest
        words = (text.value or "").strip()

        def read() -> tuple[list[RecordView], int]:
            return node.records(view.row.id, words, status.value, contributor.value, offset, _RECORDS_PER_PAGE)

        try:
            rows, total = await refill(result, read)
        except OpenLedgerError as error:
            tell_failure(str(error))
            return
        if mine != latest or result.is_deleted:
            return
        result.clear()
        with result:
            _record_rows(rows, filtered=bool(words or status.value or contributor.value))
            pager(offset, _RECORDS_PER_PAGE, total, show)

    for field in (text, status, contributor):
        field.on_value_change(lambda _: show())
    await show()


def _record_rows(rows: list[RecordView], *, filtered: bool) -> None:
    if not rows:
        if filtered:
            empty("No record fits.", "Try fewer or other words, or another state or contributor.")
        else:
            empty("No record yet.", "Contribute some from a file.")
        return

    def content(row: RecordView) -> None:
        record_link(row.question, row.hash, "cell-title clamp")
        span(row.answer, "cell-note clamp")

    columns = [
        Column[RecordView]("Record", content, "text"),
        Column[RecordView]("Contributor", lambda row: show_party(row.contributor)),
        Column[RecordView]("State", lambda row: badge(row.status)),
        Column[RecordView]("Shaped", lambda row: span(plural(row.influenced, "answer")), "number"),
    ]
    table("Records", columns, rows)


def _anchor(node: Views, datanet: int) -> None:
    with notice("A new version fixes all accepted records on the chain. Models are trained on versions.", "datanets"):
        anchor = button("Anchor the next version", "button small")

        async def anchor_now() -> None:
            version = await act(anchor, node.anchor, datanet)
            if version is not None:
                ui.navigate.reload()

        anchor.on("click", anchor_now, args=[])


def _contributions(node: Views, rows: list[ContributionRow]) -> None:
    if not rows:
        empty("No contribution yet.", "Contribute records from a file.")
        return

    def reviewers(row: ContributionRow) -> None:
        with div("line"):
            for party in row.reviewers:
                show_party(party)
            if not row.reviewers:
                span("none yet", "muted")

    def state(row: ContributionRow) -> None:
        with div("line"):
            badge(row.state)
            if may_act(node) and row.state in {"submitted", "in review"}:
                _review_button(node, row.id)

    columns = [
        Column[ContributionRow]("No.", lambda row: span(f"#{row.id}", "cell-title")),
        Column[ContributionRow]("Contributor", lambda row: show_party(row.contributor)),
        Column[ContributionRow]("State", state),
        Column[ContributionRow]("Records", lambda row: span(f"{row.count:,}"), "number"),
        Column[ContributionRow]("Accepted", lambda row: span(f"{row.accepted:,}"), "number"),
        Column[ContributionRow]("Rejected", lambda row: span(f"{row.rejected:,}"), "number"),
        Column[ContributionRow]("Bond", lambda row: show_amount(row.bond), "number"),
        Column[ContributionRow]("Slashed", lambda row: show_amount(row.slashed), "number"),
        Column[ContributionRow]("Reviewers", reviewers),
    ]
    table("Contributions", columns, rows)


def _review_button(node: Views, contribution: int) -> None:
    start = button("Review", "button small", aria_label=f"Have contribution {contribution} reviewed")

    async def review_now() -> None:
        if await act(start, node.review, contribution) is not None:
            ui.navigate.reload()

    start.on("click", review_now, args=[])


def _contributors(rows: list[ContributorRow]) -> None:
    if not rows:
        empty("No contributor yet.", "Whoever contributes first is named here.")
        return
    columns = [
        Column[ContributorRow]("Contributor", lambda row: show_party(row.party)),
        Column[ContributorRow]("Accepted", lambda row: span(f"{row.accepted:,}"), "number"),
        Column[ContributorRow]("Rejected", lambda row: span(f"{row.rejected:,}"), "number"),
        Column[ContributorRow]("Answers shaped", lambda row: span(f"{row.influenced:,}"), "number"),
        Column[ContributorRow]("Earned", lambda row: show_amount(row.earned, classes="strong"), "number"),
    ]
    table("Contributors", columns, sorted(rows, key=lambda row: row.earned, reverse=True))


def _rejections(rows: list[RecordView]) -> None:
    if not rows:
        empty("No record was rejected.")
        return

    def content(row: RecordView) -> None:
        record_link(row.question, row.hash, "cell-title clamp")
        span(row.answer, "cell-note clamp")

    def reasons(row: RecordView) -> None:
        with Tag("ul", classes="small"):
            for verdict in row.verdicts:
                if not verdict.accept:
                    with Tag("li"):
                        span(verdict.reviewer.label, "strong")
                        span(": " + (verdict.reason or "no reason given"), "wrap-text")

    columns = [
        Column[RecordView]("Record", content, "text"),
        Column[RecordView]("Contributor", lambda row: show_party(row.contributor)),
        Column[RecordView]("Why the reviewers rejected it", reasons, "text"),
    ]
    table("Rejected records", columns, rows)


def _versions(rows: list[VersionRow]) -> None:
    if not rows:
        empty("No version is anchored yet.", "A version fixes the accepted records on the chain, for training.")
        return
    columns = [
        Column[VersionRow]("Version", lambda row: span(f"v{row.number}", "cell-title")),
        Column[VersionRow]("Records", lambda row: span(f"{row.records:,}"), "number"),
        Column[VersionRow]("Merkle root", lambda row: show_hash(row.root, "root")),
        Column[VersionRow]("Anchored", lambda row: show_time(row.time)),
        Column[VersionRow]("Transaction", lambda row: show_hash(row.transaction, "transaction")),
    ]
    table("Versions", columns, sorted(rows, key=lambda row: row.number, reverse=True))
