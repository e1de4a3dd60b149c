"""What the pages need of a node. :class:`openledger.node.service.Node` is one; anything with these methods will do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openledger.datanets import Record
    from openledger.node.signing_in import SigningIn
    from openledger.node.views import (
        AgentRow,
        AgentRunRow,
        AgentRunView,
        AgentStepRow,
        AgentView,
        Check,
        ContradictionRow,
        ContributionRow,
        DatanetRow,
        DatanetView,
        GovernanceView,
        ModelView,
        Overview,
        PayoutsView,
        ReceiptRow,
        ReceiptView,
        RecordView,
        Submission,
        SupplyView,
        TrainingProgress,
        VersionRow,
    )
    from openledger.node.wallets import WalletDesk
    from openledger.studio import ApiKey


class Views(Protocol):
    """The synchronous reads and acts of one node. Each may raise an ``OpenLedgerError``; the pages show its message."""

    @property
    def operator_token(self) -> str:
        """The secret that unlocks the acts on the pages (and in the HTTP API)."""
        ...

    @property
    def public_url(self) -> str:
        """The address under which people reach the pages; empty where it is the one that the server binds to."""
        ...

    @property
    def chain_id(self) -> int:
        """The chain's EIP-155 id."""
        ...

    @property
    def signing_in(self) -> SigningIn:
        """Knows people by their own wallets."""
        ...

    @property
    def wallets(self) -> WalletDesk:
        """The acts of people with their own wallets."""
        ...

    def overview(self) -> Overview:
        """The network at a glance."""
        ...

    def datanets(self) -> list[DatanetRow]:
        """All Datanets."""
        ...

    def datanet(self, number: int, /) -> DatanetView:
        """One Datanet."""
        ...

    def records(
        self, datanet: int, text: str = "", status: str = "", contributor: str = "", offset: int = 0, limit: int = 50, /
    ) -> tuple[list[RecordView], int]:
        """Records that fit (an empty filter fits all), and how many fit in all."""
        ...

    def record(self, digest: str, /) -> RecordView:
        """One record by its hash."""
        ...

    def contradiction(self, digest: str, /) -> ContradictionRow | None:
        """What accepted record a record speaks against, if any."""
        ...

    def models(self) -> list[ModelView]:
        """All registered models."""
        ...

    def model(self, number: int, /) -> ModelView:
        """One model."""
        ...

    def agent_rows(self) -> list[AgentRow]:
        """All registered agents."""
        ...

    def agent_view(self, number: int, /) -> AgentView:
        """One agent with its definition and runs."""
        ...

    def agent_run(self, number: int, /) -> AgentRunView:
        """One run of an agent."""
        ...

    def receipts(self, offset: int = 0, limit: int = 50, /) -> tuple[list[ReceiptRow], int]:
        """Receipts, newest first, and how many there are in all."""
        ...

    def receipt(self, name: str, viewer: str = "", /) -> ReceiptView:
        """One receipt with its explanation; what was not published only if the account ``viewer`` is its consumer."""
        ...

    def verify(self, name: str, /) -> list[Check]:
        """Recomputes one receipt from public data. Takes seconds."""
        ...

    def payouts(self) -> PayoutsView:
        """Batches, earnings and the payout root."""
        ...

    def supply(self) -> SupplyView:
        """The supply of OPEN and the demand from use."""
        ...

    def governance(self) -> GovernanceView:
        """Runtime parameters, proposals and voters."""
        ...

    def training(self) -> TrainingProgress | None:
        """The fine-tuning job under way or last done since the node came up; None where there was none."""
        ...

    def chat(self, model_name: str, messages: list[dict[str, str]], top_k: int, /) -> Iterator[str | ReceiptRow]:
        """Act: pieces of the model's answer to role/content messages, then its receipt as the last item."""
        ...

    def chat_agent(self, number: int, messages: list[dict[str, str]], /) -> Iterator[str | AgentStepRow | AgentRunRow]:
        """Act: runs an agent; its steps, pieces of its answer, then the run as the last item."""
        ...

    def create_key(self, cap: int, days: float, /) -> tuple[ApiKey, int, int]:
        """Act: an API key paid by this node's consumer account, its cap in wei and its expiry in Unix seconds."""
        ...

    def contribute(self, datanet: int, account: str, records: list[Record], licence: str, /) -> Submission:
        """Act: submits records as an account of this node, by its name in the key store."""
        ...

    def review(self, contribution: int, /) -> ContributionRow:
        """Act: has a contribution judged by the reviewers whose keys this node holds."""
        ...

    def anchor(self, datanet: int, /) -> VersionRow:
        """Act: anchors a Datanet's next version."""
        ...

    def settle(self) -> int:
        """Act: posts the receipts that wait, and pays out what may be paid; how many were posted."""
        ...

    def claim(self, address: str, /) -> int:
        """Act: claims what an account whose key this node holds has earned; the wei claimed."""
        ...

    def start_training(self, datanet: int, version: int, recipe: dict[str, Any], name: str, /) -> str:
        """Act: starts a fine-tuning job; its id."""
        ...

    def propose(self, key: str, value: int, description: str, /) -> str:
        """Act: proposes to set a runtime parameter; the proposal's id."""
        ...

    def vote(self, proposal: str, voter: str, support: str, /) -> object:
        """Act: votes ``for``, ``against`` or ``abstain`` with an account whose key this node holds."""
        ...

    def execute(self, proposal: str, /) -> str:
        """Act: queues or executes a proposal that was carried; its new state."""
        ...
