"""One running node: the chain it talks to, what it stores, what it serves, and the work it does beside."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from eth_account.signers.local import LocalAccount
from prometheus_client import generate_latest

from openledger import governance
from openledger.chain import Chain, Deployment, DevChain
from openledger.datanets import Record
from openledger.node import views
from openledger.node.access import AccessDesk
from openledger.node.accounts import Accounts
from openledger.node.agent_runs import AccountPurse, DatabaseRunBook, step_row
from openledger.node.agent_triggers import Autonomy
from openledger.node.agents import Roster
from openledger.node.appeals import Appeals
from openledger.node.audit import verify_here
from openledger.node.community import Community
from openledger.node.curating import Curation
from openledger.node.directory import Directory
from openledger.node.disputing import Court
from openledger.node.duties import Duty
from openledger.node.evaluations import attribution_rows
from openledger.node.home import Home
from openledger.node.market import MarketDesk
from openledger.node.people import CONSUMER, HOST, SETTLER, VALIDATORS
from openledger.node.reading import Reader
from openledger.node.settings import Settings
from openledger.node.settling import Settled, Settler
from openledger.node.signing_in import SigningIn
from openledger.node.wallets import WalletDesk
from openledger.openlora import Piece
from openledger.primitives import InputError, NotFoundError, OpenLedgerError, format_open
from openledger.settlement import (
    ChainEscrow,
    VoucherBook,
    claim,
    holder_of,
    next_sequence,
    rotate,
    set_claimer,
    set_session_key,
    sign_link,
)
from openledger.storage import BlobStore, Database, PartyRecord
from openledger.studio import (
    AgentAnswer,
    AgentService,
    ApiKey,
    DatabaseReceiptStore,
    DatabaseVoucherStore,
    InferenceService,
    Prompt,
    Sampling,
)

if TYPE_CHECKING:
    from openledger.node.serving import Shelf
    from openledger.node.training import Trainer

_LOG = logging.getLogger(__name__)

_PAGE_KEY_CAP = 100 * 10**18
_PAGE_KEY_DAYS = 30.0
_ESCROW_ANSWERS_SECONDS = 2.0


class Node:
    """A node over one home folder. Make one with :meth:`open`, and :meth:`close` it.

    The embedded chain runs inside; everything is safe to call from several threads.
    """

    def __init__(self, settings: Settings, home: Home, devchain: DevChain, chain: Chain) -> None:
        self.settings = settings
        self.home = home
        self.devchain = devchain
        self.chain = chain
        self.keys = devchain.keys
        self.operator_token = home.operator_token()
        self.blobs = BlobStore(settings.blobs)
        self.private = BlobStore(home.private)
        self.database = Database(settings.database)
        self.host: LocalAccount = self.keys.wallet(HOST)
        self._stop = threading.Event()
        self._duties: list[Duty] = []
        self._page_key: ApiKey | None = None
        self._page_lock = threading.Lock()

    @classmethod
    def open(cls, settings: Settings) -> Node:
        """Opens the network in the settings' home folder, which was set up before.

        Raises:
            ConfigurationError: another node has the folder, or a program that the chain needs is missing.
            NotFoundError: no network was set up there.
            StorageError: the chain's journal or the database is damaged.
        """
        home = Home(settings.home)
        home.acquire()
        try:
            if not home.founded():
                raise NotFoundError(f"no network in {home.path}; set one up with `openledger up` or `openledger demo`")
            devchain = DevChain(home.path).start()
            try:
                return cls(
                    settings, home, devchain, Chain(devchain.rpc_url, Deployment.load(home.path / "deployment.json"))
                )
            except BaseException:
                devchain.stop()
                raise
        except BaseException:
            home.release()
            raise

    def close(self) -> None:
        """Ends the background work, closes the database and the chain, and gives the folder back."""
        self._stop.set()
        if "trainer" in self.__dict__:
            self.trainer.stop()
        for duty in self._duties:
            duty.join()
        if "shelf" in self.__dict__:
            self.shelf.engine.close()
        self.database.close()
        self.devchain.stop()
        self.home.release()

    # ---- parts -----------------------------------------------------------------------------------------------

    @property
    def public_url(self) -> str:
        """The address under which people reach the pages; empty where it is the one that the server binds to."""
        return self.settings.public_url

    @property
    def chain_id(self) -> int:
        """The chain's EIP-155 id."""
        return self.chain.chain_id

    @cached_property
    def signing_in(self) -> SigningIn:
        """Knows people by their own wallets."""
        return SigningIn(self.chain, self.home.wallet_secret())

    @cached_property
    def wallets(self) -> WalletDesk:
        """The acts of people with their own wallets."""
        return WalletDesk(
            self.chain,
            self.blobs,
            self.database,
            self.reader,
            self.curation,
            self.accounts,
            self.escrow,
            self.book,
            lambda: self.inference,
            self.home.wallet_secret(),
            self.host.address,
        )

    @cached_property
    def receipts_store(self) -> DatabaseReceiptStore:
        """Where receipts are kept."""
        first = next_sequence(self.chain, self.host.address)
        return DatabaseReceiptStore(self.database, self.blobs, self.private, first_sequence=first)

    @cached_property
    def escrow(self) -> ChainEscrow:
        """Deposits and session keys on the chain."""
        return ChainEscrow(self.chain, keep=_ESCROW_ANSWERS_SECONDS)

    @cached_property
    def book(self) -> VoucherBook:
        """The vouchers that this host holds."""
        return VoucherBook(
            self.host.address,
            self.chain.domain("FeeEscrow"),
            self.escrow,
            DatabaseVoucherStore(self.database),
            clock=self.clock,
        )

    @cached_property
    def reader(self) -> Reader:
        """Answers the pages' questions."""
        return Reader(
            self.chain,
            self.blobs,
            self.database,
            self.receipts_store,
            lambda model, *question: self.shelf.model(model).heat(*question),
        )

    @cached_property
    def curation(self) -> Curation:
        """Contributes, reviews and anchors."""
        return Curation(self.chain, self.keys, self.blobs, self.database, self.reader.library, self.devchain.warp)

    @cached_property
    def appeals(self) -> Appeals:
        """Challenges of review decisions."""
        return Appeals(self.chain, self.keys, self.curation, self.reader.party)

    @cached_property
    def access(self) -> AccessDesk:
        """Access to Datanets, and the income from it."""
        return AccessDesk(self.chain, self.keys, self.blobs, self.reader.party)

    @cached_property
    def accounts(self) -> Accounts:
        """The accounts whose keys this node holds: their OPEN and their stakes."""
        return Accounts(self.chain, self.keys, self.reader.party)

    @cached_property
    def shelf(self) -> Shelf:
        """The models in memory."""
        from openledger.node.serving import Shelf

        return Shelf(
            self.settings.base or None,
            self.chain,
            self.blobs,
            self.home.work,
            self.reader.library,
            apart=self.settings.engine == "process",
            threads=self.settings.engine_threads,
        )

    @cached_property
    def inference(self) -> InferenceService:
        """Answers requests; the first use loads the models."""
        service = InferenceService(
            engine=self.shelf.engine,
            host=self.host,
            book=self.book,
            escrow=self.escrow,
            store=self.receipts_store,
            voucher_domain=self.chain.domain("FeeEscrow"),
            receipt_domain=self.chain.domain("InferenceLedger"),
            clock=self.clock,
        )
        for model in self.shelf.load_all(self.database):
            service.serve(model)
        return service

    @cached_property
    def settler(self) -> Settler:
        """Posts, attests and pays."""
        return Settler(
            self.chain,
            self.blobs,
            self.receipts_store,
            self.book,
            host=self.host,
            settler=self.keys.wallet(SETTLER),
            validators=[self.keys.wallet(name) for name in VALIDATORS],
            recompute=self.shelf.recompute,
            forget=self.escrow.forget,
            batch_size=self.settings.batch_size,
        )

    @cached_property
    def court(self) -> Court:
        """Disputes of receipts and payout roots."""
        wallets = [self.keys.wallet(name) for name in VALIDATORS]
        return Court(
            self.chain,
            self.blobs,
            self.receipts_store,
            self.shelf.recompute,
            host=self.host,
            settler=self.keys.wallet(SETTLER),
            examiner=self.settler.examiner,
            jurors=list(zip(wallets, self.settler.validators, strict=True)),
            party=self.reader.party,
        )

    @cached_property
    def market(self) -> MarketDesk:
        """Requests at InferenceMarket: answering them as this node's host, and making them."""
        return MarketDesk(
            self.chain,
            self.database,
            self.receipts_store,
            lambda: self.inference,
            self.agents,
            self.runs,
            host=self.host,
            party=self.reader.party,
        )

    @cached_property
    def directory(self) -> Directory:
        """Hosts and agents as they register themselves."""
        return Directory(self.chain, self.keys, self.blobs, self.reader.party)

    @cached_property
    def agents(self) -> Roster:
        """The agents that this node can run."""
        return Roster(self.reader.events, self.blobs)

    @cached_property
    def runs(self) -> DatabaseRunBook:
        """The runs of agents."""
        return DatabaseRunBook(self.database, self.blobs, self.private, self.reader.party)

    @cached_property
    def studio(self) -> AgentService:
        """Answers for models and agents."""
        from openledger.studio import McpServers

        inference = self.inference
        purse = AccountPurse(self.chain, self.keys, self.runs, inference.available)
        servers = McpServers(self.settings.mcp)
        return AgentService(inference, self.agents, self.runs, purse, servers, self.clock)

    @cached_property
    def autonomy(self) -> Autonomy:
        """Agents that run by themselves."""
        return Autonomy(
            self.chain, self.keys, self.database, self.reader.events, self.agents, self.runs, self.escrow,
            lambda: self.studio, self.clock,
        )  # fmt: skip

    @cached_property
    def community(self) -> Community:
        """The community's bootstrap."""
        return Community(self.chain, self.keys, self.blobs, self.database, self.reader.party)

    @cached_property
    def trainer(self) -> Trainer:
        """Runs fine-tuning jobs."""
        from openledger.node.training import Trainer

        return Trainer(self)

    def clock(self) -> float:
        """Unix seconds on the chain's time, which can run ahead of this machine's after a demo moved it."""
        return float(self.devchain.time)

    def metrics(self) -> bytes:
        """What Prometheus is told: the engine's figures once it is used."""
        return self.shelf.engine.exposition() if "shelf" in self.__dict__ else generate_latest()

    # ---- reading ---------------------------------------------------------------------------------------------

    def network(self) -> dict[str, Any]:
        """What a stranger needs to check this network: the chain's RPC and where the contracts are."""
        deployment = self.chain.deployment
        assert deployment is not None  # noqa: S101
        return {
            "chain_id": self.chain.chain_id,
            "rpc_url": self.devchain.rpc_url,
            "host": self.host.address,
            "base": self.settings.base,
            "deployment": (self.home.path / "deployment.json").read_text(),
        }

    def overview(self) -> views.Overview:
        """The network at a glance."""
        return self.reader.overview()

    def datanets(self) -> list[views.DatanetRow]:
        """All Datanets."""
        return self.reader.datanets()

    def datanet(self, number: int) -> views.DatanetView:
        """One Datanet."""
        return self.reader.datanet(number)

    def records(
        self, datanet: int, text: str = "", status: str = "", contributor: str = "", offset: int = 0, limit: int = 50
    ) -> tuple[list[views.RecordView], int]:
        """Records that fit, and how many fit in all."""
        return self.reader.records(datanet, text, status, contributor, offset, limit)

    def record(self, digest: str) -> views.RecordView:
        """One record by its hash."""
        return self.reader.record(digest)

    def contradiction(self, digest: str) -> views.ContradictionRow | None:
        """What accepted record a record speaks against, if any."""
        return self.reader.contradiction(digest)

    def models(self) -> list[views.ModelView]:
        """All models that this node serves."""
        return self.reader.models()

    def model(self, number: int) -> views.ModelView:
        """One model."""
        return self.reader.model(number)

    def agent_rows(self) -> list[views.AgentRow]:
        """Every registered agent."""
        return self.directory.agents()

    def agent_view(self, number: int) -> views.AgentView:
        """One agent with its definition and runs."""
        row, problem, definition, name = self.directory.agent(number), "", {}, ""
        try:
            found = self.agents.find(f"agent/{number}")
            definition, name = found.definition.document(), found.id
        except OpenLedgerError as error:
            problem = str(error)
        budget = None
        if definition.get("triggers"):
            with suppress(NotFoundError):  # the owner's key is not here
                budget = self.autonomy.budget(number)
        models = {model.id: model.name for model in self.models()}
        runs = self.runs.rows(number, 20)
        return views.AgentView(row, name, models.get(row.model, ""), definition, problem, runs, budget)

    def agent_run(self, number: int) -> views.AgentRunView:
        """One run of an agent."""
        return self.runs.view(number)

    def receipts(self, offset: int = 0, limit: int = 50) -> tuple[list[views.ReceiptRow], int]:
        """Receipts, newest first, and how many there are."""
        return self.reader.receipts(offset, limit)

    def receipt(self, name: str, viewer: str = "") -> views.ReceiptView:
        """One receipt with its explanation; what was not published only if the ``viewer`` is its consumer."""
        return self.reader.receipt(name, viewer)

    def receipt_body(self, name: str) -> dict[str, Any]:
        """The public body of a receipt."""
        return self.reader.receipt_body(name)

    def payouts(self) -> views.PayoutsView:
        """Batches, earnings and the payout root."""
        return self.reader.payouts()

    def supply(self) -> views.SupplyView:
        """The supply of OPEN against demand."""
        return self.reader.supply()

    def governance(self) -> views.GovernanceView:
        """Parameters, proposals and votes."""
        return self.reader.governance()

    def verify(self, name: str) -> list[views.Check]:
        """Recomputes one receipt from public data."""
        return verify_here(self, name)

    # ---- acting ----------------------------------------------------------------------------------------------

    def contribute(self, datanet: int, account: str, records: list[Record], licence: str) -> views.Submission:
        """Submits records as an account of this node, and tells what the gate noticed."""
        submitted = self.curation.contribute(datanet, account, records, licence)
        return views.Submission(submitted.id, len(records), views.gate_findings(submitted.report))

    def review(self, contribution: int, *, challengeable: bool = False) -> views.ContributionRow:
        """Has a contribution judged by the reviewers whose keys this node holds; see :meth:`Curation.review`."""
        self.curation.review(contribution, challengeable=challengeable)
        return self.reader.contribution(contribution)

    def anchor(self, datanet: int) -> views.VersionRow:
        """Anchors a Datanet's next version."""
        number = self.curation.anchor(datanet).number
        return next(version for version in self.reader.datanet(datanet).versions if version.number == number)

    def create_key(self, cap: int, days: float, models: Sequence[str] = ()) -> tuple[ApiKey, int, int]:
        """An API key paid by this node's consumer account: (key, cap in wei, expiry in Unix seconds).

        Args:
            models: names of the models that may be asked with it; none for all of them, those to come included.

        Raises:
            InputError: the cap or the lifetime is not positive.
            NotFoundError: no model of such a name.
        """
        if cap <= 0 or not 0 < days <= 3650:
            raise InputError(f"a key with a cap of {cap} wei for {days} days is worth nothing; both must be positive")
        consumer = self.keys.wallet(CONSUMER)
        numbers = {model.name: model.id for model in self.models()} if models else {}
        for name in models:
            if name not in numbers:
                raise NotFoundError(f"no model {name!r}; `openledger model list` shows them")
        key = ApiKey.create(consumer.address, [numbers[name] for name in models] if models else None)
        expiry = int(self.clock() + days * 86_400)
        set_session_key(self.chain, consumer, key.signer.address, cap, expiry)
        self.escrow.forget()
        return key, cap, expiry

    def default_sampling(self, name: str) -> Sampling | None:
        """How a model or agent samples where a request does not say; None for as all do."""
        return self.studio.defaults(name)

    def chat_agent(
        self, number: int, messages: list[dict[str, str]]
    ) -> Iterator[str | views.AgentStepRow | views.AgentRunRow]:
        """Runs an agent on the page, paid by this node's consumer account: its steps, its answer's text, then the run."""
        agent = self.agents.find(f"agent/{number}")
        for event in self.studio.run(agent, messages, self._pages_key(), publish=True):
            if isinstance(event, Piece):
                yield event.text
            elif isinstance(event, AgentAnswer):
                yield self.runs.view(event.run.number).row
            else:
                yield step_row(event.to_json(), shown=True)

    def _pages_key(self) -> ApiKey:
        with self._page_lock:
            if self._page_key is None:
                self._page_key, _, _ = self.create_key(_PAGE_KEY_CAP, _PAGE_KEY_DAYS)
            return self._page_key

    def chat(self, model_name: str, messages: list[dict[str, str]], top_k: int = 0) -> Iterator[str | views.ReceiptRow]:
        """Answers on the page, paid by this node's consumer account: pieces of text, then the receipt.

        Args:
            model_name: the model's name.
            messages: the dialogue.
            top_k: how many records are looked up for its last message.
        """
        prompt, sampling = Prompt.chat(messages, top_k), Sampling()
        for event in self.inference.answer(model_name, prompt, sampling, self._pages_key(), publish=True):
            if isinstance(event, Piece):
                yield event.text
            else:
                yield self.reader.receipt(event.receipt_id).row

    def settle(self) -> int:
        """Settles what waits; returns how many receipts were posted."""
        return self.settle_now().posted

    def settle_now(self) -> Settled:
        """Settles what waits, and tells what was done."""
        return self.settler.settle()

    def claim(self, address: str) -> int:
        """Claims what an account has earned, to that account; the settler pays the gas. Returns wei.

        Raises:
            InputError: the account has earned nothing.
            NotFoundError: there is nothing more to claim.
        """
        return claim(self.chain, self.keys.wallet(SETTLER), address, self.reader.active_payouts())

    def disputes(self) -> list[views.DisputeRow]:
        """All disputes, newest first."""
        return self.court.rows()

    def open_dispute(
        self, account: str, receipt: str, why: str, shares: list[tuple[str, int]] | None = None
    ) -> views.DisputeRow:
        """Challenges a receipt as an account whose key this node holds; see :meth:`Court.open`."""
        return self.court.open(self.keys.find(account), receipt, why, shares)

    def open_root_dispute(self, account: str, number: int, why: str) -> views.DisputeRow:
        """Challenges a payout root as an account whose key this node holds."""
        return self.court.open_root(self.keys.find(account), number, why)

    def answer_dispute(self, number: int, account: str = "") -> views.DisputeRow:
        """Answers a challenge, as this node's host if no account is named."""
        return self.court.answer(number, self.keys.find(account) if account else None)

    def advance_dispute(self, number: int) -> views.DisputeRow:
        """Does what can be done now in a dispute; see :meth:`Court.advance`."""
        return self.court.advance(number)

    def rotate_wallet(self, account: str, successor: str) -> str:
        """Moves an account's earnings to another wallet for good, both of whose keys this node holds; returns the holder."""
        old, new = self.keys.find(account), self.keys.find(successor)
        link, signature = sign_link(self.chain, old, new.address)
        rotate(self.chain, new, link, signature)
        return holder_of(self.chain, old.address)

    def delegate_claims(self, account: str, claimer: str) -> None:
        """Lets ``claimer`` claim for an account whose holder's key is here; the zero address takes it back."""
        set_claimer(self.chain, self.keys.find(holder_of(self.chain, account)), account, claimer)

    def start_training(self, datanet: int, version: int, recipe: dict[str, Any], name: str) -> str:
        """Starts a fine-tuning job in the background; returns its id."""
        return self.trainer.start(datanet, version, recipe, name)

    def training(self) -> views.TrainingProgress | None:
        """The newest fine-tuning job; None if none was started."""
        return self.trainer.progress()

    def propose(self, key: str, value: int, description: str) -> str:
        """Proposes to set one runtime parameter, as the first voter whose key this node holds; returns the id.

        Raises:
            InputError: an unknown parameter, or a value out of its bounds.
            NotFoundError: this node holds no voter's key.
        """
        return str(governance.propose_parameter(self.chain, self._voter(), key, value, description))

    def propose_evaluation(self, model: int, evaluation: dict[str, Any], description: str) -> str:
        """Publishes an audited evaluation of a model and proposes that the network accepts it; returns the proposal's id.

        Raises:
            InputError: it is no audit, or one of another adapter or index than the model's.
            NotFoundError: there is no such model, or this node holds no voter's key.
        """
        hashes = self.reader.model(model).hashes
        found = evaluation.get("attribution")
        if not isinstance(found, dict):
            raise InputError("the evaluation has no part `attribution`; `openledger attribution audit` writes it")
        attribution_rows(found)
        for name in ("adapter", "index"):
            if found.get(name) != hashes[name]:
                raise InputError(
                    f"this is an audit of the {name} {found.get(name)}, model {model} has {hashes[name]}; audit that one"
                )
        wallet = self._voter()
        digest = self.blobs.put_json(evaluation)
        return str(governance.propose_evaluation(self.chain, wallet, model, digest, description))

    def _voter(self) -> LocalAccount:
        """The account with the most votes whose key this node holds."""
        held = {self.keys.address(name): name for name in self.keys.names()}
        for power in governance.voters(self.chain):
            if power.account in held:
                return self.keys.wallet(held[power.account])
        raise NotFoundError("this node holds the key of no account with votes; wrap and delegate gOPEN first")

    def vote(self, proposal: str, voter: str, support: str) -> None:
        """Votes as an account whose key this node holds.

        Raises:
            InputError: the support is no such word, or the proposal's id is no number.
            NotFoundError: the key is not here.
        """
        if support.upper() not in governance.Support.__members__:
            raise InputError(f"{support!r} is no vote; say for, against or abstain")
        wallet = self.keys.find(voter)
        governance.vote(self.chain, wallet, governance.proposal_number(proposal), governance.Support[support.upper()])

    def proposal_state(self, proposal: str) -> str:
        """Where a proposal stands."""
        return governance.state(self.chain, governance.proposal_number(proposal)).name.lower()

    def execute(self, proposal: str) -> str:
        """Queues a proposal that passed, or executes one whose delay is over; returns its new state.

        Raises:
            InputError: it neither passed nor is queued.
        """
        number = governance.proposal_number(proposal)
        state = governance.state(self.chain, number)
        if state is governance.ProposalState.SUCCEEDED:
            governance.queue(self.chain, self.host, number)
        elif state is governance.ProposalState.QUEUED:
            governance.execute(self.chain, self.host, number)
        else:
            raise InputError(
                f"the proposal is {state.name.lower()}; one that succeeded can be queued, and one that is queued executed"
            )
        return self.proposal_state(proposal)

    def name_party(self, address: str, label: str, role: str) -> None:
        """Gives an account the name that pages show."""
        with self.database.session() as session:
            session.merge(PartyRecord(address=address, label=label, role=role))

    def start_work(self, report: Callable[[str], None] = lambda _: None) -> None:
        """Does in the background until the node closes what a host, settler and validator have to do: settles every
        ``settle_seconds``, and looks at the market, at agents and at disputes every ``watch_seconds`` unless the settings say no.
        ``report`` is told what was done, in words.
        """

        def settle() -> None:
            if (settled := self.settle_now()).posted:
                report(f"settled {settled.posted} receipts in payout root {settled.root}")

        def serve() -> None:
            for done in self.market.tend():
                report(f"answered request {done.request} of the market for {format_open(done.fee, 6)} OPEN")

        def run_agents() -> None:
            for run in self.autonomy.tend():
                report(f"agent {run.agent} ran by itself ({run.cause}) for {format_open(run.fee, 6)} OPEN")

        def attend() -> None:
            for row in self.court.attend():
                report(f"dispute {row.number} is {row.state}")

        watch = self.settings.watch_seconds
        self._duties = [Duty("settling", self.settings.settle_seconds, settle, self._stop)]
        if self.settings.answer_market:
            self._duties.append(Duty("the market", watch, serve, self._stop))
        if self.settings.run_agents:
            self._duties.append(Duty("agents", watch, run_agents, self._stop))
        if self.settings.answer_disputes:
            self._duties.append(Duty("disputes", watch, attend, self._stop))
