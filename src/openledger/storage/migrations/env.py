"""Alembic's entry point: runs the migrations on the connection that it is handed."""

from alembic import context

from openledger.storage.tables import Table

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Table.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
