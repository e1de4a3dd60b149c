"""The tables of a node: what must survive a restart and is not on the chain or in the blobs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, ForeignKey, Index, Integer, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

HASH = String(66)
ADDRESS = String(42)
WEI = String(78)
"""Wei as decimal text: no database integer holds 256 bits."""


class Table(DeclarativeBase):
    """Base of all tables, with stable constraint names for migrations."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class ReceiptRecord(Table):
    """A signed receipt that was given to a consumer; ``body`` is public, ``explanation`` names a private blob."""

    __tablename__ = "receipts"

    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    id: Mapped[str] = mapped_column(HASH, unique=True)
    model: Mapped[int] = mapped_column(BigInteger, index=True)
    consumer: Mapped[str] = mapped_column(ADDRESS, index=True)
    time: Mapped[int] = mapped_column(BigInteger)
    body: Mapped[dict[str, object]] = mapped_column(JSON)
    explanation: Mapped[str] = mapped_column(HASH)


class VoucherRecord(Table):
    """The highest voucher that a consumer has signed for a host."""

    __tablename__ = "vouchers"

    consumer: Mapped[str] = mapped_column(ADDRESS, primary_key=True)
    host: Mapped[str] = mapped_column(ADDRESS, primary_key=True)
    cumulative: Mapped[str] = mapped_column(WEI)
    signature: Mapped[str] = mapped_column(String(132))


class ModelRecord(Table):
    """A registered model that this node serves; ``run`` is the blob folder of its training run and index."""

    __tablename__ = "models"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    base: Mapped[str] = mapped_column(Text)
    datanet: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[int] = mapped_column(Integer)
    run: Mapped[str] = mapped_column(HASH)
    meta: Mapped[dict[str, Any]] = mapped_column(JSON)


class VerdictRecord(Table):
    """One reviewer's verdict on one record of a contribution, with the reason; the chain holds the verdict alone."""

    __tablename__ = "verdicts"

    contribution: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    reviewer: Mapped[str] = mapped_column(ADDRESS, primary_key=True)
    accept: Mapped[bool] = mapped_column(Boolean)
    reason: Mapped[str] = mapped_column(Text)


class PartyRecord(Table):
    """A name for an address, as this node knows it."""

    __tablename__ = "parties"

    address: Mapped[str] = mapped_column(ADDRESS, primary_key=True)
    label: Mapped[str] = mapped_column(String(100))
    role: Mapped[str] = mapped_column(String(40))


class CreditRecord(Table):
    """One record's part in one receipt, for a contributor's view of a record's life."""

    __tablename__ = "credits"

    sequence: Mapped[int] = mapped_column(ForeignKey("receipts.sequence"), primary_key=True)
    record: Mapped[str] = mapped_column(HASH, primary_key=True, index=True)
    ppm: Mapped[int] = mapped_column(Integer)


class AgentRunRecord(Table):
    """One run of an agent. ``record`` is the hash of what it left behind, a private blob; amounts are wei."""

    __tablename__ = "agent_runs"

    number: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    agent: Mapped[int] = mapped_column(BigInteger, index=True)
    definition: Mapped[str] = mapped_column(HASH)
    consumer: Mapped[str] = mapped_column(ADDRESS, index=True)
    signer: Mapped[str] = mapped_column(ADDRESS, index=True)
    cause: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(20), index=True)
    started: Mapped[int] = mapped_column(BigInteger)
    ended: Mapped[int] = mapped_column(BigInteger)
    fee: Mapped[str] = mapped_column(WEI)
    price: Mapped[str] = mapped_column(WEI)
    payment: Mapped[str] = mapped_column(HASH)
    unpaid: Mapped[str] = mapped_column(Text)
    record: Mapped[str] = mapped_column(HASH)


class EventRecord(Table):
    """One event of one of our contracts. ``arguments`` by name: integers as decimal text, bytes as 0x hex."""

    __tablename__ = "chain_events"
    __table_args__ = (Index("ix_chain_events_contract_event", "contract", "event", "block", "position"),)

    block: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    block_hash: Mapped[str] = mapped_column(HASH)
    time: Mapped[int] = mapped_column(BigInteger)
    transaction: Mapped[str] = mapped_column(HASH, index=True)
    contract: Mapped[str] = mapped_column(String(100))
    address: Mapped[str] = mapped_column(ADDRESS)
    event: Mapped[str] = mapped_column(String(100))
    arguments: Mapped[dict[str, Any]] = mapped_column(JSON)


class CheckpointRecord(Table):
    """A block up to which all events are in ``chain_events``, by the hash that it had."""

    __tablename__ = "chain_checkpoints"

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    hash: Mapped[str] = mapped_column(HASH)


class StateRecord(Table):
    """Small facts of the node by name."""

    __tablename__ = "state"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    value: Mapped[object] = mapped_column(JSON)
