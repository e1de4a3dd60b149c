"""Hosts, agents, the market's list and the community's bootstrap from the command line, on a running node without a model."""

from __future__ import annotations

import pytest

from openledger.node.server import Server
from openledger.primitives import WEI_PER_OPEN, InputError, NotFoundError, OpenLedgerError
from tests.cli.conftest import Run
from tests.small import BOOTSTRAP

pytestmark = pytest.mark.chain


def test_a_host_is_listed_with_its_stake_and_retires(run: Run, server: Server) -> None:
    for address in ("javascript:alert(1)", "https://", "host.example/v1", "http://a b/", "http://[::1"):
        with pytest.raises(InputError, match="is no address of a host"):
            run("host", "register", address)
    [row] = run("host", "register", "http://127.0.0.1:8600/v1", "--profile", "two cores")
    assert (row["listed"], row["party"]["address"]) == (True, server.node.host.address)
    with pytest.raises(OpenLedgerError, match="HostNotActive"):
        run("host", "register", "http://127.0.0.1:1/v1", "--as", "ada")
    with pytest.raises(OpenLedgerError, match="UnknownModel"):
        run("host", "serve", 7)
    [row] = run("host", "retire")
    assert not row["listed"]
    assert [found["uri"] for found in run("host", "list")] == ["http://127.0.0.1:8600/v1"]


def test_an_agent_has_a_file_a_wallet_that_consents_a_price_and_stake(run: Run, server: Server) -> None:
    [made] = run("agent", "register", "Triage", "--as", "ada", "--description", "sorts reports", "--price", "0.5")
    assert (made["name"], made["description"], made["active"]) == ("Triage", "sorts reports", False)
    run("account", "stake", "agent", 10, "--as", "boris")
    [moved] = run("agent", "wallet", made["number"], "boris")
    assert (moved["wallet"]["address"], moved["active"]) == (server.node.keys.address("boris"), True)
    [priced] = run("agent", "terms", made["number"], "--model", 0, "--price", 2)
    assert priced["price"] == str(2 * WEI_PER_OPEN)
    assert run("agent", "show", made["number"]) == [priced]
    assert run("agent", "list") == [priced]
    with pytest.raises(NotFoundError, match="no agent 9"):
        run("agent", "show", 9)


def test_a_market_without_requests_or_models_says_so(run: Run) -> None:
    assert run("market", "list") == []
    with pytest.raises(NotFoundError, match="no request 1"):
        run("market", "show", 1)
    with pytest.raises(NotFoundError, match="no model"):
        run("market", "ask", "Why?", "--as", "consumer")


def test_the_communitys_list_is_shown_and_claimed(run: Run, server: Server) -> None:
    account, amount = BOOTSTRAP.grants[0]
    shown = run("community", "show")
    assert [(row["account"]["address"], row["amount"]) for row in shown["accounts"]] == [
        (holder, str(wei)) for holder, wei in BOOTSTRAP.grants
    ]
    assert run("community", "claim", account)["wei"] == str(amount)
    assert server.node.chain.balance(account) == amount
    assert run("community", "show")["accounts"][0]["claimed"]
    with pytest.raises(OpenLedgerError, match="DistributionRunning"):
        run("community", "return")
    server.node.devchain.warp(86_401)
    assert run("community", "return")["wei"] == str(BOOTSTRAP.total - amount)
