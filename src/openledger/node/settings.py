"""Everything that can be configured, in one typed object: from the environment, or from one TOML file.

The environment wins over the file. A variable is ``OPENLEDGER_`` and the field's name in capitals; the file is
``openledger.toml`` in the working folder, or the one named by ``OPENLEDGER_CONFIG``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from openledger.primitives import ConfigurationError
from openledger.studio import McpServer

_PREFIX = "OPENLEDGER_"


def _data_folder() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "openledger"


def demo_home() -> Path:
    """Where `openledger demo` sets its network up: the home that was named, or a folder of its own."""
    named = os.environ.get(f"{_PREFIX}HOME")
    return Path(named) if named else _data_folder() / "demo"


def _default_home() -> Path:
    """The network's folder; the demo's while there is no other network."""
    network = _data_folder() / "network"
    finished_demo = demo_home() / "founded.json"
    return demo_home() if not (network / "founded.json").exists() and finished_demo.exists() else network


class Settings(BaseSettings):
    """The settings of a node and of the commands that talk to it."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="forbid", frozen=True)

    home: Path = Field(
        default_factory=_default_home,
        description="folder of the network's state; the demo's while there is no other network",
    )
    host: str = Field("127.0.0.1", description="address that the page and API bind to")
    port: int = Field(8600, ge=0, le=65535, description="port of the page and API; 0 takes a free one")
    public_url: str = Field(
        "",
        pattern=r"^(https?://[^/\s]+)?$",
        description="address under which people reach the pages, such as https://open.example; empty is the address that it "
        "binds to. Behind a proxy, wallets can sign in and reach the chain only where this is set",
    )
    database_url: str = Field("", description="SQLAlchemy URL; empty is SQLite in the home folder")
    blobs_url: str = Field("", description="fsspec URL of the public blobs; empty is a folder in the home folder")
    base: str = Field("", description="base model by folder or hub id; empty is the one that ships with OpenLedger")
    engine: Literal["process", "thread"] = Field(
        "process",
        description="where answers are generated: a process of its own, which is started again when it dies, or a thread of "
        "the node, which takes about 0.5 GiB less memory and takes the node with it when it dies",
    )
    engine_threads: int = Field(
        1,
        ge=1,
        le=1024,
        description="threads that generate an answer, up to the processors; any number gives the same bits",
    )
    bootstrap: Path | None = Field(
        None, description="CSV or JSON list of accounts that a new network's community gives OPEN to; none if left out"
    )
    settle_seconds: int = Field(60, ge=1, description="seconds between batches while the node is up")
    watch_seconds: int = Field(5, ge=1, description="seconds between looks at the market and at disputes")
    answer_market: bool = Field(True, description="answer requests at InferenceMarket while the node is up")
    run_agents: bool = Field(True, description="run agents by their triggers, whose owners set something aside")
    answer_disputes: bool = Field(
        True, description="answer challenges of what this node signed if it is right, and vote with its validators"
    )
    mcp: dict[str, McpServer] = Field(
        default_factory=dict,
        description="MCP servers whose tools agents may be given, by name; in the file [mcp.clock] with command or url",
    )
    batch_size: int = Field(2000, ge=1, le=4000, description="most receipts in one batch")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        path = Path(os.environ.get(f"{_PREFIX}CONFIG") or "openledger.toml")
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, path)

    @property
    def database(self) -> str:
        """The database's SQLAlchemy URL."""
        return self.database_url or f"sqlite:///{self.home / 'node.sqlite'}"

    @property
    def blobs(self) -> str:
        """The public blobs' location."""
        return self.blobs_url or str(self.home / "blobs")


def load_settings(**overrides: Any) -> Settings:
    """The settings in force; an override of None leaves the field as it is.

    Raises:
        ConfigurationError: a value is out of range or a name is unknown; the message says which and where from.
    """
    named = os.environ.get(f"{_PREFIX}CONFIG")
    if named and not Path(named).is_file():
        raise ConfigurationError(f"{_PREFIX}CONFIG names {named!r}, which is no file; unset it or give the right path")
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(
            f"the setting {name!r} is {first.get('input')!r}: {first['msg']}; see `openledger config`"
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"the settings file is not TOML: {error}") from error
