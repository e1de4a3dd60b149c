"""Runs of agents."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

HASH, ADDRESS, WEI = sa.String(66), sa.String(42), sa.String(78)


def upgrade() -> None:
    op.create_table(
        "agent_runs",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("agent", sa.BigInteger(), nullable=False),
        sa.Column("definition", HASH, nullable=False),
        sa.Column("consumer", ADDRESS, nullable=False),
        sa.Column("signer", ADDRESS, nullable=False),
        sa.Column("cause", sa.String(20), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("started", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=False),
        sa.Column("fee", WEI, nullable=False),
        sa.Column("price", WEI, nullable=False),
        sa.Column("payment", HASH, nullable=False),
        sa.Column("unpaid", sa.Text(), nullable=False),
        sa.Column("record", HASH, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_agent_runs"),
    )
    for column in ("agent", "consumer", "signer", "state"):
        op.create_index(f"ix_agent_runs_{column}", "agent_runs", [column])


def downgrade() -> None:
    op.drop_table("agent_runs")
