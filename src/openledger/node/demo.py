"""The main job, end to end, on a fresh network: every system once, on real input, and an account of what happened."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from openledger import governance
from openledger.datanets import Record
from openledger.node.founding import Founded, founding
from openledger.node.people import HOLDERS
from openledger.node.progress import Reporter, TimedReporter
from openledger.node.service import Node
from openledger.node.settings import Settings
from openledger.node.settling import Settled
from openledger.primitives import VerificationError, keccak
from openledger.storage import ModelRecord
from openledger.studio import Answer, ApiKey, Prompt, Sampling

_FIRST_QUESTIONS = 18
_LATER_QUESTIONS = 4
_UNRELATED = ("What does the command ls do?", "How do I bake bread?")
_CAP = 50 * 10**18
_PARAMETER, _CHANGE = "fee.data", 20_000
_MARGIN_SECONDS = 5


@dataclass(frozen=True)
class Asked:
    """One answer of the demo; ``about`` is the contributor of the record that the question is about, if it is about one."""

    answer: Answer
    prompt: str
    about: str


@dataclass
class Story:
    """What happened, for the JSON document and the terminal."""

    founded: Founded
    asked: list[Asked] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    claims: list[dict[str, str]] = field(default_factory=list)
    verified: dict[str, bool] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    vote: dict[str, Any] = field(default_factory=dict)
    document: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    stages: list[tuple[str, float]] = field(default_factory=list)


def run_demo(settings: Settings, reporter: Reporter) -> Story:
    """Runs the main job in the settings' home folder, which it clears first, and tells its story.

    Raises:
        VerificationError: the job ended, and something in it does not hold.
        OpenLedgerError: a step failed.
    """
    begun = time.monotonic()
    reporter = TimedReporter(reporter)
    with founding(settings, reporter) as (node, founded):
        story = Story(founded)
        key, _, _ = node.create_key(_CAP, 1.0)
        questions = _questions(node, founded)
        _ask(node, story, key, questions[:_FIRST_QUESTIONS], _UNRELATED, reporter)
        with reporter.stage("Settling: post, attest, pay", 1) as advance:
            story.settled.append(node.settle_now())
            advance(1)
        _vote(node, story, reporter)
        _ask(node, story, key, questions[_FIRST_QUESTIONS:], (), reporter)
        with reporter.stage("Settling by the new split", 1) as advance:
            story.settled.append(node.settle_now())
            advance(1)
        _claim(node, story, reporter)
        _verify(node, story, reporter)
        story.seconds, story.stages = time.monotonic() - begun, reporter.stages
        story.document = _document(node, story)
    if story.problems:
        raise VerificationError("; ".join(story.problems))
    return story


def _questions(node: Node, founded: Founded) -> list[tuple[Record, str]]:
    """Trained records to ask about, of every contributor in turn, in an order that nobody chose: by hash."""
    with node.database.session() as session:
        row = session.get(ModelRecord, founded.model)
        trained = {bytes.fromhex(digest[2:]) for digest in row.meta["records"]} if row else set()
    heaps: dict[str, list[tuple[Record, str]]] = {}
    for place in node.reader.library.records(founded.datanet):
        if place.status == "accepted" and place.hash in trained:
            record = Record.from_json(place.value)
            heaps.setdefault(place.contribution.contributor, []).append((record, place.contribution.contributor))
    for heap in heaps.values():
        heap.sort(key=lambda item: keccak(b"demo", item[0].hash))
    chosen: list[tuple[Record, str]] = []
    while len(chosen) < _FIRST_QUESTIONS + _LATER_QUESTIONS:
        chosen.extend(heap.pop() for heap in heaps.values() if heap)
    return chosen[: _FIRST_QUESTIONS + _LATER_QUESTIONS]


def _ask(
    node: Node,
    story: Story,
    key: ApiKey,
    about: list[tuple[Record, str]],
    unrelated: tuple[str, ...],
    reporter: Reporter,
) -> None:
    asking = [(record.question, contributor) for record, contributor in about] + [(text, "") for text in unrelated]
    with reporter.stage(f"Asking {story.founded.model_name}, attributing each answer", len(asking)) as advance:
        for done, (question, contributor) in enumerate(asking, 1):
            prompt = Prompt.chat([{"role": "user", "content": question}])
            answer = node.inference.complete(story.founded.model_name, prompt, Sampling(), key, publish=True)
            story.asked.append(Asked(answer, question, contributor))
            advance(done)


def _vote(node: Node, story: Story, reporter: Reporter) -> None:
    chain = node.chain
    wallets = [node.keys.wallet(name) for name in HOLDERS]
    before = governance.parameter(chain, _PARAMETER).value
    wanted = before + _CHANGE
    with reporter.stage("Governance: propose, vote, queue, execute", 4) as advance:
        number = governance.propose_parameter(
            chain, wallets[0], _PARAMETER, wanted, "Pay more of every fee to the people whose data shaped the answer"
        )
        advance(1)

        def cast() -> None:
            for wallet in wallets:
                governance.vote(chain, wallet, number, governance.Support.FOR)
            advance(2)

        state = governance.carry_out(
            chain, wallets[0], number, lambda seconds: node.devchain.warp(seconds + _MARGIN_SECONDS), cast
        )
        advance(4)
    after = governance.parameter(chain, _PARAMETER).value
    if state is not governance.ProposalState.EXECUTED or after != wanted:
        story.problems.append(
            f"the vote on {_PARAMETER} ended {state.name.lower()} with the value {after}, not {wanted}"
        )
    story.vote = {
        "proposal": str(number),
        "state": state.name.lower(),
        "parameter": _PARAMETER,
        "parameter_before": before,
        "parameter_after": after,
    }


def _claim(node: Node, story: Story, reporter: Reporter) -> None:
    paid = node.reader.active_payouts()
    with reporter.stage("Everyone claims", len(paid.accounts)) as advance:
        for done, (account, _) in enumerate(paid.accounts, 1):
            before = node.chain.balance(account)
            amount = node.claim(account)
            after = node.chain.balance(account)
            story.claims.append(
                {
                    "account": account,
                    "label": node.reader.party(account).label,
                    "role": ", ".join(role.value for role in paid.by_role(account)),
                    "amount": str(amount),
                    "balance_before": str(before),
                    "balance_after": str(after),
                }
            )
            if after - before != amount:
                story.problems.append(f"{account} claimed {amount} wei and its balance moved by {after - before}")
            advance(done)


def _verify(node: Node, story: Story, reporter: Reporter) -> None:
    with reporter.stage("Verifying every receipt by recomputation", len(story.asked)) as advance:
        for done, asked in enumerate(story.asked, 1):
            checks = node.verify(asked.answer.receipt_id)
            failed = [f"{check.name}: {check.detail}" for check in checks if not check.ok]
            story.verified[asked.answer.receipt_id] = not failed
            if failed:
                story.problems.append(f"receipt {asked.answer.receipt_id} does not verify ({'; '.join(failed)})")
            advance(done)


def _document(node: Node, story: Story) -> dict[str, Any]:
    founded = story.founded
    overview, supply, paid = node.overview(), node.supply(), node.payouts()
    view, model = node.datanet(founded.datanet), node.model(founded.model)
    rejected = _rejected(node, founded)
    planted = Counter(row.trick for row in founded.planted)
    planted_hashes = Counter(row.record.hash for row in founded.planted)
    mallory = next(row for row in view.contributions if row.contributor.label == "Mallory")
    fees = sum(asked.answer.body.receipt.fee for asked in story.asked)
    if fees != paid.total_paid + paid.dust:
        story.problems.append(f"fees of {fees} wei are not the {paid.total_paid} paid and {paid.dust} dust")
    return {
        "chain": {
            "chain_id": overview.chain_id,
            "blocks": overview.block_number,
            "contracts": overview.contracts,
            "supply": str(supply.total),
        },
        "datanet": {
            "id": founded.datanet,
            "name": view.row.name,
            "submitted": founded.submitted,
            "accepted": view.row.records,
            "rejected": rejected,
            "version_root": view.versions[-1].root,
            "contributors": [
                {
                    "account": row.contributor.address,
                    "label": row.contributor.label,
                    "submitted": row.count,
                    "accepted": row.accepted,
                    "bond": str(row.bond),
                    "slashed": str(row.slashed),
                }
                for row in view.contributions
            ],
            "planted": {
                "rows": sum(planted_hashes.values()),
                "caught": mallory.rejected,
                "by_trick": dict(planted),
            },
        },
        "model": {
            "id": model.id,
            "name": model.name,
            "hashes": model.hashes,
            "input_price": str(model.input_price),
            "output_price": str(model.output_price),
            **model.evaluation,
        },
        "receipts": [_receipt(story, asked) for asked in story.asked],
        "settlement": {
            "batches": [
                {
                    "batch": row.id,
                    "transaction": row.transaction,
                    "receipts": row.count,
                    "gas_per_inference": row.gas_per_inference,
                    "split_ppm": row.split_ppm,
                    "attested_by": [who.address for who in row.attested_by],
                }
                for row in reversed(paid.batches)
            ],
            "total_fees": str(paid.total_fees),
            "total_paid": str(paid.total_paid),
            "dust": str(paid.dust),
        },
        "claims": story.claims,
        "governance": story.vote,
        "slashed": [
            {
                "account": row.contributor.address,
                "label": row.contributor.label,
                "amount": str(row.slashed),
                "reason": f"{row.rejected} of {row.count} records rejected by the jury",
            }
            for row in view.contributions
            if row.slashed
        ],
        "seconds": round(story.seconds, 1),
        "stages": [{"stage": title, "seconds": round(seconds, 1)} for title, seconds in story.stages],
        "home": str(node.home.path),
    }


def _rejected(node: Node, founded: Founded) -> list[dict[str, str]]:
    rows = []
    for record in node.datanet(founded.datanet).rejections:
        reasons = [verdict.reason for verdict in record.verdicts if not verdict.accept]
        rows.append(
            {
                "record": record.hash,
                "contributor": record.contributor.label,
                "reason": "; ".join(dict.fromkeys(reasons)),
            }
        )
    return rows


def _receipt(story: Story, asked: Asked) -> dict[str, Any]:
    answer = asked.answer
    return {
        "id": answer.receipt_id,
        "prompt": asked.prompt,
        "output": answer.text,
        "fee": str(answer.body.receipt.fee),
        "shares": answer.contributors,
        "residual_ppm": answer.body.residual_ppm,
        "verified": story.verified.get(answer.receipt_id, False),
        "about": asked.about,
    }
