"""What an agent is: instructions, model, tools and limits in one canonical document, named by its hash.

The document is a public blob. An agent's registration file on the chain names its hash, so anyone can check which instructions
answered; other instructions are another hash. Every model call of an agent commits to that hash in its receipt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from openledger.openlora import Sampling
from openledger.primitives import InputError, NotFoundError, parse_open, record_hash, to_hex
from openledger.storage import BlobStore
from openledger.studio.inference import AgentReference, Prompt
from openledger.studio.passages import MAX_LOOKED_UP

AGENT_PREFIX = "agent"
QUESTION = "{question}"
"""Stands for what was asked, in a planned call's arguments."""
MOST_STEPS = 16

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")]
McpName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,63}$")]
Line = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]
Text = Annotated[str, StringConstraints(max_length=20_000)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SearchTool(_Part):
    """Search in the accepted records of the model's Datanet version."""

    kind: Literal["search"]
    top_k: int = Field(default=3, ge=1, le=MAX_LOOKED_UP)


class AskTool(_Part):
    """Ask another model, or another agent, of this network by its number."""

    kind: Literal["ask"]
    model: int | None = Field(default=None, ge=1)
    agent: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one(self) -> AskTool:
        if (self.model is None) == (self.agent is None):
            raise ValueError("name a model or an agent, one of the two")
        return self


class McpTool(_Part):
    """Tools of an MCP server, by the name that the node's operator has given it."""

    kind: Literal["mcp"]
    server: Name
    tools: tuple[McpName, ...] = Field(min_length=1, max_length=16)


AgentTool = Annotated[SearchTool | AskTool | McpTool, Field(discriminator="kind")]


class PlannedCall(_Part):
    """A step that is always taken: a call of this tool, with these arguments, or with those that the model writes."""

    tool: str = Field(min_length=1, max_length=100)
    arguments: dict[str, Any] | None = None

    def filled(self, question: str) -> dict[str, Any] | None:
        """The arguments with what was asked in its place."""
        if self.arguments is None:
            return None
        return {name: question if value == QUESTION else value for name, value in self.arguments.items()}


class AgentSampling(_Part):
    """How the agent's model writes where a request does not say."""

    max_tokens: int = Field(default=96, ge=1, le=8192)
    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    stop: tuple[Annotated[str, StringConstraints(min_length=1, max_length=100)], ...] = Field(default=(), max_length=4)


class Limits(_Part):
    """What one run may take: model calls, OPEN beside the agent's own price, seconds, characters of one tool's result."""

    steps: int = Field(default=4, ge=1, le=MOST_STEPS)
    spend: str = "0.1"
    seconds: int = Field(default=120, ge=1, le=600)
    result_characters: int = Field(default=600, ge=40, le=20_000)

    @model_validator(mode="after")
    def _spend(self) -> Limits:
        try:
            spend = parse_open(self.spend)
        except InputError as error:
            raise ValueError(f"spend: {error}") from error
        if spend <= 0:
            raise ValueError("spend must be more than 0 OPEN")
        return self


class Schedule(_Part):
    """Runs every so many seconds."""

    kind: Literal["schedule"]
    seconds: int = Field(ge=60, le=30 * 86_400)
    question: Line


class NewVersion(_Part):
    """Runs when a Datanet has a new accepted version."""

    kind: Literal["version"]
    datanet: int = Field(ge=1)
    question: Line


Trigger = Annotated[Schedule | NewVersion, Field(discriminator="kind")]


class AgentDefinition(_Part):
    """An agent's definition; ``document()`` is what is hashed and published.

    Attributes:
        name: what people ask it by.
        description: what it does.
        instructions: its system prompt.
        model: the number of its model on the chain.
        sampling: how its model writes.
        retrieval: how many records are looked up for a question and put before it; 0 for none.
        tools: what it may use.
        plan: its first steps, whatever the model would do.
        limits: of one run.
        triggers: when it runs unasked.
    """

    type: Literal["openledger/agent/1"] = "openledger/agent/1"
    name: Name
    description: Annotated[str, StringConstraints(max_length=1_000)] = ""
    instructions: Text = ""
    model: int = Field(ge=1)
    sampling: AgentSampling = AgentSampling()
    retrieval: int = Field(default=0, ge=0, le=MAX_LOOKED_UP)
    tools: tuple[AgentTool, ...] = Field(default=(), max_length=16)
    plan: tuple[PlannedCall, ...] = Field(default=(), max_length=MOST_STEPS - 1)
    limits: Limits = Limits()
    triggers: tuple[Trigger, ...] = Field(default=(), max_length=4)

    @model_validator(mode="after")
    def _consistent(self) -> AgentDefinition:
        names = [name for tool in self.tools for name in tool_names(tool)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the tool {twice[0]} stands twice among its tools; keep one")
        for call in self.plan:
            if call.tool not in names:
                raise ValueError(
                    f"the plan calls {call.tool!r}, which is none of its tools ({', '.join(names) or 'none'})"
                )
        if len(self.plan) >= self.limits.steps:
            raise ValueError(
                f"{len(self.plan)} planned steps leave none of {self.limits.steps} for the answer; raise limits.steps"
            )
        return self

    @classmethod
    def read(cls, document: Any) -> AgentDefinition:
        """The definition that a JSON object describes; what it leaves out has its default.

        Raises:
            InputError: a field is missing, unknown or out of range; the message names it.
        """
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "it"
            raise InputError(f"the agent's definition: {place}: {first['msg']}") from error

    def document(self) -> dict[str, Any]:
        """The whole definition as JSON, defaults included."""
        return self.model_dump(mode="json")

    @cached_property
    def digest(self) -> bytes:
        """The hash that names it: keccak-256 of its canonical JSON."""
        return record_hash(self.document())

    def asked(self, number: int, messages: Sequence[Mapping[str, str]], top_k: int | None = None) -> Prompt:
        """A dialogue as this agent is asked it; ``number`` is the agent's on the chain."""
        reference = AgentReference(number, self.digest)
        return Prompt.chat(messages, self.retrieval if top_k is None else top_k, reference)

    def written(self) -> Sampling:
        """Its sampling."""
        own = self.sampling
        return Sampling(max_tokens=own.max_tokens, temperature=own.temperature, top_p=own.top_p, stop=own.stop)


def tool_names(tool: SearchTool | AskTool | McpTool) -> tuple[str, ...]:
    """What the model calls a tool by."""
    match tool:
        case SearchTool():
            return ("search",)
        case AskTool(model=None):
            return (f"ask_agent_{tool.agent}",)
        case AskTool():
            return (f"ask_model_{tool.model}",)
        case McpTool():
            return tuple(f"{tool.server}_{name}" for name in tool.tools)


def read_definition(blobs: BlobStore, digest: bytes) -> AgentDefinition:
    """The published definition of that hash.

    Raises:
        NotFoundError: it is not published here.
        InputError: it is no definition, or not in its one canonical form.
    """
    try:
        found = AgentDefinition.read(blobs.get_json(digest))
    except NotFoundError:
        raise NotFoundError(
            f"the agent's definition {to_hex(digest)} is not published here; its owner has to"
        ) from None
    if found.digest != digest:
        raise InputError(
            f"the definition {to_hex(digest)} leaves out defaults or is not canonical (RFC 8785), so its meaning could change; "
            "publish it with `openledger agent deploy`"
        )
    return found


@dataclass(frozen=True)
class DeployedAgent:
    """A registered agent whose definition is known: ``price`` in wei a call, paid to ``wallet``."""

    number: int
    definition: AgentDefinition
    owner: str
    wallet: str | None
    price: int
    named: bool
    """Whether it is the first agent of its name, which the name then means."""

    @property
    def id(self) -> str:
        """What it is asked by over the API."""
        return f"{AGENT_PREFIX}:{self.definition.name}" if self.named else f"{AGENT_PREFIX}/{self.number}"


def named_agent(name: str) -> int | str | None:
    """The number or name in ``agent/NUMBER`` or ``agent:NAME``; None if it names no agent."""
    if name.startswith(f"{AGENT_PREFIX}/") and name[6:].isdecimal() and len(name) < 26:
        return int(name[6:])
    return name[6:] if name.startswith(f"{AGENT_PREFIX}:") else None
