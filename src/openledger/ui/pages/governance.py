"""``/governance``: the chain's runtime parameters, proposals to change them, and votes."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from nicegui import ui

from openledger.node.views import GovernanceView, ParameterRow, Party, ProposalRow
from openledger.primitives import PPM, InputError, OpenLedgerError, parse_open
from openledger.ui.access import may_act
from openledger.ui.dom import Tag, button, div, heading, link, paragraph, span
from openledger.ui.formatting import compact_amount, exact_amount, percent, quantity, sentence
from openledger.ui.layout import ask_to_sign_in, page
from openledger.ui.loading import act, fetch, tell
from openledger.ui.parts import (
    Column,
    Region,
    Slice,
    badge,
    card,
    empty,
    error_line,
    page_head,
    show_hash,
    show_party,
    show_time,
    split_bar,
    table,
)
from openledger.ui.wallet import Wallet

if TYPE_CHECKING:
    from openledger.ui.views_protocol import Views

_PPM_PER_PERCENT = 10_000
Redraw = Callable[[], Awaitable[None]]
"""Reads governance anew and draws what has changed."""
_Proposals = tuple[list[ProposalRow], list[tuple[Party, int]]]
_REFRESH_SECONDS = 5.0


def register(node: Views) -> None:
    """Serves the page."""

    @page(node, "/governance", "Governance")
    async def governance() -> None:
        with page_head(
            "Governance", "Holders of gOPEN vote on the network's parameters. What is carried executes on the chain."
        ):
            pass
        view = await fetch(node.governance)

        async def refresh() -> None:
            with suppress(OpenLedgerError):
                show(await asyncio.to_thread(node.governance))

        show = _draw(node, view, refresh)
        show(view)
        ui.timer(_REFRESH_SECONDS, refresh, immediate=False)


def _draw(node: Views, view: GovernanceView, redraw: Redraw) -> Callable[[GovernanceView], None]:
    """Draws the page with its form; what is returned fills in the rest, again and again."""
    wallet = Wallet.here(node)
    with div("columns wide-left"):
        with div("stack"):
            heading(2, "Proposals")
            proposals = Region[_Proposals](lambda shown: _proposals(node, *shown, redraw, wallet))
        with div("stack"):
            with card("Propose a change"):
                if may_act(node):
                    _Form(node, view.parameters, redraw)
                elif wallet is not None:
                    ask_to_sign_in("propose")
                else:
                    ask_to_sign_in("vote", wallet=True)
            with card("Voting power"):
                voters = Region(_voters)
    with card(
        "Parameters", "What the chain's contracts read at every step. Only a carried vote changes them.", flush=True
    ):
        parameters = Region(_parameters)

    def show(fresh: GovernanceView) -> None:
        proposals.show((fresh.proposals, fresh.voters))
        voters.show(fresh.voters)
        parameters.show(fresh.parameters)

    return show


def _proposals(
    node: Views, rows: list[ProposalRow], voters: list[tuple[Party, int]], redraw: Redraw, wallet: Wallet | None
) -> None:
    if not rows:
        with card():
            empty("No proposal yet.", "Whoever holds enough votes may propose to change a parameter.")
    for row in sorted(rows, key=lambda row: row.created, reverse=True):
        _proposal(node, row, voters, redraw, wallet)


def _proposal(
    node: Views, row: ProposalRow, voters: list[tuple[Party, int]], redraw: Redraw, wallet: Wallet | None
) -> None:
    with card():
        with div("line titled"):
            heading(3, row.title)
            badge(row.state)
        paragraph(row.changes, "wrap-text")
        _votes(row)
        with div("facts-line small"):
            show_party(row.proposer)
            show_time(row.created)
            show_hash(row.id, "proposal id")
        if may_act(node):
            _acts(node, row, voters, redraw)
        elif wallet is not None and row.state.lower() == "active":
            _own_vote(node, row, voters, redraw, wallet)


def _votes(row: ProposalRow) -> None:
    cast = row.votes_for + row.votes_against + row.votes_abstain
    slices = [
        Slice(name, wei, _votes_of(wei), exact_amount(wei), colour)
        for name, wei, colour in (
            ("For", row.votes_for, "var(--series-1)"),
            ("Against", row.votes_against, "var(--series-5)"),
            ("Abstain", row.votes_abstain, "var(--series-6)"),
        )
    ]
    with div("votes"):
        split_bar(slices, "Votes for, against and abstaining")
        if row.quorum == 0:
            span("The quorum is fixed when the vote opens.", "muted small")
            return
        counted = row.votes_for + row.votes_abstain
        reached = counted >= row.quorum
        share = PPM if reached else counted * PPM // row.quorum
        state = "reached" if reached else f"{percent(share)} of it so far"
        with div("line spread small"):
            span(f"Quorum {_votes_of(row.quorum)}", "muted", data_tip=exact_amount(row.quorum))
            span(state if cast else "no vote yet", "muted")
        with div("quorum reached" if reached else "quorum", aria_hidden="true"):
            span("").style(f"width: {share / 10_000:.2f}%")


def _votes_of(wei: int) -> str:
    return compact_amount(wei).replace("OPEN", "gOPEN")


def _acts(node: Views, row: ProposalRow, voters: list[tuple[Party, int]], redraw: Redraw) -> None:
    state = row.state.lower()
    if state == "active" and voters:
        with div("line"):
            names = {party.address: f"{party.label} ({_votes_of(power)})" for party, power in voters}
            voter = ui.select(names, value=voters[0][0].address, label="Vote as").props("outlined dense options-dense")
            for support in ("for", "against", "abstain"):
                cast = button(support.capitalize(), "button small")

                def vote_now(support: str = support) -> bool:
                    node.vote(row.id, voter.value, support)
                    return True

                async def vote(cast: Tag = cast, vote_now: Callable[[], bool] = vote_now) -> None:
                    if await act(cast, vote_now):
                        tell("The vote is on the chain.")
                        await redraw()

                cast.on("click", vote, args=[])
    if state in {"succeeded", "queued"}:
        go = button("Queue it" if state == "succeeded" else "Execute it", "button small primary")

        async def execute() -> None:
            state = await act(go, node.execute, row.id)
            if state is not None:
                tell(f"The proposal is {state}.")
                await redraw()

        go.on("click", execute, args=[])


def _own_vote(node: Views, row: ProposalRow, voters: list[tuple[Party, int]], redraw: Redraw, wallet: Wallet) -> None:
    power = next((power for party, power in voters if party.address == wallet.account), 0)
    if not power:
        with div("line small"):
            span("Your account has no votes.", "muted")
            link("Wrap OPEN and delegate it", "/wallet")
        return
    with div("line"):
        span(f"Vote with your {_votes_of(power)}", data_tip=exact_amount(power))
        for support in ("for", "against", "abstain"):
            cast = button(support.capitalize(), "button small")

            async def vote(cast: Tag = cast, support: str = support) -> None:
                step = functools.partial(node.wallets.vote, wallet.account, row.id, support)
                await wallet.do(cast, step, "The vote is on the chain.", redraw)

            cast.on("click", vote, args=[])


class _Form:
    """A proposal to set one parameter, in the unit a person reads: percent, OPEN, seconds."""

    def __init__(self, node: Views, parameters: list[ParameterRow], redraw: Redraw) -> None:
        self._node, self._redraw = node, redraw
        self._rows = {row.key: row for row in parameters}
        self._key = ui.select(list(self._rows), label="Parameter", with_input=True).props(
            "outlined dense options-dense"
        )
        self._value = ui.input("New value").props("outlined dense")
        self._why = ui.input("Why").props("outlined dense maxlength=500")
        self._note = paragraph("", "field-note")
        self._problem = div()
        self._send = button("Propose", "button primary")
        self._send.on("click", self._submit, args=[])
        self._key.on_value_change(lambda _: self._explain())
        for field in (self._key, self._value, self._why):
            field.style("width: 100%")

    def _explain(self) -> None:
        row = self._rows.get(self._key.value)
        if row is None:
            self._note.set_text("")
            return
        self._value.props["label"] = f"New value in {_unit(row.unit)}"
        now, least, most = (quantity(value, row.unit) for value in (row.value, row.minimum, row.maximum))
        self._note.set_text(f"{sentence(row.description)} Now {now}; it may be {least} to {most}.")

    async def _submit(self) -> None:
        self._problem.clear()
        try:
            row = self._rows.get(self._key.value)
            if row is None:
                raise InputError("no parameter is chosen; choose the one to change")
            value = read_value(self._value.value or "", row.unit)
            if not row.minimum <= value <= row.maximum:
                least, most = quantity(row.minimum, row.unit), quantity(row.maximum, row.unit)
                raise InputError(f"{quantity(value, row.unit)} is out of bounds; {row.key} may be {least} to {most}")
        except InputError as error:
            with self._problem:
                error_line(str(error))
            return
        made = await act(self._send, self._node.propose, row.key, value, (self._why.value or "").strip())
        if made is not None:
            tell("The proposal is on the chain.")
            await self._redraw()


def _unit(unit: str) -> str:
    return {"ppm": "percent", "wei": "OPEN", "s": "seconds", "switch": "1 (on) or 0 (off)"}.get(unit, unit or "units")


def read_value(text: str, unit: str) -> int:
    """A parameter's value as a person writes it (percent for ppm, OPEN for wei) in the chain's integer unit.

    Raises:
        InputError: not such a number, or finer than the unit.
    """
    plain = text.strip().rstrip("%").strip()
    if unit == "wei":
        return parse_open(plain)
    scale = _PPM_PER_PERCENT if unit == "ppm" else 1
    wei = parse_open(plain) * scale
    if wei % 10**18:
        raise InputError(f"{text!r} is too fine; the smallest step is {'0.0001 percent' if unit == 'ppm' else '1'}")
    return wei // 10**18


def _voters(voters: list[tuple[Party, int]]) -> None:
    if not voters:
        empty("Nobody has voting power yet.", "Wrap OPEN as gOPEN and delegate it, to yourself or another.")
        return
    with Tag("ul", classes="shares"):
        for party, power in sorted(voters, key=lambda voter: voter[1], reverse=True):
            with Tag("li", classes="line spread"):
                show_party(party)
                span(_votes_of(power), "amount", data_tip=exact_amount(power))


def _parameters(rows: list[ParameterRow]) -> None:
    if not rows:
        empty("No parameter is known.")
        return

    def name(row: ParameterRow) -> None:
        span(row.key, "cell-title mono")
        paragraph(sentence(row.description), "cell-note")

    def bounds(row: ParameterRow) -> None:
        least, most = quantity(row.minimum, row.unit), quantity(row.maximum, row.unit)
        width = row.maximum - row.minimum
        at = (row.value - row.minimum) * 100 / width if width else 0.0
        with div("bounds"):
            span(least, "muted small")
            with div("range", role="img", aria_label=f"between {least} and {most}"):
                span("").style(f"left: {min(max(at, 0.0), 100.0):.2f}%")
            span(most, "muted small")

    def value(row: ParameterRow) -> None:
        exact = exact_amount(row.value) if row.unit == "wei" else f"{row.value:,} {row.unit}"
        span(quantity(row.value, row.unit), "strong", data_tip=exact)

    columns = [
        Column[ParameterRow]("Parameter", name, "text"),
        Column[ParameterRow]("Value", value, "number wide"),
        Column[ParameterRow]("Bounds", bounds, "wide"),
    ]
    table("Runtime parameters", columns, rows)
