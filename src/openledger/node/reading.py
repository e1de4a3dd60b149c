"""From the chain, the blobs and the database to the views that pages and commands show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from openledger import governance
from openledger.chain import Chain, Indexer
from openledger.modelfactory import with_accuracy
from openledger.node import views
from openledger.node.evaluations import accuracy_of, evaluation_hash
from openledger.node.events import EventLog, Log
from openledger.node.library import ContributionState, Library, Placed
from openledger.primitives import NotFoundError, OpenLedgerError, from_hex, to_hex
from openledger.settlement import (
    Payouts,
    ReceiptBody,
    TermsReader,
    active_payouts,
    explain,
    newest_root,
    root_state,
)
from openledger.storage import BlobStore, Database, ModelRecord, PartyRecord, ReceiptRecord, VerdictRecord
from openledger.studio import DatabaseReceiptStore, Explanation, RetrievedRecord
from openledger.tokenomics import circulation, demand, load_allocation, schedule

if TYPE_CHECKING:
    from openledger.attribution import Statement

LEDGER, REGISTRY, STAKES = "InferenceLedger", "DatanetRegistry", "StakeManager"
_RECENT = 8
PRIVATE = "(private)"
"""What stands for a prompt or an answer that its consumer did not publish."""

MeasureHeat = Callable[[int, Sequence[int], Sequence[int], Sequence[bytes]], list[list[float]]]
"""(model, prompt ids, output ids, records) → influence by token, [records, output tokens]."""


class Reader:
    """Answers every question of the pages about one network."""

    def __init__(
        self,
        chain: Chain,
        blobs: BlobStore,
        database: Database,
        receipts: DatabaseReceiptStore,
        measure_heat: MeasureHeat,
    ) -> None:
        self._chain = chain
        self._blobs = blobs
        self._database = database
        self._receipts = receipts
        self._measure_heat = measure_heat
        self.events = EventLog(chain, Indexer(chain, database))
        self.library = Library(chain, self.events, blobs)
        self.terms = TermsReader(chain, blobs)
        self._payouts: tuple[int, Payouts] = (0, Payouts())

    # ---- people ----------------------------------------------------------------------------------------------

    def party(self, address: str) -> views.Party:
        """An account with the name this node knows it by."""
        with self._database.session() as session:
            found = session.get(PartyRecord, address)
            if found is not None:
                return views.Party(address, found.label, found.role)
        return views.Party(address, f"{address[:6]}…{address[-4:]}")

    def _parties(self, addresses: Iterable[str]) -> list[views.Party]:
        return [self.party(address) for address in addresses]

    # ---- Datanets and records --------------------------------------------------------------------------------

    def datanets(self) -> list[views.DatanetRow]:
        """All Datanets."""
        return [self._datanet_row(log.args) for log in self.events.all(REGISTRY, "DatanetCreated")]

    def datanet(self, number: int) -> views.DatanetView:
        """One Datanet.

        Raises:
            NotFoundError: there is none of that number.
        """
        for log in self.events.all(REGISTRY, "DatanetCreated"):
            if log.args["datanet"] == number:
                break
        else:
            raise NotFoundError(f"no Datanet {number}; `openledger datanet list` shows those that there are")
        contributions = self.library.contributions(number)
        rejected = [place for place in self.library.records(number) if place.status == "rejected"]
        return views.DatanetView(
            row=self._datanet_row(log.args),
            versions=self._versions(number),
            contributions=[self._contribution_row(item) for item in contributions],
            contributors=self._contributors(contributions),
            rejections=[self._record_view(place) for place in rejected],
            data_card=str(self._database.state(f"data_card.{number}", "")),
        )

    def contribution(self, number: int) -> views.ContributionRow:
        """One contribution.

        Raises:
            NotFoundError: there is none of that number.
        """
        for item in self.library.contributions():
            if item.id == number:
                return self._contribution_row(item)
        raise NotFoundError(f"no contribution {number} on this chain")

    def contributions_of(self, contributor: str) -> list[tuple[int, views.ContributionRow]]:
        """A contributor's contributions with the Datanet of each, newest first."""
        found = [item for item in self.library.contributions() if item.contributor == contributor]
        return [(item.datanet, self._contribution_row(item)) for item in reversed(found)]

    def records(
        self, datanet: int, text: str = "", status: str = "", contributor: str = "", offset: int = 0, limit: int = 50
    ) -> tuple[list[views.RecordView], int]:
        """Records that fit the filters, and how many fit in all."""
        words = text.lower().split()
        found = [
            place
            for place in self.library.records(datanet)
            if status in ("", place.status)
            and contributor in ("", place.contribution.contributor)
            and all(
                word in f"{place.value.get('question', '')} {place.value.get('answer', '')}".lower() for word in words
            )
        ]
        return [self._record_view(place) for place in found[offset : offset + limit]], len(found)

    def record(self, digest: str) -> views.RecordView:
        """One record by its hash."""
        return self._record_view(self.library.find(from_hex(digest, 32)))

    def contradictions(self, contribution: int) -> list[views.ContradictionRow]:
        """Which of a contribution's records speak against an accepted record of their Datanet.

        Raises:
            NotFoundError: there is no such contribution.
        """
        found = [item for item in self.library.contributions() if item.id == contribution]
        if not found:
            raise NotFoundError(f"no contribution {contribution}; `openledger datanet show` lists them")
        return self._contradicting(
            [place for place in self.library.records(found[0].datanet) if place.contribution.id == contribution]
        )

    def contradiction(self, digest: str) -> views.ContradictionRow | None:
        """What accepted record of its Datanet a record speaks against, if any; errors as :meth:`record`."""
        return next(iter(self._contradicting([self.library.find(from_hex(digest, 32))])), None)

    def _contradicting(self, places: list[Placed]) -> list[views.ContradictionRow]:
        from openledger.attribution import contradictions

        if not places:
            return []
        datanet = places[0].contribution.datanet
        trusted = [place for place in self.library.records(datanet) if place.status == "accepted"]
        found = contradictions([_statement(place) for place in places], [_statement(place) for place in trusted])
        return [
            views.ContradictionRow(
                hash=to_hex(place.hash),
                question=str(place.value.get("question", "")),
                status=place.status,
                trusted=to_hex(trusted[one.trusted].hash),
                trusted_question=str(trusted[one.trusted].value.get("question", "")),
                says=list(one.says),
                instead_of=list(one.instead_of),
            )
            for place, one in zip(places, found, strict=True)
            if one is not None
        ]

    def _datanet_row(self, args: Any) -> views.DatanetRow:
        number = args["datanet"]
        contributions = self.library.contributions(number)
        versions = [log for log in self.events.all(REGISTRY, "VersionAnchored") if log.args["datanet"] == number]
        about = self._about(args)
        return views.DatanetRow(
            id=number,
            name=str(about.get("title") or args["name"]),
            description=str(about.get("description", "")),
            owner=self.party(args["owner"]),
            licence=str(about.get("licence", "")),
            versions=len(versions),
            records=versions[-1].args["recordCount"] if versions else 0,
            contributors=len({item.contributor for item in contributions if item.accepted and any(item.accepted)}),
        )

    def _about(self, args: Any) -> dict[str, Any]:
        try:
            about = self._blobs.get_json(from_hex(args["uri"].removeprefix("blob:"), 32))
        except OpenLedgerError:
            return {}
        return about if isinstance(about, dict) else {}

    def _versions(self, number: int) -> list[views.VersionRow]:
        return [
            views.VersionRow(
                number=log.args["version"],
                root=to_hex(log.args["root"]),
                records=log.args["recordCount"],
                time=self._time(log.block),
                transaction=log.transaction,
            )
            for log in self.events.all(REGISTRY, "VersionAnchored")
            if log.args["datanet"] == number
        ]

    def _contribution_row(self, item: ContributionState) -> views.ContributionRow:
        accepted = sum(item.accepted or [])
        return views.ContributionRow(
            id=item.id,
            contributor=self.party(item.contributor),
            count=item.count,
            accepted=accepted,
            rejected=item.count - accepted if item.accepted is not None else 0,
            state=item.state,
            bond=item.bond,
            slashed=item.slashed,
            reviewers=self._parties(item.reviewers),
        )

    def _contributors(self, contributions: list[ContributionState]) -> list[views.ContributorRow]:
        accepted: Counter[str] = Counter()
        rejected: Counter[str] = Counter()
        for item in contributions:
            accepted[item.contributor] += sum(item.accepted or [])
            rejected[item.contributor] += len(item.accepted or []) - sum(item.accepted or [])
        influenced: Counter[str] = Counter()
        for body in self._receipts.bodies(0):
            influenced.update({self.library.find(record).contribution.contributor for record, _ in body.shares})
        earned = self.active_payouts()
        return [
            views.ContributorRow(
                party=self.party(address),
                accepted=accepted[address],
                rejected=rejected[address],
                influenced=influenced[address],
                earned=sum(
                    wei for (account, role), wei in earned.lines.items() if (account, role) == (address, "contributor")
                ),
            )
            for address in sorted(accepted, key=lambda address: -accepted[address])
        ]

    def _record_view(self, place: Placed) -> views.RecordView:
        value = place.value
        with self._database.session() as session:
            rows = session.scalars(
                select(VerdictRecord).where(
                    VerdictRecord.contribution == place.contribution.id, VerdictRecord.position == place.position
                )
            )
            verdicts = [views.VerdictRow(self.party(row.reviewer), row.accept, row.reason) for row in rows]
            models = list(session.scalars(select(ModelRecord)))
        receipts, ppm = self._receipts.credit(place.hash) if place.status == "accepted" else (0, 0)
        trained = [model.name for model in models if to_hex(place.hash) in set(model.meta.get("records", []))]
        return views.RecordView(
            hash=to_hex(place.hash),
            question=str(value.get("question", "")),
            answer=str(value.get("answer", "")),
            facts=dict(value.get("facts", {})),
            source=dict(value.get("source", {})),
            kind=str(value.get("kind", "")),
            contributor=self.party(place.contribution.contributor),
            contribution=place.contribution.id,
            status=place.status,
            verdicts=verdicts,
            trained_in=trained if place.status == "accepted" else [],
            influenced=receipts,
            credited_ppm=ppm,
        )

    # ---- models ----------------------------------------------------------------------------------------------

    def models(self) -> list[views.ModelView]:
        """All registered models that this node serves."""
        with self._database.session() as session:
            return [self._model_view(row) for row in session.scalars(select(ModelRecord).order_by(ModelRecord.id))]

    def model(self, number: int) -> views.ModelView:
        """One model.

        Raises:
            NotFoundError: this node serves none of that number.
        """
        with self._database.session() as session:
            row = session.get(ModelRecord, number)
        if row is None:
            raise NotFoundError(f"no model {number} here; `openledger model list` shows those that there are")
        return self._model_view(row)

    def _model_view(self, row: ModelRecord) -> views.ModelView:
        registry = self._chain.contract("ModelRegistry").functions
        (base, adapter, root, recipe, index, _, _, _, input_price, output_price, *_), status, *_ = registry.model(
            row.id
        ).call()
        meta: dict[str, Any] = row.meta
        fees = [body.receipt.fee for body in self._receipts.bodies(0) if body.receipt.model == row.id]
        accuracy = accuracy_of(self._chain, self._blobs, row.id)
        return views.ModelView(
            id=row.id,
            name=row.name,
            base=row.base,
            owner=self.party(registry.ownerOf(row.id).call()),
            status=("none", "proposed", "evaluated", "approved", "deprecated")[status],
            datanet=row.datanet,
            datanet_version=row.version,
            hashes={
                "base": to_hex(base),
                "adapter": to_hex(adapter),
                "version_root": to_hex(root),
                "recipe": to_hex(recipe),
                "index": to_hex(index),
                "evaluation": to_hex(evaluation_hash(self._chain, row.id)),
            },
            input_price=input_price,
            output_price=output_price,
            evaluation=meta["evaluation"],
            recipe=meta["recipe"],
            loss_curve=[(int(step), float(loss)) for step, loss in meta["loss_curve"]],
            card=with_accuracy(meta["card"], accuracy),
            attribution=accuracy,
            receipts=len(fees),
            fees=sum(fees),
        )

    # ---- receipts --------------------------------------------------------------------------------------------

    def receipts(self, offset: int = 0, limit: int = 50) -> tuple[list[views.ReceiptRow], int]:
        """Receipts, newest first, and how many there are."""
        rows, total = self._receipts.page(offset, limit)
        return [self._receipt_row(row) for row in rows], total

    def receipts_of(self, consumer: str, offset: int = 0, limit: int = 50) -> tuple[list[views.ReceiptRow], int]:
        """A consumer's own receipts with what they asked, newest first, and how many there are; for that consumer only."""
        rows, total = self._receipts.page(offset, limit, consumer)
        return [self._receipt_row(row, consumer) for row in rows], total

    def receipt(self, name: str, viewer: str = "") -> views.ReceiptView:
        """One receipt with everything that explains it; what was not published only if its consumer is the ``viewer``."""
        row = self._receipts.find(name)
        body = ReceiptBody.from_json(row.body)
        explanation, _, _ = self._receipts.explanation(row)
        if not self._may_see(body, viewer):
            explanation = replace(explanation, tokens=(), spans=(), retrieved=())
        contributors: Counter[str] = Counter()
        for record, ppm in body.shares:
            contributors[self.library.find(record).contribution.contributor] += ppm
        starts = [0]
        for token in explanation.tokens:
            starts.append(starts[-1] + len(token))
        text = "".join(explanation.tokens)
        batch = self._batch_of(body)
        return views.ReceiptView(
            row=self._receipt_row(row, viewer),
            consumer=self.party(body.receipt.consumer),
            host=self.party(body.receipt.host),
            prompt_tokens=body.receipt.prompt_tokens,
            output_tokens=body.receipt.output_tokens,
            shares_root=to_hex(body.receipt.shares_root),
            records=[self._record_share(item.record, item.ppm, item.score) for item in explanation.top],
            contributors=[(self.party(address), ppm) for address, ppm in contributors.most_common()],
            tokens=list(explanation.tokens),
            influence=self._heat(row, explanation),
            spans=[
                views.SpanView(
                    text=text[starts[span.start] : starts[span.start + span.length]],
                    start=starts[span.start],
                    end=starts[span.start + span.length],
                    records=[to_hex(record) for record in span.records],
                    rarity=span.rarity,
                )
                for span in explanation.spans
            ],
            retrieved=[self._retrieved(one) for one in explanation.retrieved],
            batch=None if batch is None else batch.args["batchId"],
            batch_root=None if batch is None else to_hex(batch.args["root"]),
            transaction=None if batch is None else batch.transaction,
            gas_per_inference=None if batch is None else self._gas_per_inference(batch),
            payouts=[] if batch is None else self._fee_lines(body, batch.args["batchId"]),
            signature=to_hex(body.signature),
        )

    def _heat(self, row: ReceiptRecord, explanation: Explanation) -> list[list[float]]:
        """Influence by token, [records, tokens]: computed when a receipt is first looked at, and kept."""
        if not explanation.tokens:
            return [[] for _ in explanation.top]
        name = f"heat.{row.id}"
        kept: list[list[float]] | None = self._database.state(name)
        if kept is None:
            _, prompt_ids, output_ids = self._receipts.explanation(row)
            kept = self._measure_heat(row.model, prompt_ids, output_ids, [item.record for item in explanation.top])
            self._database.set_state(name, kept)
        return kept

    def receipt_body(self, name: str) -> dict[str, Any]:
        """The public body of a receipt, as it was signed."""
        return dict(self._receipts.find(name).body)

    def _retrieved(self, one: RetrievedRecord) -> views.RetrievedView:
        place = self.library.find(one.record)
        return views.RetrievedView(
            hash=to_hex(one.record),
            question=str(place.value.get("question", "")),
            contributor=self.party(place.contribution.contributor),
            effect=one.effect,
            effects=list(one.effects),
        )

    def _record_share(self, record: bytes, ppm: int, score: float) -> views.RecordShare:
        place = self.library.find(record)
        return views.RecordShare(
            hash=to_hex(record),
            question=str(place.value.get("question", "")),
            answer=str(place.value.get("answer", "")),
            contributor=self.party(place.contribution.contributor),
            ppm=ppm,
            score=score,
        )

    def _receipt_row(self, row: ReceiptRecord, viewer: str = "") -> views.ReceiptRow:
        body = ReceiptBody.from_json(row.body)
        asked, output = self._opened(body, viewer)
        contributors: Counter[str] = Counter()
        for record, ppm in body.shares:
            contributors[self.library.find(record).contribution.contributor] += ppm
        top, top_ppm = contributors.most_common(1)[0] if contributors else (None, 0)
        with self._database.session() as session:
            model = session.get(ModelRecord, row.model)
        return views.ReceiptRow(
            id=row.id,
            sequence=row.sequence,
            time=row.time,
            model_name=model.name if model else f"model {row.model}",
            prompt=asked,
            output=output,
            fee=body.receipt.fee,
            residual_ppm=body.residual_ppm,
            top_contributor=None if top is None else self.party(top),
            top_ppm=top_ppm,
            status=self._status(body),
        )

    def _may_see(self, body: ReceiptBody, viewer: str) -> bool:
        """Whether prompt and answer are the viewer's own, or were published."""
        return viewer == body.receipt.consumer or self._blobs.has(body.private_hash)

    def _opened(self, body: ReceiptBody, viewer: str) -> tuple[str, str]:
        """(question, answer) as far as the viewer may see them."""
        if not self._may_see(body, viewer):
            return PRIVATE, PRIVATE
        private = self._receipts.private_of(body)
        prompt = private.prompt
        return str(prompt["messages"][-1]["content"] if "messages" in prompt else prompt["text"]), private.output

    def _status(self, body: ReceiptBody) -> str:
        batch = self._batch_of(body)
        if batch is None:
            return "recorded"
        number, paid = batch.args["batchId"], self.active_payouts()
        place = (number, body.receipt.host, body.receipt.sequence)
        waits = any((held.batch, held.host, held.sequence) == place for held in paid.held)
        return "paid" if number <= paid.last_batch and not waits else "posted"

    def _batch_of(self, body: ReceiptBody) -> Log | None:
        for log in self.events.all(LEDGER, "BatchPosted"):
            args = log.args
            inside = 0 <= body.receipt.sequence - args["firstSequence"] < args["count"]
            if args["poster"] == body.receipt.host and inside:
                return log
        return None

    def _gas_per_inference(self, log: Log) -> float:
        receipt = self._chain.w3.eth.get_transaction_receipt(from_hex(log.transaction))  # type: ignore[arg-type]
        return float(receipt["gasUsed"] / log.args["count"])

    def _fee_lines(self, body: ReceiptBody, number: int) -> list[tuple[views.Party, str, int]]:
        terms = self.terms.read(self._chain.w3.eth.block_number)
        batch = next(batch for batch in terms.batches if batch.number == number)
        try:
            lines = explain(body, batch, terms)
        except OpenLedgerError:
            return []
        return [(self.party(line.account), line.role.value, line.wei) for line in lines]

    # ---- money -----------------------------------------------------------------------------------------------

    def active_payouts(self) -> Payouts:
        """The payouts under the active root."""
        active = int(self._chain.contract("RewardsDistributor").functions.activeRootId().call())
        if active != self._payouts[0]:
            self._payouts = (active, active_payouts(self._chain, self._blobs))
        return self._payouts[1]

    def payouts(self) -> views.PayoutsView:
        """Batches, earnings, and the payout root."""
        terms = self.terms.read(self._chain.w3.eth.block_number)
        fees: Counter[int] = Counter()
        logs = {log.args["batchId"]: log for log in self.events.all(LEDGER, "BatchPosted")}
        for body in self._receipts.bodies(0):
            log = self._batch_of(body)
            if log is not None:
                fees[log.args["batchId"]] += body.receipt.fee
        batches = [
            views.BatchRow(
                id=batch.number,
                root=to_hex(batch.root),
                first_sequence=batch.first_sequence,
                count=batch.count,
                fees=fees[batch.number],
                gas_per_inference=self._gas_per_inference(logs[batch.number]),
                transaction=logs[batch.number].transaction,
                attested_by=self._parties(found.validator for found in batch.attestations if found.valid),
                split_ppm={
                    "data": batch.split.data,
                    "builder": batch.split.builder,
                    "host": batch.split.host,
                    "curators": batch.split.curators,
                    "validators": batch.split.validators,
                    "treasury": batch.split.treasury,
                },
            )
            for batch in reversed(terms.batches)
        ]
        paid = self.active_payouts()
        newest = newest_root(self._chain)
        return views.PayoutsView(
            batches=batches,
            earnings=self._earnings(paid),
            total_fees=paid.fees,
            total_paid=paid.total,
            dust=paid.dust,
            root=to_hex(paid.root) if paid.accounts else "",
            root_state="none" if newest is None else root_state(self._chain, newest.number).value,
        )

    def _earnings(self, paid: Payouts) -> list[views.EarningsRow]:
        claimed = self._chain.contract("RewardsDistributor").functions.claimed
        return [
            views.EarningsRow(
                party=self.party(account),
                by_role={role.value: wei for role, wei in paid.by_role(account).items()},
                earned=earned,
                claimed=int(claimed(account).call()),
                balance=self._chain.balance(account),
            )
            for account, earned in sorted(paid.accounts, key=lambda pair: -pair[1])
        ]

    def supply(self) -> views.SupplyView:
        """The supply of OPEN against demand."""
        allocation = load_allocation()
        where, use = circulation(self._chain), demand(self._chain)
        vesting = {contract.bucket: contract for contract in where.vesting}
        buckets = []
        for bucket in allocation.buckets:
            held = vesting.get(bucket.name)
            buckets.append(
                views.BucketRow(
                    name=bucket.name,
                    total=bucket.total,
                    at_genesis=bucket.free,
                    released=bucket.free + (held.vested if held else 0),
                    releasable=held.releasable if held else 0,
                    locked=held.locked if held else 0,
                    cliff_months=bucket.cliff_months,
                    linear_months=bucket.linear_months,
                    beneficiary=self.party(held.beneficiary) if held else None,
                )
            )
        deployment = self._chain.deployment
        months = schedule(allocation, deployment.launch if deployment else 0)
        return views.SupplyView(
            total=where.total,
            circulating=where.circulating,
            locked=where.locked,
            staked=where.staked,
            wrapped=where.wrapped,
            fees_paid=use.fees_collected,
            gas_paid=use.gas_paid,
            buckets=buckets,
            schedule=[
                (month, {bucket.name: bucket.released for bucket in supply.buckets})
                for month, supply in enumerate(months)
            ],
        )

    # ---- governance and overview -----------------------------------------------------------------------------

    def governance(self) -> views.GovernanceView:
        """Parameters, proposals and votes."""
        return views.GovernanceView(
            parameters=[
                views.ParameterRow(row.key, row.value, row.unit.value, row.description, row.minimum, row.maximum)
                for row in governance.parameters(self._chain)
            ],
            proposals=[
                views.ProposalRow(
                    id=str(proposal.number),
                    title=proposal.title,
                    changes=proposal.changes,
                    state=proposal.state.name.lower(),
                    proposer=self.party(proposal.proposer),
                    votes_for=proposal.votes_for,
                    votes_against=proposal.votes_against,
                    votes_abstain=proposal.votes_abstain,
                    quorum=proposal.quorum,
                    created=proposal.created,
                )
                for proposal in governance.proposals(self._chain)
            ],
            voters=[(self.party(power.account), power.votes) for power in governance.voters(self._chain)],
        )

    def overview(self) -> views.Overview:
        """The network at a glance."""
        contributions = self.library.contributions()
        paid = self.active_payouts()
        stakes = self._chain.contract(STAKES).functions
        recent, receipts = self.receipts(0, _RECENT)
        by_role: Counter[str] = Counter({role.value: wei for role, wei in paid.by_role().items()})
        block = self._chain.w3.eth.block_number
        return views.Overview(
            chain_id=self._chain.chain_id,
            block_number=block,
            contracts=self.contracts(),
            datanets=len(self.events.all(REGISTRY, "DatanetCreated")),
            records_accepted=sum(sum(item.accepted or []) for item in contributions),
            contributors=len({item.contributor for item in contributions if any(item.accepted or [])}),
            models=len(self.events.all("ModelRegistry", "ModelRegistered")),
            receipts=receipts,
            batches=len(self.events.all(LEDGER, "BatchPosted")),
            total_fees=paid.fees,
            total_paid=paid.total,
            total_staked=sum(int(stakes.totalStake(role).call()) for role in range(1, 6)),
            treasury=self._chain.balance(self._chain.address("TimelockController")),
            receipts_recent=recent,
            blocks_recent=self._blocks(block),
            fees_by_role=dict(by_role),
        )

    def contracts(self) -> dict[str, str]:
        """Contract name → address."""
        deployment = self._chain.deployment
        return {} if deployment is None else dict(deployment.addresses)

    def _blocks(self, newest: int) -> list[views.BlockRow]:
        rows = []
        for number in range(newest, max(-1, newest - _RECENT), -1):
            block = self._chain.w3.eth.get_block(number)
            rows.append(views.BlockRow(number, block["timestamp"], len(block["transactions"]), block["gasUsed"]))
        return rows

    def _time(self, block: int) -> int:
        return int(self._chain.w3.eth.get_block(block)["timestamp"])


def _statement(place: Placed) -> Statement:
    from openledger.attribution import Statement

    return Statement(str(place.value.get("question", "")), str(place.value.get("answer", "")))
