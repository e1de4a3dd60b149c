"""The chat with a model: the answer as it is written, then its receipt and who shaped it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from nicegui import ui

from openledger.node.views import AgentRunRow, AgentStepRow, ReceiptRow
from openledger.primitives import OpenLedgerError
from openledger.ui.dom import Tag, button, div, link, paragraph, span
from openledger.ui.icons import icon
from openledger.ui.loading import UNEXPECTED, stream
from openledger.ui.pages.receipts import contributor_shares, receipt_link
from openledger.ui.parts import error_line, show_amount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openledger.ui.views_protocol import Views

_log = logging.getLogger(__name__)
_LONGEST = 4_000
"""Characters of one question."""
_LOOKED_UP = 3
"""How many records are looked up where a person asks for it."""


class Chat:
    """A chat with one model, drawn where it is made. Each question is answered in the light of those before it.

    Args:
        node: answers.
        model_name: the model's name.
        account: the account whose deposit pays, by its own wallet; empty for this node's consumer account.
    """

    hint = "Ask something. The receipt and who shaped the answer follow it."

    def __init__(self, node: Views, model_name: str, account: str = "") -> None:
        self._node = node
        self._account = account
        self._model_name = model_name
        self._messages: list[dict[str, str]] = []
        with div("chat"):
            self._log = div("chat-log", role="log", aria_label=f"Conversation with {model_name}", tabindex="0")
            with self._log:
                self._hint = paragraph(self.hint, "muted")
            with div("chat-form"):
                self._question = (
                    ui.input("Your question")
                    .props(f"outlined dense maxlength={_LONGEST} autocomplete=off")
                    .on("keydown.enter", self._ask, args=[])
                )
                self._send = button(classes="button primary", aria_label="Send the question")
                with self._send:
                    icon("send")
                    span("Send")
                self._send.on("click", self._ask, args=[])
            self._more()

    def _more(self) -> None:
        """What else can be chosen for a question."""
        self._look_up = ui.checkbox(f"Look up {_LOOKED_UP} records for it").props("dense")
        self._publish = ui.checkbox("Publish question and answer, so that anyone can recompute the receipt")
        self._publish.props("dense").set_visibility(bool(self._account))

    async def _ask(self) -> None:
        question = (self._question.value or "").strip()
        if not question or self._send.props.get("aria-busy") == "true":
            return
        self._send.props["aria-busy"] = "true"
        self._question.set_value("")
        self._hint.set_visibility(False)
        with self._log:
            div("bubble mine", question)
            with div("chat-turn") as turn:
                answer = div("bubble theirs waiting")
        self._scroll()
        try:
            await self._answer(question, turn, answer)
        except OpenLedgerError as error:
            self._fail(turn, answer, str(error))
        except Exception:
            _log.exception("the chat on the page failed")
            self._fail(turn, answer, UNEXPECTED)
        finally:
            if not self._send.is_deleted:
                answer.classes(remove="waiting")
                self._send.props["aria-busy"] = "false"
                self._scroll()

    async def _answer(self, question: str, turn: Tag, answer: Tag) -> None:
        messages = [*self._messages, {"role": "user", "content": question}]
        text, top_k = "", _LOOKED_UP if self._look_up.value else 0
        receipt = None
        publish = bool(self._publish.value)

        def ask() -> Iterator[str | ReceiptRow]:
            if self._account:
                return self._node.wallets.chat(self._account, self._model_name, messages, top_k, publish)
            return self._node.chat(self._model_name, messages, top_k)

        async for piece in stream(ask):
            if isinstance(piece, ReceiptRow):
                receipt = piece
            else:
                text += piece
                answer.set_text(text)
                self._scroll()
        self._messages = [*messages, {"role": "assistant", "content": text}]
        answer.classes(remove="waiting")
        if receipt is None:
            return
        with turn, div("chat-proof"):
            with div("line spread"):
                receipt_link("See the receipt", receipt.id, "strong")
                with div("line"):
                    span("Fee", "muted")
                    show_amount(receipt.fee)
            shares = div()
        view = await asyncio.to_thread(self._node.receipt, receipt.id, self._account)
        with shares:
            contributor_shares(view.contributors, view.row.residual_ppm)

    def _fail(self, turn: Tag, answer: Tag, message: str) -> None:
        if turn.is_deleted:
            return
        answer.set_visibility(bool(answer.text))
        with turn:
            error_line(message)

    def _scroll(self) -> None:
        ui.run_javascript(
            f"{{const log = document.getElementById('{self._log.html_id}'); if (log) log.scrollTop = log.scrollHeight;}}"
        )


class AgentChat(Chat):
    """A chat with one agent: its steps as it takes them, its answer, then the run with its receipts."""

    hint = "Ask something. Every step of the run is shown, and the run lists its receipts."

    def __init__(self, node: Views, number: int, name: str) -> None:
        self._number = number
        super().__init__(node, name)

    def _more(self) -> None:
        """Nothing: what is looked up is the definition's."""

    async def _answer(self, question: str, turn: Tag, answer: Tag) -> None:
        messages = [*self._messages, {"role": "user", "content": question}]
        text, run = "", None
        with turn:
            steps = Tag("ol", classes="chat-steps small")
        steps.move(turn, 0)
        async for event in stream(lambda: self._node.chat_agent(self._number, messages)):
            if isinstance(event, AgentRunRow):
                run = event
            elif isinstance(event, AgentStepRow):
                if event.kind == "tool" or event.name:
                    with steps:
                        step_line(event)
            else:
                text += event
                answer.set_text(text)
            self._scroll()
        self._messages = [*messages, {"role": "assistant", "content": text}]
        answer.classes(remove="waiting")
        if run is None:
            return
        with turn, div("chat-proof"), div("line spread"):
            link("See the run and its receipts", f"/agent-runs/{run.number}", "strong")
            with div("line"):
                span("Fees", "muted")
                show_amount(run.fee)
                if run.price:
                    span("Price", "muted")
                    show_amount(run.price)
        if run.unpaid:
            with turn:
                error_line(f"The agent's price was not paid: {run.unpaid}")


def step_line(step: AgentStepRow) -> None:
    """One step as an item of a list: a tool that was called with its result, or a call that the model wrote."""
    with Tag("li", classes="failed" if step.failed else ""):
        if step.kind == "tool":
            span(step.name, "strong")
            span(f" {step.arguments}", "muted")
            paragraph(step.result, "chat-result")
        else:
            span("The model calls ", "muted")
            span(step.name, "strong")
