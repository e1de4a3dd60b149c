"""``/payouts``: what each account has earned in each role, claims, and the batches on the chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openledger.node.views import BatchRow, EarningsRow, PayoutsView
from openledger.ui.access import may_act
from openledger.ui.dom import Tag, button, div, span
from openledger.ui.formatting import amount, exact_amount, percent
from openledger.ui.layout import ask_to_sign_in, page
from openledger.ui.loading import act, fetch, refill, tell
from openledger.ui.parts import (
    ROLES,
    Column,
    badge,
    card,
    empty,
    figure,
    page_head,
    role_colour,
    show_amount,
    show_hash,
    show_party,
    table,
)
from openledger.ui.wallet import Wallet

if TYPE_CHECKING:
    from openledger.ui.views_protocol import Views


def register(node: Views) -> None:
    """Serves the page."""

    @page(node, "/payouts", "Payouts")
    async def payouts() -> None:
        with page_head(
            "Payouts",
            "Every fee is split in whole wei among those who made the answer. Earnings add up under one "
            "root on the chain; each account claims its own.",
        ):
            pass
        view = await fetch(node.payouts)
        with div("stack") as body:
            _draw(node, view, body)


def _draw(node: Views, view: PayoutsView, body: Tag) -> None:
    with div("figures"):
        figure("Fees collected", amount(view.total_fees), tip=exact_amount(view.total_fees))
        figure("Paid out", amount(view.total_paid), tip=exact_amount(view.total_paid))
        figure("Dust", amount(view.dust), "left by rounding down", tip=exact_amount(view.dust))
        with div("figure"):
            span("Payout root", "figure-name")
            with div("line"):
                show_hash(view.root, "payout root")
                if view.root_state:
                    badge(view.root_state)
    wallet = Wallet.here(node)
    with card("Earnings", flush=True):
        if may_act(node) or wallet is not None:
            _earnings(node, view, body, wallet)
        else:
            with div().style("padding: 4px 20px 12px"):
                ask_to_sign_in("claim", wallet=True)
            _earnings(node, view, body, wallet)
    with card("Batches on the chain", flush=True):
        _batches(view.batches)


def _earnings(node: Views, view: PayoutsView, body: Tag, wallet: Wallet | None) -> None:
    if not view.earnings:
        empty("Nobody has earned yet.", "Earnings appear when a batch of receipts is on the chain.")
        return

    def roles(row: EarningsRow) -> None:
        known = [role for role in ROLES if row.by_role.get(role)]
        with Tag("ul", classes="line small"):
            for role in [*known, *sorted(set(row.by_role) - set(ROLES))]:
                if wei := row.by_role.get(role, 0):
                    with Tag("li", classes="line", data_tip=exact_amount(wei)).style("gap: 6px"):
                        span("", "role-dot", aria_hidden="true").style(f"background: {role_colour(role)}")
                        span(role, "muted")
                        span(amount(wei), "amount")

    def claim(row: EarningsRow) -> None:
        due = row.earned - row.claimed
        if due <= 0:
            span("all claimed", "muted small")
            return
        if wallet is not None and row.party.address != wallet.account:
            return
        take = button("Claim", "button small", aria_label=f"Claim for {row.party.label}", data_tip=exact_amount(due))

        async def claim_now() -> None:
            if wallet is None:
                claimed = await act(take, node.claim, row.party.address)
            else:
                sent = await wallet.take(take, lambda: node.wallets.claim(row.party.address))
                claimed = None if sent is None else node.wallets.claimed(sent)
            if claimed is None:
                return
            tell(f"{row.party.label} claimed {amount(claimed)}.")
            fresh = await refill(body, node.payouts)
            with body:
                _draw(node, fresh, body)

        take.on("click", claim_now, args=[])

    columns = [
        Column[EarningsRow]("Account", lambda row: show_party(row.party, role=True), "wide"),
        Column[EarningsRow]("Earned as", roles, "text"),
        Column[EarningsRow]("Earned", lambda row: show_amount(row.earned, classes="strong"), "number"),
        Column[EarningsRow]("Claimed", lambda row: show_amount(row.claimed), "number"),
        Column[EarningsRow]("Balance", lambda row: show_amount(row.balance, compact=True), "number"),
    ]
    if may_act(node) or wallet is not None:
        columns.append(Column("Claim", claim))
    table("Earnings by account", columns, sorted(view.earnings, key=lambda row: row.earned, reverse=True))


def _batches(rows: list[BatchRow]) -> None:
    if not rows:
        empty("No batch is on the chain yet.", "Receipts are posted together, so that each costs little gas.")
        return

    def attested(row: BatchRow) -> None:
        with div("line"):
            for party in row.attested_by:
                show_party(party)
            if not row.attested_by:
                span("nobody yet", "muted")

    def split(row: BatchRow) -> None:
        text = ", ".join(f"{role} {percent(ppm)}" for role, ppm in row.split_ppm.items())
        with div("bar", role="img", aria_label=f"Split: {text}", data_tip=text).style("min-width: 120px"):
            for role, ppm in row.split_ppm.items():
                name = {"data": "contributor", "curators": "curator", "validators": "validator"}.get(role, role)
                span("").style(f"width: {ppm / 10_000:.4f}%; background: {role_colour(name)}")

    columns = [
        Column[BatchRow]("Batch", lambda row: span(f"#{row.id}", "cell-title")),
        Column[BatchRow]("Receipts", lambda row: span(f"{row.count:,}"), "number"),
        Column[BatchRow]("Fees", lambda row: show_amount(row.fees), "number"),
        Column[BatchRow]("Gas per answer", lambda row: span(f"{row.gas_per_inference:,.0f}"), "number"),
        Column[BatchRow]("Split", split),
        Column[BatchRow]("Attested by", attested),
        Column[BatchRow]("Root", lambda row: show_hash(row.root, "batch root")),
        Column[BatchRow]("Transaction", lambda row: show_hash(row.transaction, "transaction")),
    ]
    table("Batches", columns, rows)
