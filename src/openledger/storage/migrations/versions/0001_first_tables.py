"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

HASH, ADDRESS, WEI = sa.String(66), sa.String(42), sa.String(78)


def upgrade() -> None:
    op.create_table(
        "receipts",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", HASH, nullable=False),
        sa.Column("model", sa.BigInteger(), nullable=False),
        sa.Column("consumer", ADDRESS, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("explanation", HASH, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_receipts"),
        sa.UniqueConstraint("id", name="uq_receipts_id"),
    )
    op.create_index("ix_receipts_model", "receipts", ["model"])
    op.create_index("ix_receipts_consumer", "receipts", ["consumer"])
    op.create_table(
        "vouchers",
        sa.Column("consumer", ADDRESS, nullable=False),
        sa.Column("host", ADDRESS, nullable=False),
        sa.Column("cumulative", WEI, nullable=False),
        sa.Column("signature", sa.String(132), nullable=False),
        sa.PrimaryKeyConstraint("consumer", "host", name="pk_vouchers"),
    )
    op.create_table(
        "models",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("datanet", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("run", HASH, nullable=False),
        sa.Column("meta", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
        sa.UniqueConstraint("name", name="uq_models_name"),
    )
    op.create_table(
        "verdicts",
        sa.Column("contribution", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("reviewer", ADDRESS, nullable=False),
        sa.Column("accept", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("contribution", "position", "reviewer", name="pk_verdicts"),
    )
    op.create_table(
        "parties",
        sa.Column("address", ADDRESS, nullable=False),
        sa.Column("label", sa.String(100), nullable=False),
        sa.Column("role", sa.String(40), nullable=False),
        sa.PrimaryKeyConstraint("address", name="pk_parties"),
    )
    op.create_table(
        "credits",
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("record", HASH, nullable=False),
        sa.Column("ppm", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["sequence"], ["receipts.sequence"], name="fk_credits_sequence_receipts"),
        sa.PrimaryKeyConstraint("sequence", "record", name="pk_credits"),
    )
    op.create_index("ix_credits_record", "credits", ["record"])
    op.create_table(
        "state",
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_state"),
    )


def downgrade() -> None:
    for table in ("state", "credits", "parties", "verdicts", "models", "vouchers", "receipts"):
        op.drop_table(table)
