"""Acts with a person's own wallet: the node prepares a step, the wallet in the browser signs and sends it, the node checks it.

What the browser answers is not trusted: a hash is looked up on the chain, and must be that of the prepared transaction.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from nicegui import ui

from openledger.node.views import Submission
from openledger.primitives import OpenLedgerError, RevertError
from openledger.ui.access import wallet_account, wallet_network
from openledger.ui.loading import attempt, tell

if TYPE_CHECKING:
    from web3.types import TxReceipt

    from openledger.node.wallets import Offer, Step
    from openledger.ui.dom import Tag
    from openledger.ui.views_protocol import Views

_PATIENCE = 600.0
"""Seconds that a person has to answer the wallet."""


class WalletRefusal(OpenLedgerError):
    """The wallet, or the person, did not do it: nothing was signed or sent."""


class Unanswered(OpenLedgerError):
    """The browser gave no answer, so that it is not known what the wallet did."""


class Wallet:
    """The wallet of the account that signed in on the current page."""

    def __init__(self, node: Views, account: str, network: dict[str, Any]) -> None:
        self.account = account
        self.network = network
        self._node = node

    @classmethod
    def here(cls, node: Views) -> Wallet | None:
        """The wallet that the current page's person signed in with; None for everybody else.

        Raises:
            ConfigurationError: the pages were opened under a name that wallets must not trust.
        """
        account = wallet_account(node)
        return None if account is None else cls(node, account, wallet_network(node))

    async def take(self, trigger: Tag, prepare: Callable[[], Step]) -> TxReceipt | None:
        """The receipt of the step once it is in its block; None where it failed or was declined, which is told."""

        async def work() -> TxReceipt:
            return await self._send(await asyncio.to_thread(prepare))

        return await attempt(trigger, work)

    async def do(
        self, trigger: Tag, prepare: Callable[[], Step], done: str, redraw: Callable[[], Awaitable[None]]
    ) -> None:
        """Takes a step; then what it changed is drawn anew, the button included, and it is said that it is ``done``."""
        client = ui.context.client
        if await self.take(trigger, prepare) is None:
            return
        await redraw()
        with client:
            tell(done)

    async def contribute(self, trigger: Tag, offer: Callable[[], Offer]) -> Submission | None:
        """Has an offer signed and submitted; None where that failed or was declined. Then its records are not kept either."""
        desk = self._node.wallets

        async def work() -> Submission:
            made = await asyncio.to_thread(offer)
            signature = await self._ask(
                "eth_signTypedData_v4", [self.account, json.dumps(made.typed_data)], made.sentence
            )
            step = await asyncio.to_thread(desk.submission, made, signature)
            fresh = await asyncio.to_thread(desk.publish, made)
            try:
                receipt = await self._send(step)
            except (WalletRefusal, RevertError):
                if fresh:
                    await asyncio.to_thread(desk.unpublish, made)
                raise
            return await asyncio.to_thread(desk.submitted, made, receipt)

        return await attempt(trigger, work)

    async def _send(self, step: Step) -> TxReceipt:
        name = await self._ask("eth_sendTransaction", [step.transaction.to_json()], step.sentence)
        return await asyncio.to_thread(self._node.wallets.finish, step, name)

    async def _ask(self, method: str, parameters: list[Any], sentence: str) -> str:
        """What the wallet answers to one question, a hex string."""
        question = ", ".join(json.dumps(part) for part in (self.account, self.network, method, parameters))
        client = ui.context.client
        with client:
            note = ui.notification(
                f"Look at your wallet. It asks you to {sentence}.",
                type="ongoing",
                spinner=True,
                timeout=None,
                position="bottom",
                multi_line=True,
            )
        try:
            answer = await client.run_javascript(f"openledgerWallet.ask({question})", timeout=_PATIENCE)
        except TimeoutError:
            raise Unanswered(
                "the wallet gave no answer in time; look there, and on this page anew, whether it was done"
            ) from None
        finally:
            note.dismiss()
        if isinstance(answer, dict) and isinstance(answer.get("value"), str):
            return str(answer["value"])
        problem = answer.get("error") if isinstance(answer, dict) else None
        raise WalletRefusal(str(problem)[:400] if problem else "the wallet's answer cannot be used; try again")
