"""Contract events and how far they were read."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

HASH, ADDRESS = sa.String(66), sa.String(42)


def upgrade() -> None:
    op.create_table(
        "chain_events",
        sa.Column("block", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("block_hash", HASH, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("transaction", HASH, nullable=False),
        sa.Column("contract", sa.String(100), nullable=False),
        sa.Column("address", ADDRESS, nullable=False),
        sa.Column("event", sa.String(100), nullable=False),
        sa.Column("arguments", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("block", "position", name="pk_chain_events"),
    )
    op.create_index("ix_chain_events_contract_event", "chain_events", ["contract", "event", "block", "position"])
    op.create_index("ix_chain_events_transaction", "chain_events", ["transaction"])
    op.create_table(
        "chain_checkpoints",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", HASH, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_chain_checkpoints"),
    )


def downgrade() -> None:
    op.drop_table("chain_checkpoints")
    op.drop_table("chain_events")
