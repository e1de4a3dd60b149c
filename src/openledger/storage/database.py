"""The node's database: SQLite by default, PostgreSQL by URL, the same tables and migrations on both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from openledger.primitives import StorageError
from openledger.storage.tables import StateRecord


class Database:
    """The tables of :mod:`openledger.storage.tables` behind one SQLAlchemy URL, migrated when it is opened.

    On SQLite a commit is on the disk when it returns (WAL, ``synchronous=FULL``).

    Raises:
        StorageError: the database cannot be opened or migrated.
    """

    def __init__(self, url: str) -> None:
        try:
            self._engine: Engine = create_engine(url, pool_pre_ping=True)
            if self._engine.dialect.name == "sqlite":
                event.listen(self._engine, "connect", _durable)
            self._migrate()
        except SQLAlchemyError as error:
            raise StorageError(f"could not open the database: {_reason(error)}; check its place and rights") from error

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Raises:
            StorageError: the database refused; nothing of the block was written.
        """
        try:
            with Session(self._engine, expire_on_commit=False) as session, session.begin():
                yield session
        except SQLAlchemyError as error:
            raise StorageError(
                f"the database refused, nothing was written: {_reason(error)}; mend that (a full disk, say) and try again"
            ) from error

    def state(self, name: str, default: Any = None) -> Any:
        """The small fact stored under ``name``, or ``default``."""
        with self.session() as session:
            found = session.get(StateRecord, name)
            return default if found is None else found.value

    def set_state(self, name: str, value: Any) -> None:
        """Stores a small JSON fact under ``name``."""
        with self.session() as session:
            session.merge(StateRecord(name=name, value=value))

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self._engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _durable(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()


def _reason(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]
