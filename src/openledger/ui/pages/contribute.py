"""``/datanets/{number}/contribute``: rows from a file to a signed, bonded contribution, and its review."""

from __future__ import annotations

import asyncio
import functools
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from nicegui import events, ui

from openledger.datanets import MAX_RECORDS, Record, read_rows
from openledger.node.views import DatanetView, GateFinding, RecordView, Submission
from openledger.primitives import InputError, OpenLedgerError
from openledger.ui.access import may_act
from openledger.ui.dom import Tag, button, div, heading, link, paragraph, span
from openledger.ui.formatting import plural
from openledger.ui.layout import ask_to_sign_in, page
from openledger.ui.loading import act, fetch, tell
from openledger.ui.parts import Column, badge, card, empty, error_line, page_head, table
from openledger.ui.wallet import Wallet

if TYPE_CHECKING:
    from openledger.ui.views_protocol import Views

_MOST_BYTES = 16 * 1024 * 1024
_INTRODUCTION = "Rows are signed and submitted with a bond. Reviewers judge each row; a rejected row loses its bond."
_KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")


def register(node: Views) -> None:
    """Serves the page."""

    @page(node, "/datanets/{number}/contribute", "Contribute", "datanets")
    async def contribute(number: int) -> None:
        view = await fetch(node.datanet, number)
        examples, _ = await fetch(node.records, number, "", "accepted", "", 0, 1)
        with page_head(
            f"Contribute to {view.row.name}", _INTRODUCTION, crumbs=[(view.row.name, f"/datanets/{number}")]
        ):
            pass
        with div("columns wide-left"):
            with card("Your rows"):
                wallet = Wallet.here(node)
                if may_act(node) or wallet is not None:
                    _Form(node, view, wallet)
                else:
                    ask_to_sign_in("contribute", wallet=True)
            with card("What a row looks like", "One JSON object a line, a JSON list, a CSV or a Parquet file."):
                _example(examples)


class _Form:
    """A file of rows, an account, a licence; then what the gate noticed, and the review.

    The account is one of this node's, by its name, or that of the person's own wallet.
    """

    def __init__(self, node: Views, view: DatanetView, wallet: Wallet | None) -> None:
        self._node = node
        self._wallet = wallet
        self._datanet = view.row.id
        self._records: list[Record] = []
        self._upload = ui.upload(
            label=f"Choose or drop a file of at most {MAX_RECORDS:,} rows",
            auto_upload=True,
            max_files=1,
            max_file_size=_MOST_BYTES,
            on_upload=self._read,
            on_rejected=self._refuse,
        ).props(f'accept="{",".join(_KINDS)}" flat')
        self._preview = div("stack")
        with div("fields"):
            if wallet is None:
                self._account = ui.input("Account, by its name in this node's key store").props(
                    "outlined dense maxlength=64"
                )
            self._licence = ui.input("Licence (SPDX identifier)", value=view.row.licence).props(
                "outlined dense maxlength=64"
            )
        self._submit = button("Sign and submit", "button primary")
        self._submit.on("click", self._send, args=[])
        self._outcome = div("stack", role="status")

    async def _read(self, event: events.UploadEventArguments) -> None:
        self._records = []
        self._preview.clear()
        try:
            suffix = Path(event.file.name).suffix.lower()
            if suffix not in _KINDS or event.file.size() > _MOST_BYTES:
                raise InputError(
                    f"{event.file.name} cannot be read; give {', '.join(_KINDS)} of at most {_MOST_BYTES >> 20} MiB"
                )
            self._records = await asyncio.to_thread(_records, await event.file.read(), suffix)
        except OpenLedgerError as error:
            with self._preview:
                error_line(str(error))
            return
        with self._preview:
            heading(3, f"{plural(len(self._records), 'row')} read")
            for record in self._records[:3]:
                with div("quote small"):
                    paragraph(record.question, "strong")
                    paragraph(record.answer, "clamp")

    def _refuse(self) -> None:
        self._preview.clear()
        with self._preview:
            error_line(f"that file is not taken; give {', '.join(_KINDS)} of at most {_MOST_BYTES >> 20} MiB")

    async def _send(self) -> None:
        account = self._wallet.account if self._wallet else (self._account.value or "").strip()
        self._outcome.clear()
        if not self._records or not account:
            with self._outcome:
                error_line("choose a file of rows first" if not self._records else "name the account that contributes")
            return
        licence = (self._licence.value or "").strip()
        datanet, records = self._datanet, self._records
        if self._wallet is None:
            made = await act(self._submit, self._node.contribute, datanet, account, records, licence)
        else:
            offer = functools.partial(self._node.wallets.offer, account, datanet, records, licence)
            made = await self._wallet.contribute(self._submit, offer)
        if made is None:
            return
        self._records = []
        self._upload.reset()
        self._preview.clear()
        with self._outcome:
            self._show(made)

    def _show(self, made: Submission) -> None:
        heading(3, f"Contribution {made.id} is on the chain with {plural(made.count, 'row')}")
        if made.findings:
            paragraph("The gate noticed this; it is advice to the reviewers, who decide.", "muted")
            columns = [
                Column[GateFinding]("Row", lambda row: span(f"{row.row}"), "number"),
                Column[GateFinding]("Check", lambda row: span(row.check)),
                Column[GateFinding](
                    "", lambda row: span(row.severity, f"badge {'bad' if row.severity == 'fail' else 'warn'}")
                ),
                Column[GateFinding]("What", lambda row: span(row.message, "wrap-text"), "text"),
            ]
            table("What the gate noticed", columns, made.findings)
        else:
            paragraph("The gate noticed nothing wrong.", "muted")
        if self._wallet is not None:
            with div("line"):
                span("Reviewers are drawn for it next; what becomes of it stands with your account.", "muted")
                link("Your account", "/wallet")
            return
        start = button("Have it reviewed now")

        async def review() -> None:
            row = await act(start, self._node.review, made.id)
            if row is None:
                return
            start.set_visibility(False)
            tell(f"Contribution {row.id}: {row.accepted:,} accepted, {row.rejected:,} rejected.")
            with self._outcome, div("line"):
                badge(row.state)
                span(f"{row.accepted:,} accepted, {row.rejected:,} rejected")
                link("See the records and the reasons", f"/datanets/{self._datanet}")

        start.on("click", review, args=[])


def _records(content: bytes, suffix: str) -> list[Record]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{suffix}"
        path.write_bytes(content)
        try:
            rows = list(read_rows(path))
        except InputError as error:
            raise InputError(str(error).replace(str(path), "the file")) from None
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise InputError(f"row {number} is {json.dumps(row)[:40]}; a record is a JSON object")
    if not rows:
        raise InputError("the file holds no row")
    return [Record.from_json(row) for row in rows]


def _example(examples: list[RecordView]) -> None:
    if not examples:
        empty("There is no record to show as an example yet.")
        return
    row = examples[0]
    shown = {"question": row.question, "answer": row.answer, "facts": row.facts, "source": row.source, "kind": row.kind}
    Tag("pre", json.dumps(shown, ensure_ascii=False, indent=1), "code").style(
        "white-space: pre-wrap; overflow-wrap: anywhere"
    )
