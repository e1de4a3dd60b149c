"""Alembic migrations of the node's database; applied when a :class:`~openledger.storage.Database` is opened."""
