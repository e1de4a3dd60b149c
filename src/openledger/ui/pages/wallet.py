"""``/wallet``: what the account of one's own wallet holds, is owed and has done, and what it can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nicegui import ui

from openledger.node.views import AccountView, ContributionRow, ReceiptRow, StakeRow, VerdictRow
from openledger.primitives import parse_open
from openledger.ui.access import SIGN_IN
from openledger.ui.dom import Tag, button, div, link, paragraph, span
from openledger.ui.formatting import compact_amount, exact_amount
from openledger.ui.funds import Funds
from openledger.ui.layout import page
from openledger.ui.loading import fetch, refill
from openledger.ui.pages.receipts import receipt_link
from openledger.ui.parts import (
    Column,
    badge,
    card,
    copy_button,
    empty,
    figure,
    notice,
    page_head,
    show_amount,
    show_hash,
    show_party,
    show_time,
    table,
)
from openledger.ui.wallet import Wallet

if TYPE_CHECKING:
    from openledger.node.wallets import Step
    from openledger.ui.views_protocol import Views

ROLES = {
    "validator": "A validator answers for the receipts in its samples with its stake.",
    "host": "A host answers for what it served with its stake.",
    "operator": "An operator answers for what it runs with its stake.",
    "agent": "An agent answers for what it did with its stake.",
}


def register(node: Views) -> None:
    """Serves the page."""

    @page(node, "/wallet", "Your account", "wallet")
    async def account() -> None:
        wallet = Wallet.here(node)
        if wallet is None:
            with page_head("Your account"):
                pass
            with notice("To see and use your account, sign in with your own wallet."):
                link("Sign in", SIGN_IN)
            return
        with page_head("Your account", "You act with your own wallet: this node prepares, the wallet signs."):
            pass
        with div("facts-line"):
            show_hash(wallet.account, "address")
            span(f"chain {node.chain_id}")
        view = await fetch(node.wallets.view, wallet.account)
        with div("stack") as body:
            _Desk(node, wallet, body).draw(view)


class _Desk:
    """The page's body, drawn anew after each step."""

    def __init__(self, node: Views, wallet: Wallet, body: Tag) -> None:
        self._node, self._wallet, self._body = node, wallet, body

    def draw(self, view: AccountView) -> None:
        """Everything of one account."""
        with div("figures"):
            for name, wei, note in (
                ("Balance", view.balance, "pays gas and bonds"),
                ("Deposit", view.funds.deposit, "pays your questions"),
                ("To claim", max(0, view.earned - view.claimed), "earned and not claimed"),
            ):
                figure(name, compact_amount(wei), note, tip=exact_amount(wei))
            figure("gOPEN", _gopen(view.gopen), "has the votes", tip=exact_amount(view.gopen))
            figure("Votes", _gopen(view.votes), "given to you", tip=exact_amount(view.votes))
        with div("columns wide-left"):
            with div("stack"):
                self._earnings(view)
                with card("Contributions", flush=True):
                    _contributions(view.contributions)
                with card("Answers you paid for", "What you did not publish is shown to you alone.", flush=True):
                    _receipts(view.receipts)
                if view.reviews:
                    with card("Reviews", flush=True):
                        _reviews(view.reviews)
            with div("stack"):
                with card("Asking models", "Questions are paid from your deposit, as far as you let this node."):
                    Funds(self._node, self._wallet, view.funds, self._redraw)
                self._votes(view)
                self._stakes(view)
                _network(self._wallet)

    async def _take(self, trigger: Tag, prepare: Callable[[], Step], done: str) -> None:
        await self._wallet.do(trigger, prepare, done, self._redraw)

    async def _redraw(self) -> None:
        fresh = await refill(self._body, self._node.wallets.view, self._wallet.account)
        with self._body:
            self.draw(fresh)

    def _amount(self, label: str, verb: str, prepare: Callable[[int], Step], done: str, value: str = "") -> None:
        with div("line"):
            field = ui.input(label, value=value).props("outlined dense inputmode=decimal").style("width: 150px")
            go = button(verb, "button small")
            go.on(
                "click", lambda: self._take(go, lambda: prepare(parse_open((field.value or "").strip())), done), args=[]
            )

    def _press(self, verb: str, prepare: Callable[[], Step], done: str, classes: str = "button small") -> None:
        go = button(verb, classes)
        go.on("click", lambda: self._take(go, prepare, done), args=[])

    def _earnings(self, view: AccountView) -> None:
        desk, account = self._node.wallets, self._wallet.account
        with card("Earnings"):
            due = view.earned - view.claimed
            if due > 0:
                with div("line spread"):
                    with div("line"):
                        span("You can claim")
                        show_amount(due, classes="strong")
                    self._press("Claim", lambda: desk.claim(account), "Claimed.", "button primary")
            elif view.earned:
                with div("line"):
                    span("You have claimed all of", "muted")
                    show_amount(view.earned)
            else:
                empty("Nothing earned yet.", "Records that shape an answer, or work for the network, earn OPEN.")

    def _votes(self, view: AccountView) -> None:
        desk, account = self._node.wallets, self._wallet.account
        with card(
            "Votes", "gOPEN is OPEN that can vote. It has no vote until it is given to somebody, such as yourself."
        ):
            with div("line"):
                span("Your votes are given to", "muted")
                show_party(view.delegate)
            self._amount("Wrap OPEN", "Wrap", lambda wei: desk.wrap(account, wei), "Wrapped.")
            if view.gopen:
                self._amount("Unwrap gOPEN", "Unwrap", lambda wei: desk.unwrap(account, wei), "Unwrapped.")
            with div("line"):
                whom = (
                    ui.input("To address", value=account).props("outlined dense maxlength=42").style("flex: 1 1 100%")
                )
                give = button("Delegate", "button small")
                give.on(
                    "click",
                    lambda: self._take(
                        give, lambda: desk.delegate(account, (whom.value or "").strip()), "The votes are given."
                    ),
                    args=[],
                )
            link("See the proposals", "/governance", "small")

    def _stakes(self, view: AccountView) -> None:
        desk, account = self._node.wallets, self._wallet.account
        with card("Stake", "OPEN at risk for work in a role. The work itself is done by programs, not on these pages."):
            for row in view.stakes:
                self._stake(row)
            role = ui.select({name: name.capitalize() for name in ROLES}, value="validator", label="Role")
            role.props("outlined dense options-dense").style("width: 100%")
            duty = paragraph(ROLES["validator"], "field-note")
            role.on_value_change(lambda: duty.set_text(ROLES[role.value]))
            self._amount("Stake OPEN", "Stake", lambda wei: desk.stake(account, role.value, wei), "Staked.")

    def _stake(self, row: StakeRow) -> None:
        desk, account = self._node.wallets, self._wallet.account
        with div("line spread"):
            span(row.role.capitalize(), "strong")
            with div("line"):
                show_amount(row.staked)
                badge("active" if row.active else "not active")
        if row.leaving:
            with div("line spread small"):
                with div("line"):
                    show_amount(row.leaving)
                    span("leaves", "muted")
                    show_time(row.release)
                self._press("Withdraw", lambda: desk.withdraw_stake(account, row.role), "Withdrawn.")
        if row.staked:
            self._amount("Unstake OPEN", "Unstake", lambda wei: desk.unstake(account, row.role, wei), "Asked back.")


def _gopen(wei: int) -> str:
    return compact_amount(wei).replace("OPEN", "gOPEN")


def _contributions(rows: list[tuple[int, ContributionRow]]) -> None:
    if not rows:
        empty("You have contributed nothing yet.", "Open a Datanet and choose Contribute.")
        return
    columns = [
        Column[tuple[int, ContributionRow]]("", lambda row: span(f"#{row[1].id}", "cell-title")),
        Column[tuple[int, ContributionRow]]("Datanet", lambda row: link(f"{row[0]}", f"/datanets/{row[0]}")),
        Column[tuple[int, ContributionRow]]("Rows", lambda row: span(f"{row[1].count:,}"), "number"),
        Column[tuple[int, ContributionRow]]("Accepted", lambda row: span(f"{row[1].accepted:,}"), "number"),
        Column[tuple[int, ContributionRow]]("Rejected", lambda row: span(f"{row[1].rejected:,}"), "number"),
        Column[tuple[int, ContributionRow]]("State", lambda row: badge(row[1].state)),
    ]
    table("Your contributions", columns, rows)


def _receipts(rows: list[ReceiptRow]) -> None:
    if not rows:
        empty("You have asked nothing yet.", "Deposit OPEN, allow this node to spend some, and open a model.")
        return
    columns = [
        Column[ReceiptRow]("Question", lambda row: receipt_link(row.prompt, row.id, "clamp"), "text"),
        Column[ReceiptRow]("Model", lambda row: span(row.model_name)),
        Column[ReceiptRow]("Fee", lambda row: show_amount(row.fee), "number"),
        Column[ReceiptRow]("When", lambda row: show_time(row.time)),
        Column[ReceiptRow]("State", lambda row: badge(row.status)),
    ]
    table("Answers you paid for", columns, rows)


def _reviews(rows: list[tuple[int, VerdictRow]]) -> None:
    columns = [
        Column[tuple[int, VerdictRow]]("Contribution", lambda row: span(f"#{row[0]}", "cell-title")),
        Column[tuple[int, VerdictRow]]("Verdict", lambda row: badge("accepted" if row[1].accept else "rejected")),
        Column[tuple[int, VerdictRow]]("Reason", lambda row: span(row[1].reason, "wrap-text"), "text"),
    ]
    table("Your reviews", columns, rows)


def _network(wallet: Wallet) -> None:
    with card("This chain in your wallet"), Tag("dl", classes="pairs small"):
        for name, value in (
            ("RPC address", str(wallet.network["rpcUrl"])),
            ("Chain id", str(wallet.network["chainId"])),
        ):
            Tag("dt", name)
            with Tag("dd"):
                span(value)
                copy_button(value, name)
