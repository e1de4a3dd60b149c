"""What people do around a Datanet from the command line, on a running node: challenge, appeal, remove, ask for access, stake."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from openledger.datanets import load_datanet, load_records
from openledger.node.server import Server
from openledger.primitives import WEI_PER_OPEN, InputError, NotFoundError, RevertError
from tests.cli.conftest import Run

pytestmark = pytest.mark.chain


_FRESH = itertools.count(10, 3)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Three records that nobody contributed before."""
    place = next(_FRESH)
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(dict(record.value)) for record in load_records()[place : place + 3]))
    return path


def decided(run: Run, rows: Path) -> int:
    number = int(run("datanet", "submit", rows, "--as", "boris")["id"])
    assert run("datanet", "review", number, "--challengeable")["state"] == "decided"
    return number


def balance(server: Server, name: str) -> int:
    return server.node.chain.balance(server.node.keys.address(name))


def test_a_decision_that_nobody_challenges_is_made_final(run: Run, rows: Path) -> None:
    number = decided(run, rows)
    assert run("datanet", "finalise", number)["state"] == "finalised"


def test_a_wrong_challenge_loses_its_bond_to_the_defender_and_the_jury(run: Run, server: Server, rows: Path) -> None:
    number = decided(run, rows)
    [raised] = run("datanet", "challenge", number, 1, 3, "--as", "ada")
    assert (raised["rows"], raised["bond"], raised["defender"]) == ([1, 3], str(WEI_PER_OPEN // 5), None)
    before = balance(server, "owner")
    run("datanet", "defend", number, 1, "--as", "owner")
    [settled] = run("datanet", "appeal", number)
    assert settled["settled"]
    assert run("datanet", "show", 1)["contributions"][-1]["accepted"] == 3
    assert before < balance(server, "owner") <= before + WEI_PER_OPEN // 10


def test_a_challenged_decision_is_not_final_before_the_appeal(run: Run, rows: Path) -> None:
    number = decided(run, rows)
    run("datanet", "challenge", number, 2, "--as", "ada")
    with pytest.raises(RevertError, match="AppealPending"):
        run("datanet", "finalise", number)
    assert [row["number"] for row in run("datanet", "challenges", number)] == [1]


def test_an_appeal_without_enough_reviewers_says_so_and_lapses(run: Run, server: Server, rows: Path) -> None:
    number = decided(run, rows)
    run("datanet", "challenge", number, 1, "--as", "ada")
    stakers = [f"reviewer{place}" for place in range(8)]
    for name in stakers:
        run("account", "unstake", "reviewer", 2_000, "--as", name)
    with pytest.raises(match="no larger jury decided"):
        run("datanet", "appeal", number)
    before = balance(server, "ada")
    [row] = run("datanet", "appeal", number, "--lapse")
    assert row["settled"]
    assert balance(server, "ada") == before + WEI_PER_OPEN // 10
    for name in stakers:
        run("account", "stake", "reviewer", 2_000, "--as", name)


def test_rows_are_counted_from_one_and_a_reviewer_takes_no_side(run: Run, rows: Path) -> None:
    number = decided(run, rows)
    with pytest.raises(InputError, match="from 1"):
        run("datanet", "challenge", number, 0, "--as", "ada")
    with pytest.raises(InputError, match="there is none at 3"):
        run("datanet", "challenge", number, 4, "--as", "ada")
    with pytest.raises(RevertError, match="PartyIsReviewer"):
        run("datanet", "challenge", number, 1, "--as", "rosa")
    with pytest.raises(NotFoundError, match="nobody"):
        run("datanet", "challenge", number, 1, "--as", "nobody")


def test_a_removed_record_is_in_no_later_version(run: Run) -> None:
    record = run("datanet", "records", 1, "--status", "accepted")["rows"][0]["hash"]
    before = run("datanet", "anchor", 1)
    with pytest.raises(RevertError, match="Not"):
        run("datanet", "remove", record, "--as", "boris")
    stone = run("datanet", "remove", record, "--as", "ada")
    assert stone["version"] == before["number"] + 1
    with pytest.raises(InputError, match="removed already"):
        run("datanet", "remove", record, "--as", "ada")
    assert [found["record"] for found in run("datanet", "removed", 1)] == [record]
    assert run("datanet", "anchor", 1)["records"] == before["records"] - 1


@pytest.fixture(scope="module")
def granted(run: Run, tmp_path_factory: pytest.TempPathFactory) -> int:
    """A Datanet to which its owner grants access, at 2 OPEN; the owner keeps a tenth."""
    path = tmp_path_factory.mktemp("granted") / "datanet.json"
    path.write_text(json.dumps(load_datanet()))
    made: dict[str, Any] = run(
        "datanet", "create", path, "--as", "owner", "--access", "granted", "--owner-part", 10, "--access-fee", 2,
        "--licence-fee", 5,
    )  # fmt: skip
    return int(made["id"])


def test_access_is_asked_for_granted_and_denied(run: Run, server: Server, granted: int) -> None:
    reader = server.node.keys.address("ada")
    [asked] = run("access", "request", granted, "--as", "ada", "--purpose", "to train a triage model")
    assert (asked["state"], asked["fee"], asked["purpose"]) == (
        "open",
        str(2 * WEI_PER_OPEN),
        "to train a triage model",
    )
    assert not run("access", "show", granted, reader)["access"]
    [row] = run("access", "grant", granted, asked["request"], "--days", 30)
    assert row["state"] == "granted"
    assert run("access", "show", granted, reader)["paid"]
    [second] = run("access", "request", granted, "--as", "boris", "--purpose", "curiosity")
    before = balance(server, "boris")
    assert run("access", "deny", granted, second["request"])[0]["state"] == "denied"
    assert balance(server, "boris") == before + 2 * WEI_PER_OPEN
    [third] = run("access", "request", granted, "--as", "boris", "--purpose", "curiosity")
    assert run("access", "withdraw", granted, third["request"])[0]["state"] == "withdrawn"
    assert [row["state"] for row in run("access", "list", granted)] == ["granted", "denied", "withdrawn"]


def test_access_that_was_not_paid_for_is_taken_back(run: Run, server: Server, granted: int) -> None:
    friend = server.node.keys.address("consumer")
    assert run("access", "allow", granted, friend, "--days", 1)["access"]
    assert not run("access", "revoke", granted, friend)["access"]
    with pytest.raises(RevertError, match="GrantIsPaid"):
        run("access", "revoke", granted, server.node.keys.address("ada"))
    with pytest.raises(NotFoundError, match="no request 77"):
        run("access", "grant", granted, 77)


def test_income_of_access_goes_to_contributors_by_their_rows(
    run: Run, server: Server, granted: int, rows: Path
) -> None:
    number = int(run("datanet", "submit", rows, "--as", "boris", "--datanet", granted)["id"])
    run("datanet", "review", number)
    version = run("datanet", "anchor", granted)["number"]
    [asked] = run("access", "request", granted, "--as", "consumer", "--purpose", "to answer questions")
    run("access", "grant", granted, asked["request"])
    [income] = run("access", "income", granted)
    assert (income["version"], income["contribution"], income["claimable"]) == (
        version,
        number,
        str(18 * WEI_PER_OPEN // 10),
    )
    before = balance(server, "boris")
    paid = int(run("access", "claim", granted, version, number)["wei"])
    assert balance(server, "boris") == before + paid
    assert run("access", "income", granted) == []


def test_an_account_is_made_paid_and_staked(run: Run, server: Server) -> None:
    address = run("account", "new", "gina")["address"]
    assert run("account", "new", "gina")["address"] == address
    assert int(run("account", "send", "gina", 3_000, "--as", "community")["balance"]) == 3_000 * WEI_PER_OPEN
    with pytest.raises(RevertError, match="StakeBelowMinimum"):
        run("account", "stake", "reviewer", 500, "--as", "gina")
    assert run("account", "stake", "reviewer", 2_000, "--as", address)["active"]
    leaving = run("account", "unstake", "reviewer", 2_000, "--as", "gina")
    assert (leaving["staked"], leaving["leaving"]) == ("0", str(2_000 * WEI_PER_OPEN))
    with pytest.raises(RevertError, match="StillUnbonding"):
        run("account", "withdraw", "reviewer", "--as", "gina")
    server.node.devchain.warp(8 * 86_400)
    assert run("account", "withdraw", "reviewer", "--as", "gina")["leaving"] == "0"
    with pytest.raises(InputError, match="is no role"):
        run("account", "stake", "king", 1, "--as", "gina")
