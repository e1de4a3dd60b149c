"""How one MCP server is reached, as an operator configures it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator


class McpServer(BaseModel):
    """One MCP server: a program with its arguments, or an address."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: tuple[str, ...] = ()
    url: str = Field("", pattern=r"^(https?://.+)?$")
    environment: dict[str, SecretStr] = Field(default_factory=dict)
    """Added to a program's environment, which is otherwise all but empty."""
    seconds: float = Field(30.0, gt=0, le=300)
    """For connecting and one call together."""

    @model_validator(mode="after")
    def _one(self) -> McpServer:
        if bool(self.command) == bool(self.url):
            raise ValueError("give a command or a url, one of the two")
        return self
