"""What pays the questions of a person with their own wallet: the deposit, and how much of it this node may spend."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from nicegui import ui

from openledger.primitives import parse_open
from openledger.ui.dom import Tag, button, div
from openledger.ui.formatting import exact_time
from openledger.ui.loading import refill
from openledger.ui.parts import show_amount

if TYPE_CHECKING:
    from openledger.node.views import FundsView
    from openledger.node.wallets import Step
    from openledger.ui.views_protocol import Views
    from openledger.ui.wallet import Wallet


class Funds:
    """Deposit and permission with what changes them; drawn where it is made, and anew after each change.

    Args:
        node: prepares the steps.
        wallet: takes them.
        view: how it stands.
        changed: called after a step; without it this part alone is drawn anew, and taking OPEN back is left to the account's
            own page.
    """

    def __init__(
        self, node: Views, wallet: Wallet, view: FundsView, changed: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._node, self._wallet = node, wallet
        self._changed = changed or self._redraw
        self._whole = changed is not None
        self._body = div("stack funds")
        self._draw(view)

    def _draw(self, view: FundsView) -> None:
        desk, account, session = self._node.wallets, self._wallet.account, view.session
        with self._body:
            with Tag("dl", classes="pairs"):
                Tag("dt", "Deposit")
                with Tag("dd"):
                    show_amount(view.deposit)
                Tag("dt", "This node may spend")
                with Tag("dd"):
                    show_amount(min(session.left, view.deposit))
                if session.expiry:
                    Tag("dt", "Until")
                    Tag("dd", exact_time(session.expiry))
            with div("line"):
                more = ui.input("Deposit OPEN").props("outlined dense inputmode=decimal").style("width: 130px")
                self._press("Deposit", lambda: desk.deposit(account, _wei(more.value)), "Deposited.")
            with div("line"):
                cap = ui.input("Spend OPEN", value="10").props("outlined dense inputmode=decimal").style("width: 130px")
                days = ui.number("Days", value=30, min=1, max=3650, precision=0).props("outlined dense")
                days.style("width: 90px")
                self._press(
                    "Allow",
                    lambda: desk.allow(account, _wei(cap.value), float(days.value or 0)),
                    "This node may pay your questions.",
                )
                if session.expiry:
                    self._press("End", lambda: desk.disallow(account), "The permission ends after the delay.")
            if view.deposit and self._whole:
                with div("line"):
                    less = ui.input("Ask back OPEN").props("outlined dense inputmode=decimal").style("width: 150px")
                    self._press("Ask back", lambda: desk.take_back(account, _wei(less.value)), "Asked back.")
                    self._press("Withdraw what was asked back", lambda: desk.withdraw_deposit(account), "Withdrawn.")

    def _press(self, verb: str, prepare: Callable[[], Step], done: str) -> None:
        go = button(verb, "button small")

        go.on("click", lambda: self._wallet.do(go, prepare, done, self._changed), args=[])

    async def _redraw(self) -> None:
        self._draw(await refill(self._body, self._node.wallets.funds, self._wallet.account))


def _wei(text: str | None) -> int:
    return parse_open((text or "").strip())
