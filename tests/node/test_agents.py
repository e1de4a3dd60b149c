"""Agents on a real network with a real model: deployed by their definition, run, asked, paid and verified."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from openledger.cli.app import app
from openledger.node.server import Server
from openledger.node.service import Node
from openledger.primitives import InputError, NotFoundError, OpenLedgerError

pytestmark = pytest.mark.chain
Deploy = Callable[..., int]


def command(server: Server, *arguments: object) -> Any:
    done = CliRunner().invoke(app, [*map(str, arguments), "--home", str(server.node.home.path)])
    if isinstance(done.exception, OpenLedgerError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def deploy(server: Server, tmp_path: Path) -> Deploy:
    """``deploy(name=…, …)`` → the new agent's number, deployed from a file by the command line."""

    def deploy(price: str = "0", **definition: Any) -> int:
        file = tmp_path / "agent.json"
        file.write_text(json.dumps({"name": "helper", "model": 1, "sampling": {"max_tokens": 8}, **definition}))
        [row] = command(server, "agent", "deploy", file, "--as", "ada", "--price", price, "--json")
        return int(row["number"])

    return deploy


def test_an_agent_is_deployed_by_its_definition_and_another_definition_is_another_hash_on_the_chain(
    server: Server, node: Node, deploy: Deploy, tmp_path: Path
) -> None:
    number = deploy(name="first", instructions="Be brief.", price="0.25")
    row = node.directory.agent(number)
    definition = node.agents.definition(number)
    assert (row.name, row.definition, row.model) == ("first", "0x" + definition.digest.hex(), 1)
    assert definition.instructions == "Be brief."
    assert command(server, "agent", "definition", number) == definition.document()
    assert node.agents.find("agent:first").number == node.agents.find(f"agent/{number}").number == number

    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps({**definition.document(), "instructions": "Be long."}))
    [after] = command(server, "agent", "update", number, changed, "--json")
    assert after["definition"] != row.definition
    assert (after["uri"] != row.uri, after["price"]) == (True, str(row.price))
    assert node.agents.definition(number).instructions == "Be long."


def test_a_name_means_the_first_agent_that_has_it(node: Node, deploy: Deploy) -> None:
    first, second = deploy(name="twice"), deploy(name="twice")
    assert node.agents.find("agent:twice").number == first
    assert node.agents.find(f"agent/{second}").id == f"agent/{second}"


def test_an_agent_of_a_model_that_is_not_there_is_not_registered(node: Node, deploy: Deploy) -> None:
    before = len(node.directory.agents())
    with pytest.raises(NotFoundError, match="no model 9"):
        deploy(model=9)
    assert len(node.directory.agents()) == before


def test_an_agent_whose_terms_name_another_model_than_its_definition_is_not_run(node: Node, deploy: Deploy) -> None:
    number = deploy(name="torn")
    node.directory.set_terms(number, 0, 0)
    with pytest.raises(InputError, match="names model 1 and its terms model 0"):
        node.agents.find(f"agent/{number}")
    with pytest.raises(NotFoundError, match="no agent"):
        node.agents.find("agent:torn")


def test_an_agent_that_answers_elsewhere_has_no_definition(node: Node) -> None:
    number = node.directory.register_agent("ada", "Elsewhere", "by its own means").number
    with pytest.raises(NotFoundError, match="has no definition"):
        node.agents.definition(number)
