"""The main job, end to end: what `openledger demo` leaves behind is complete, exact and checkable."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from openledger.primitives import PPM, TOTAL_SUPPLY
from tests.conftest import Demo, openledger

pytestmark = [pytest.mark.slow, pytest.mark.chain]


def test_ctrl_c_in_the_middle_ends_with_an_error_and_the_next_run_works(demo: Demo) -> None:
    assert demo.interrupted_code == 130
    assert "Interrupted" in demo.interrupted_output
    assert "Traceback" not in demo.interrupted_output


def test_every_contract_is_on_the_chain_and_the_supply_is_whole(demo: Demo) -> None:
    chain = demo.document["chain"]
    assert chain["chain_id"] == 161201
    assert chain["blocks"] > 50
    assert {"DatanetRegistry", "ModelRegistry", "FeeEscrow", "InferenceLedger", "RewardsDistributor", "StakeManager", "GOPEN",
            "OpenLedgerGovernor", "TimelockController", "RuntimeParameters"} <= set(chain["contracts"])  # fmt: skip
    assert int(chain["supply"]) == TOTAL_SUPPLY


def test_the_datanet_accepts_the_good_rows_and_rejects_planted_ones_with_reasons(demo: Demo) -> None:
    datanet = demo.document["datanet"]
    assert datanet["submitted"] == datanet["accepted"] + len(datanet["rejected"])
    assert datanet["accepted"] >= 600
    assert len(datanet["contributors"]) >= 7
    assert datanet["rejected"]
    assert all(row["reason"] for row in datanet["rejected"])
    assert datanet["planted"]["caught"] >= 0.9 * datanet["planted"]["rows"]
    assert len(bytes.fromhex(datanet["version_root"][2:])) == 32


def test_bonds_of_rejected_rows_are_slashed(demo: Demo) -> None:
    slashed = demo.document["slashed"]
    assert slashed
    assert all(int(row["amount"]) > 0 and row["reason"] for row in slashed)


def test_the_tuned_model_answers_what_the_base_cannot(demo: Demo) -> None:
    model = demo.document["model"]
    assert model["loss_tuned"] < model["loss_base"]
    assert model["accuracy_tuned"] >= 0.6
    assert model["accuracy_base"] <= 0.1
    for name in ("base", "adapter", "recipe", "index", "evaluation"):
        assert len(bytes.fromhex(model["hashes"][name][2:])) == 32


def test_every_receipt_sums_and_verifies(demo: Demo) -> None:
    receipts = demo.document["receipts"]
    assert len(receipts) >= 20
    for receipt in receipts:
        assert sum(receipt["shares"].values()) + receipt["residual_ppm"] == PPM
        assert receipt["verified"] is True
        assert receipt["output"]
    assert len({receipt["id"] for receipt in receipts}) == len(receipts)


def test_an_answer_about_a_trained_incident_credits_its_contributor_most(demo: Demo) -> None:
    about = [receipt for receipt in demo.document["receipts"] if receipt["about"]]
    assert len(about) >= 10
    right = sum(max(receipt["shares"], key=receipt["shares"].get, default="") == receipt["about"] for receipt in about)
    assert right >= 0.7 * len(about)


def test_fees_are_paid_out_to_the_wei(demo: Demo) -> None:
    settlement = demo.document["settlement"]
    fees, paid, dust = (int(settlement[name]) for name in ("total_fees", "total_paid", "dust"))
    assert fees == paid + dust
    assert fees == sum(int(receipt["fee"]) for receipt in demo.document["receipts"])
    assert 0 <= dust < 10_000
    assert len(settlement["batches"]) >= 2


def test_everyone_who_earned_claims_and_balances_move(demo: Demo) -> None:
    claims = demo.document["claims"]
    roles = Counter(role for claim in claims for role in claim["role"].split(", "))
    assert {"contributor", "curator", "builder", "host", "validator"} <= set(roles)
    for claim in claims:
        assert int(claim["balance_after"]) - int(claim["balance_before"]) == int(claim["amount"]) > 0
    assert sum(int(claim["amount"]) for claim in claims) == int(demo.document["settlement"]["total_paid"])


def test_a_vote_changes_a_parameter_and_the_next_batch_pays_by_it(demo: Demo) -> None:
    vote = demo.document["governance"]
    assert vote["state"] == "executed"
    assert vote["parameter_before"] != vote["parameter_after"]
    batches = demo.document["settlement"]["batches"]
    name = vote["parameter"].removeprefix("fee.")
    assert batches[0]["split_ppm"][name] == vote["parameter_before"]
    assert batches[-1]["split_ppm"][name] == vote["parameter_after"]


def test_the_account_in_the_terminal_is_for_people(demo: Demo) -> None:
    assert "Traceback" not in demo.output
    for words in ("Datanet", "Receipts", "Settlement", "Governance"):
        assert words.lower() in demo.output.lower()


def test_a_second_demo_does_not_touch_a_folder_that_is_not_a_network(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    done = openledger("demo", home=tmp_path)
    assert done.returncode == 2
    assert "thesis.txt" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_the_document_is_json_that_a_program_reads(demo: Demo) -> None:
    assert json.loads(json.dumps(demo.document)) == demo.document


def test_the_document_says_where_the_time_went(demo: Demo) -> None:
    stages = {row["stage"].split()[0]: row["seconds"] for row in demo.document["stages"]}
    assert {"Fine-tuning", "Building", "Verifying"} <= set(stages)
    assert all(seconds >= 0 for seconds in stages.values())
    assert 0.8 * demo.document["seconds"] <= sum(row["seconds"] for row in demo.document["stages"])
    assert sum(row["seconds"] for row in demo.document["stages"]) <= demo.document["seconds"] + 1
