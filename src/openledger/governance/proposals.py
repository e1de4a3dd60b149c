"""Votes on runtime parameters and models: wrap, delegate, propose, vote, queue, execute, and read what is proposed.

A proposal passes through pending → active → succeeded → queued → executed (or defeated, canceled, expired). Between the
steps time must pass; :func:`carry_out` is given a ``wait`` for it: sleeping on a live network, moving the clock in a trial.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from eth_account.signers.local import LocalAccount
from web3.contract.contract import ContractFunction
from web3.exceptions import Web3Exception
from web3.logs import DISCARD

from openledger.chain import Chain, parameter_key
from openledger.governance.parameters import CONTRACT as PARAMETERS
from openledger.governance.parameters import Unit, decode_key, parameter, show
from openledger.primitives import InputError, NotFoundError, RevertError, format_open, keccak, to_hex

GOVERNOR = "OpenLedgerGovernor"
TOKEN = "GOPEN"  # noqa: S105 - the name of a contract
_SHOWN_CALLDATA = 20


class ProposalState(IntEnum):
    """Where a proposal stands; the numbers are the Governor's."""

    PENDING = 0
    ACTIVE = 1
    CANCELED = 2
    DEFEATED = 3
    SUCCEEDED = 4
    QUEUED = 5
    EXPIRED = 6
    EXECUTED = 7


class Support(IntEnum):
    """How a vote is cast; the numbers are the Governor's."""

    AGAINST = 0
    FOR = 1
    ABSTAIN = 2


@dataclass(frozen=True)
class Action:
    """One call that a proposal makes when it is executed: target, wei, and calldata; ``account`` says it in words."""

    target: str
    value: int
    calldata: bytes
    account: str


@dataclass(frozen=True)
class Proposal:
    """One proposal. Votes and quorum in wei of gOPEN, times in Unix seconds.

    Attributes:
        number: the proposal's id.
        proposer: who made it.
        description: as written.
        actions: what it does.
        state: where it stands.
        votes_for, votes_against, votes_abstain: cast so far.
        quorum: votes for and abstaining that it needs; 0 while voting has not begun.
        created: time of the proposal.
        vote_start, vote_end: the voting period.
        eta: when it can be executed once queued; 0 before.
    """

    number: int
    proposer: str
    description: str
    actions: tuple[Action, ...]
    state: ProposalState
    votes_for: int
    votes_against: int
    votes_abstain: int
    quorum: int
    created: int
    vote_start: int
    vote_end: int
    eta: int

    @property
    def title(self) -> str:
        """The description's first line without heading marks."""
        return (
            self.description.strip().splitlines()[0].lstrip("# ").strip() if self.description.strip() else "(no title)"
        )

    @property
    def changes(self) -> str:
        """What it changes, in words."""
        return "; ".join(action.account for action in self.actions)


@dataclass(frozen=True)
class VotingPower:
    """One account's standing in gOPEN, in wei; ``votes`` are its own and delegated ones, 0 until somebody delegates."""

    account: str
    balance: int
    votes: int
    delegate: str


def proposal_number(text: str) -> int:
    """A proposal's id from its decimal text.

    Raises:
        InputError: it is no number.
    """
    if not text.isdecimal():
        raise InputError(f"{text!r} is no proposal's id; it is the number that `openledger gov list --json` shows")
    return int(text)


def vote_call(chain: Chain, number: int, support: Support, reason: str = "") -> ContractFunction:
    """The call that casts the caller's votes."""
    return chain.contract(GOVERNOR).functions.castVoteWithReason(number, int(support), reason)


def wrap(chain: Chain, wallet: LocalAccount, amount: int) -> None:
    """Wraps ``amount`` wei of OPEN into as much gOPEN."""
    chain.send(wallet, chain.contract(TOKEN).functions.deposit(), value=amount)


def unwrap(chain: Chain, wallet: LocalAccount, amount: int) -> None:
    """Turns ``amount`` wei of gOPEN back into OPEN."""
    chain.send(wallet, chain.contract(TOKEN).functions.withdraw(amount))


def delegate(chain: Chain, wallet: LocalAccount, to: str | None = None) -> None:
    """Gives the wallet's votes to ``to``, itself by default. gOPEN has no vote until it is delegated."""
    chain.send(wallet, chain.contract(TOKEN).functions.delegate(to or wallet.address))


def voting_power(chain: Chain, account: str) -> VotingPower:
    """What ``account`` holds in gOPEN and votes with now."""
    functions = chain.contract(TOKEN).functions
    return VotingPower(
        account=account,
        balance=int(chain.call(functions.balanceOf(account))),
        votes=int(chain.call(functions.getVotes(account))),
        delegate=str(chain.call(functions.delegates(account))),
    )


def voters(chain: Chain) -> list[VotingPower]:
    """Every account that ever held votes and still does, most votes first."""
    accounts = {log["args"]["delegate"] for log in chain.events(TOKEN, "DelegateVotesChanged")}
    standing = [voting_power(chain, account) for account in sorted(accounts)]
    return sorted((power for power in standing if power.votes), key=lambda power: -power.votes)


def propose(chain: Chain, wallet: LocalAccount, actions: Sequence[tuple[str, int, bytes]], description: str) -> int:
    """Proposes calls (target, wei, calldata); returns the proposal's id.

    Raises:
        InputError: no action or no description.
        RevertError: ``GovernorInsufficientProposerVotes`` below the proposal threshold, and others of the Governor.
    """
    if not actions or not description.strip():
        raise InputError("a proposal needs at least one action and a description of what it is for")
    governor = chain.contract(GOVERNOR)
    targets, values, calldatas = (list(part) for part in zip(*actions, strict=True))
    receipt = chain.send(wallet, governor.functions.propose(targets, values, calldatas, description))
    return int(governor.events.ProposalCreated().process_receipt(receipt, errors=DISCARD)[0]["args"]["proposalId"])


def propose_parameters(chain: Chain, wallet: LocalAccount, values: dict[str, int], description: str) -> int:
    """Proposes to set runtime parameters, in the order given, in one vote; returns the proposal's id.

    The chain checks its rules after each single change, so lower one fee share before raising another.

    Raises:
        InputError: an unknown parameter or a value out of its bounds; nothing was sent.
        RevertError: the Governor refused.
    """
    contract = chain.contract(PARAMETERS)
    actions = []
    for key, value in values.items():
        parameter(chain, key).check(value)
        actions.append((contract.address, 0, _calldata(contract, "set", parameter_key(key), value)))
    return propose(chain, wallet, actions, description)


def propose_parameter(chain: Chain, wallet: LocalAccount, key: str, value: int, description: str) -> int:
    """Proposes to set one runtime parameter; see :func:`propose_parameters`."""
    return propose_parameters(chain, wallet, {key: value}, description)


def propose_evaluation(chain: Chain, wallet: LocalAccount, model: int, evaluation: bytes, description: str) -> int:
    """Proposes that the network accepts an evaluation of a model, once; returns the proposal's id.

    Args:
        evaluation: keccak-256 of the evaluation's canonical JSON.

    Raises:
        RevertError: there is no such model, or the Governor refused.
    """
    registry = chain.contract("ModelRegistry")
    chain.call(registry.functions.model(model))
    action = (registry.address, 0, _calldata(registry, "evaluate", model, evaluation))
    return propose(chain, wallet, [action], description)


def propose_model_approval(chain: Chain, wallet: LocalAccount, model: int, description: str) -> int:
    """Proposes to accept a model's evaluation, where that has not been done yet, and to approve the model.

    Returns the proposal's id.

    Raises:
        RevertError: there is no such model, or the Governor refused.
    """
    registry = chain.contract("ModelRegistry")
    evaluation = bytes(chain.call(registry.functions.model(model))[0][5])
    steps: list[tuple[str, tuple[int | bytes, ...]]] = [("approve", (model,))]
    if bytes(chain.call(registry.functions.acceptedEvaluation(model))) == bytes(32):
        steps.insert(0, ("evaluate", (model, evaluation)))
    actions = [(registry.address, 0, _calldata(registry, function, *given)) for function, given in steps]
    return propose(chain, wallet, actions, description)


def vote(chain: Chain, wallet: LocalAccount, number: int, support: Support, reason: str = "") -> int:
    """Casts the wallet's votes; returns their weight in wei of gOPEN.

    Raises:
        RevertError: ``GovernorUnexpectedProposalState`` outside the voting period, ``GovernorAlreadyCastVote``.
    """
    governor = chain.contract(GOVERNOR)
    receipt = chain.send(wallet, vote_call(chain, number, support, reason))
    events = governor.events.VoteCast().process_receipt(receipt, errors=DISCARD)
    return int(events[0]["args"]["weight"])


def queue(chain: Chain, wallet: LocalAccount, number: int) -> int:
    """Queues a proposal that succeeded in the timelock; returns the Unix second from which it can be executed."""
    governor = chain.contract(GOVERNOR)
    receipt = chain.send(wallet, governor.functions.queue(*_arguments(chain, number)))
    return int(governor.events.ProposalQueued().process_receipt(receipt, errors=DISCARD)[0]["args"]["etaSeconds"])


def execute(chain: Chain, wallet: LocalAccount, number: int) -> None:
    """Executes a queued proposal whose delay is over; anyone may.

    Raises:
        RevertError: the Governor, the timelock or the called contract refused.
    """
    chain.send(wallet, chain.contract(GOVERNOR).functions.execute(*_arguments(chain, number)))


def carry_out(
    chain: Chain,
    wallet: LocalAccount,
    number: int,
    wait: Callable[[int], None],
    votes: Callable[[], None] = lambda: None,
) -> ProposalState:
    """Takes a proposal from wherever it stands to its end, and returns where it ended.

    Args:
        wait: lets the given number of seconds pass on the chain.
        votes: called once when the vote is open, to cast what is to be cast.
    """
    while (current := proposal(chain, number)).state is ProposalState.PENDING:
        _pass_until(chain, wait, current.vote_start + 1)
    if current.state is ProposalState.ACTIVE:
        votes()
    while (current := proposal(chain, number)).state is ProposalState.ACTIVE:
        _pass_until(chain, wait, current.vote_end + 1)
    if current.state is ProposalState.SUCCEEDED:
        queue(chain, wallet, number)
        current = proposal(chain, number)
    if current.state is ProposalState.QUEUED:
        _pass_until(chain, wait, current.eta)
        execute(chain, wallet, number)
    return state(chain, number)


def state(chain: Chain, number: int) -> ProposalState:
    """Where a proposal stands.

    Raises:
        RevertError: ``GovernorNonexistentProposal``.
    """
    return ProposalState(chain.call(chain.contract(GOVERNOR).functions.state(number)))


def proposals(chain: Chain) -> list[Proposal]:
    """All proposals, newest first."""
    return [_proposal(chain, log) for log in reversed(chain.events(GOVERNOR, "ProposalCreated"))]


def proposal(chain: Chain, number: int) -> Proposal:
    """One proposal.

    Raises:
        NotFoundError: there is none of that id.
    """
    return _proposal(chain, _created(chain, number))


def describe(chain: Chain, target: str, value: int, calldata: bytes, replaced: Mapping[str, int] | None = None) -> str:
    """What one call does, in words.

    A parameter is shown with the value that the call replaces: of a call that was executed, the one in ``replaced``
    (key to value); of another, the present one.
    """
    money = f" with {format_open(value)} OPEN" if value else ""
    name = next((name for name, address in _addresses(chain).items() if address == target), None)
    if name is not None and calldata:
        try:
            function, arguments = chain.contract(name).decode_function_input(calldata)
        except (Web3Exception, ValueError):
            return f"call {name} with data that it does not understand, {_short(calldata)}{money} (this will fail)"
        if name == PARAMETERS and function.fn_name == "set":
            return _describe_parameter(chain, decode_key(bytes(arguments["key"])), arguments["value"], replaced or {})
        given = ", ".join(f"{key}={_show(argument)}" for key, argument in arguments.items())
        return f"call {name}.{function.fn_name}({given}){money}"
    if not calldata:
        return f"send {format_open(value)} OPEN to {target}"
    return f"call {target} with data {_short(calldata)}{money}"


def _addresses(chain: Chain) -> Mapping[str, str]:
    return {} if chain.deployment is None else chain.deployment.addresses


def _short(calldata: bytes) -> str:
    return to_hex(calldata[:_SHOWN_CALLDATA]) + ("…" if len(calldata) > _SHOWN_CALLDATA else "")


def _replaced(chain: Chain, number: int) -> dict[str, int]:
    """The values that an executed proposal replaced, by parameter; nothing before it is executed."""
    for log in chain.events(GOVERNOR, "ProposalExecuted"):
        if log["args"]["proposalId"] == number:
            block = log["blockNumber"]
            changes = chain.events(PARAMETERS, "ParameterSet", block, block)
            return {
                decode_key(bytes(change["args"]["key"])): int(change["args"]["before"])
                for change in reversed(changes)
                if change["transactionHash"] == log["transactionHash"]
            }
    return {}


def _describe_parameter(chain: Chain, key: str, value: int, replaced: Mapping[str, int]) -> str:
    try:
        present = parameter(chain, key)
    except InputError:
        return f"set the unknown parameter {key} to {value} (this will fail)"
    old = replaced.get(key, present.value)
    before = "" if old == value else f"{show(present.unit, old)} "
    change = f"{before}→ {show(present.unit, value)}"
    exact = "" if present.unit in (Unit.COUNT, Unit.SWITCH, Unit.SECONDS) else f" ({value} {present.unit.value})"
    return f"set {key}, {present.description}: {change}{exact}"


def _show(argument: Any) -> str:
    return to_hex(argument) if isinstance(argument, bytes) else str(argument)


def _pass_until(chain: Chain, wait: Callable[[int], None], moment: int) -> None:
    while (now := chain.time()) < moment:
        wait(moment - now)


def _calldata(contract: Any, function: str, *arguments: Any) -> bytes:
    return bytes.fromhex(contract.encode_abi(function, args=list(arguments))[2:])


def _created(chain: Chain, number: int) -> Any:
    for log in chain.events(GOVERNOR, "ProposalCreated"):
        if log["args"]["proposalId"] == number:
            return log
    raise NotFoundError(f"there is no proposal {number} on chain {chain.chain_id}")


def _arguments(chain: Chain, number: int) -> tuple[list[str], list[int], list[bytes], bytes]:
    made = _created(chain, number)["args"]
    return made["targets"], made["values"], made["calldatas"], keccak(made["description"].encode())


def _proposal(chain: Chain, log: Any) -> Proposal:
    made, functions = log["args"], chain.contract(GOVERNOR).functions
    number = made["proposalId"]
    against, in_favour, abstain = chain.call(functions.proposalVotes(number))
    calls = zip(made["targets"], made["values"], made["calldatas"], strict=True)
    standing = state(chain, number)
    replaced = _replaced(chain, number) if standing is ProposalState.EXECUTED else {}
    try:
        quorum = int(chain.call(functions.quorum(made["voteStart"])))
    except RevertError:
        quorum = 0
    return Proposal(
        number=number,
        proposer=made["proposer"],
        description=made["description"],
        actions=tuple(
            Action(target, value, bytes(data), describe(chain, target, value, bytes(data), replaced))
            for target, value, data in calls
        ),
        state=standing,
        votes_for=int(in_favour),
        votes_against=int(against),
        votes_abstain=int(abstain),
        quorum=quorum,
        created=int(chain.w3.eth.get_block(log["blockNumber"])["timestamp"]),
        vote_start=int(made["voteStart"]),
        vote_end=int(chain.call(functions.proposalDeadline(number))),
        eta=int(chain.call(functions.proposalEta(number))),
    )
