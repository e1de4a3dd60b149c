"""What people do on the pages, each against the real chain, model and reviewers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from openledger.primitives import PPM
from tests.conftest import Network
from tests.ui.conftest import Watched

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.chain]

HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>`${window.hacked=1}` {{ hacked }}'


@pytest.fixture
def asked(network: Network) -> dict[str, str]:
    """A question that the demo asked and that records of the Datanet answer."""
    return next(receipt for receipt in network.document["receipts"] if receipt["about"])


def ask(network: Network, key: str, model: str, question: str) -> dict[str, Any]:
    """A short answer over the OpenAI-compatible API."""
    reply = httpx.post(
        f"{network.url}/v1/chat/completions",
        headers={"Authorization": f"Bearer {key}"},
        json={"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 4},
        timeout=120,
    )
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def shares_in_percent(page: Page, within: str) -> list[float]:
    texts = page.locator(f"{within} .share .value").all_inner_texts()
    return [0.0 if text.startswith("<") else float(text.removesuffix("%")) for text in texts]


def test_whoever_only_reads_sees_no_act_and_the_wrong_token_opens_none(visitor: Watched, token: str) -> None:
    page = visitor.open("/models/1")
    expect(page.get_by_text("To ask this model here, sign in")).to_be_visible()
    assert page.get_by_label("Your question").count() == 0
    page = visitor.open("/sign-in")
    page.get_by_label("Operator token").fill("not the token")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("that is not the operator's token")).to_be_visible()
    page.goto("about:blank")
    page.goto(f"{visitor.url}/sign-in#{token}")
    page.wait_for_url(visitor.url + "/")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    cookie = next(cookie for cookie in page.context.cookies() if cookie["name"].startswith("openledger"))
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert token not in cookie["value"]
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign in")).to_be_visible()


def test_a_question_gets_the_models_answer_its_receipt_and_who_shaped_it(
    operator: Watched, network: Network, asked: dict[str, str], api: httpx.Client
) -> None:
    before = api.get("/receipts").json()["total"]
    page = operator.open("/models/1")
    page.get_by_label("Your question").fill(asked["prompt"])
    page.get_by_label("Your question").press("Enter")
    proof = page.get_by_role("link", name="See the receipt")
    proof.wait_for()
    assert page.locator(".bubble.theirs").inner_text() == asked["output"].strip()
    page.wait_for_selector(".chat-proof .share")
    assert sum(shares_in_percent(page, ".chat-proof")) == pytest.approx(100, abs=0.2)
    assert api.get("/receipts").json()["total"] == before + 1
    proof.click()
    page.wait_for_selector(".heatmap-answer")
    assert page.locator(".heatmap-answer").inner_text().strip() == asked["output"].strip()
    assert operator.troubles == []


def test_a_question_that_cannot_be_answered_is_told_in_the_chat(operator: Watched) -> None:
    page = operator.open("/models/1")
    page.get_by_label("Your question").fill("why " * 900)
    page.get_by_role("button", name="Send the question").click()
    page.locator(".chat .error-line").wait_for()
    assert page.get_by_role("button", name="Send the question").get_attribute("aria-busy") == "false"


def test_the_verify_button_shows_every_check(visitor: Watched, network: Network) -> None:
    name = network.document["receipts"][0]["id"]
    page = visitor.open(f"/receipts/{name}")
    page.get_by_role("button", name="Verify this receipt").click()
    page.wait_for_selector(".checks li", timeout=180_000)
    names = page.locator(".checks li .strong").all_inner_texts()
    assert len(names) >= 6
    assert len(set(names)) == len(names)
    assert page.locator(".checks li.failed").all_inner_texts() == []
    expect(page.get_by_text(f"All {len(names)} checks passed")).to_be_visible()
    assert visitor.troubles == []


def test_the_heatmap_shows_the_influence_of_the_record_that_is_chosen(
    visitor: Watched, api: httpx.Client, network: Network
) -> None:
    views = {one["id"]: api.get(f"/receipts/{one['id']}").json() for one in network.document["receipts"]}
    alone = next(name for name, view in views.items() if len(view["records"]) == 1)
    page = visitor.open(f"/receipts/{alone}")
    expect(page.locator(".heatmap-record")).to_have_count(1)
    name, view = next((name, view) for name, view in views.items() if len(view["records"]) > 1)
    page = visitor.open(f"/receipts/{name}")
    answer = page.locator(".heatmap-answer")
    choices = page.locator(".heatmap-record")
    assert page.locator(".token").count() == len(view["tokens"])
    assert choices.count() == len(view["records"]) + 1
    colours = "tokens => tokens.map(token => token.style.background)"
    together = page.locator(".token").evaluate_all(colours)
    choices.nth(1).click()
    expect(choices.nth(1)).to_have_class("heatmap-record chosen")
    assert page.locator(".token").evaluate_all(colours) != together
    answer.focus()
    strongest = max(range(len(view["tokens"])), key=lambda at: abs(view["influence"][0][at]))
    for _ in range(strongest + 1):
        page.keyboard.press("ArrowRight")
    reading = page.locator(".heatmap-reading").inner_text()
    shown = float(reading.split("influence ")[1].split(" of ")[0].replace("−", "-").replace(",", ""))
    assert shown == pytest.approx(view["influence"][0][strongest], rel=0.01)
    expect(page.get_by_text("How much training on a record changed this answer.")).to_be_visible()
    expect(page.get_by_text("These words stand in that record.")).to_be_visible()


def test_the_shares_and_the_fee_on_a_receipt_are_whole(
    visitor: Watched, api: httpx.Client, asked: dict[str, str]
) -> None:
    view = api.get(f"/receipts/{asked['id']}").json()
    assert sum(ppm for _, ppm in view["contributors"]) + view["row"]["residual_ppm"] == PPM
    page = visitor.open(f"/receipts/{asked['id']}")
    card = page.locator("section.card", has=page.get_by_role("heading", name="Who shaped it"))
    card.locator(".share .value").first.hover()
    tip = page.locator(".tooltip").inner_text()
    assert tip == f"{max(*(ppm for _, ppm in view['contributors']), 0):,} of 1,000,000 parts (ppm)"
    paid = sum(int(wei) for _, _, wei in view["payouts"])
    assert 0 <= int(view["row"]["fee"]) - paid <= len(view["payouts"])
    page.locator("summary", has_text="payments").click()
    assert page.locator("details table tbody tr").count() == len(view["payouts"])


def test_records_are_found_by_words_and_state(visitor: Watched, api: httpx.Client) -> None:
    page = visitor.open("/datanets/1")
    page.get_by_label("Search the records").fill("reentrancy")
    total = api.get("/datanets/1/records", params={"text": "reentrancy"}).json()["total"]
    assert total > 25
    expect(page.get_by_text(f"1–25 of {total}")).to_be_visible()
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text(f"of {total}")).to_contain_text("26–")
    page.get_by_label("Search the records").fill("no such words anywhere")
    expect(page.get_by_text("No record fits.")).to_be_visible()
    page.get_by_label("Search the records").fill("")
    page.get_by_label("State").click()
    page.get_by_role("option", name="Rejected").click()
    expect(page.locator("[role=tabpanel] .badge", has_text="rejected").first).to_be_visible()
    assert set(page.locator("[role=tabpanel] tbody .badge").all_inner_texts()) == {"rejected"}


def test_html_in_a_record_is_shown_as_text_from_contribution_to_review(
    operator: Watched, tmp_path: Path, api: httpx.Client
) -> None:
    example = api.get("/datanets/1/records", params={"status": "accepted"}).json()["rows"][0]
    row = {key: example[key] for key in ("facts", "source", "kind")}
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(row | {"question": f"What is {HOSTILE}?", "answer": f"{HOSTILE} {example['answer']}"}))
    page = operator.open("/datanets/1/contribute")
    page.set_input_files("input[type=file]", rows)
    expect(page.get_by_text("1 row read")).to_be_visible()
    page.get_by_label("Account, by its name").fill("ada")
    page.get_by_role("button", name="Sign and submit").click()
    expect(page.get_by_text("is on the chain with 1 row")).to_be_visible()
    page.get_by_role("button", name="Have it reviewed now").click()
    page.get_by_role("link", name="See the records and the reasons").wait_for()
    page = operator.open("/datanets/1")
    page.get_by_role("tab", name="Rejected").click()
    found = page.get_by_role("link", name="onerror").first
    found.click()
    page.wait_for_url("**/records/**")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"What is {HOSTILE}?")
    expect(page.get_by_text("Rejected", exact=True)).to_be_visible()
    assert page.locator("main img").count() == 0
    assert page.evaluate("window.hacked") is None
    assert operator.troubles == []


def test_a_file_that_holds_no_rows_is_refused_in_one_line(operator: Watched, tmp_path: Path) -> None:
    bad = tmp_path / "rows.jsonl"
    bad.write_text('{"question": "is this JSON?",\n')
    page = operator.open("/datanets/1/contribute")
    page.set_input_files("input[type=file]", bad)
    page.locator(".error-line").wait_for()
    assert "line 1" in page.locator(".error-line").inner_text()
    assert str(tmp_path) not in page.locator(".error-line").inner_text()


def test_earnings_are_claimed_with_one_press(
    operator: Watched, network: Network, token: str, api: httpx.Client
) -> None:
    signed = {"Authorization": f"Bearer {token}"}
    key = api.post("/keys", json={"cap": "1"}, headers=signed).json()["key"]
    ask(network, key, api.get("/models").json()[0]["name"], "What is reentrancy?")
    api.post("/settle", headers=signed).raise_for_status()
    row = next(row for row in api.get("/payouts").json()["earnings"] if int(row["earned"]) > int(row["claimed"]))
    page = operator.open("/payouts")
    page.get_by_role("button", name=f"Claim for {row['party']['label']}").click()
    page.locator(".q-notification", has_text="claimed").wait_for()
    after = {item["party"]["address"]: item for item in api.get("/payouts").json()["earnings"]}[row["party"]["address"]]
    assert after["claimed"] == after["earned"]
    line = page.get_by_role("row").filter(has_text=row["party"]["label"])
    expect(line.get_by_text("all claimed")).to_be_visible()


def test_a_proposal_is_made_in_the_unit_that_people_read(operator: Watched, api: httpx.Client) -> None:
    known = {row["id"] for row in api.get("/governance").json()["proposals"]}
    page = operator.open("/governance")
    page.get_by_label("Parameter").click()
    page.get_by_role("option", name="payout.delay").click()
    page.get_by_label("New value").fill("1")
    page.get_by_role("button", name="Propose").click()
    expect(page.get_by_text("1 second is out of bounds")).to_be_visible()
    page.get_by_label("New value").fill("7200")
    page.get_by_label("Why").fill(f"Slower payouts {HOSTILE}")
    page.get_by_role("button", name="Propose").click()
    page.locator(".q-notification", has_text="The proposal is on the chain.").wait_for()
    made = [row for row in api.get("/governance").json()["proposals"] if row["id"] not in known]
    assert len(made) == 1
    assert "payout.delay" in made[0]["changes"]
    expect(page.get_by_role("heading", name="Slower payouts")).to_be_visible()
    assert page.evaluate("window.hacked") is None


def test_an_api_key_is_made_and_works(operator: Watched, network: Network) -> None:
    page = operator.open("/models/1")
    page.get_by_label("Cap in OPEN").fill("2")
    page.get_by_role("button", name="Make an API key").click()
    expect(page.get_by_text("it is not shown again")).to_be_visible()
    key = page.get_by_role("button", name="Copy API key").get_attribute("data-copy")
    assert key is not None
    answer = ask(network, key, page.locator("h1").inner_text(), "What is reentrancy?")
    assert answer["openledger"]["receipt"]


def test_a_model_is_trained_without_code(operator: Watched, api: httpx.Client) -> None:
    page = operator.open("/factory")
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_text("the model has no name yet")).to_be_visible()
    page.get_by_label("Name of the model").fill("from-the-page")
    page.get_by_label("Epochs").fill("1")
    page.get_by_label("Epochs").press("Tab")
    page.get_by_role("button", name="Start training").click()
    page.wait_for_selector(".chart canvas", timeout=120_000)
    page.get_by_role("link", name="See the models").wait_for(timeout=400_000)
    assert "from-the-page" in [model["name"] for model in api.get("/models").json()]
    page.get_by_role("link", name="See the models").click()
    expect(page.get_by_role("heading", name="from-the-page")).to_be_visible()
    assert operator.troubles == []
