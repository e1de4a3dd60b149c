"""People with their own wallets on the pages: every signature is the wallet's, every effect is on the real chain.

The wallet is a double of a browser extension that signs with real keys (``browser_wallet``).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from eth_account.signers.local import LocalAccount
from playwright.sync_api import Browser, expect

from openledger.chain import Chain, Deployment, KeyStore
from openledger.governance import ProposalState, state, voting_power
from tests.conftest import Network
from tests.ui.browser_wallet import BrowserWallet, new_account
from tests.ui.conftest import Watched, new_context
from tests.ui.in_page import LOW_CONTRAST, SIDEWAYS, UNNAMED
from tests.ui.test_what_people_do import ask

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.chain]

OPEN = 10**18
DECLINED = "You declined in the wallet. Nothing was sent, and nothing is kept here."


@pytest.fixture(scope="session")
def chain(network: Network, api: httpx.Client) -> Chain:
    """The chain by the address that wallets get."""
    return Chain(f"{network.url}/rpc", Deployment.load(network.home / "deployment.json"))


@pytest.fixture
def signed(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def account(api: httpx.Client, signed: dict[str, str]) -> LocalAccount:
    """A new account with 200 OPEN, of which the node holds no key."""
    made = new_account()
    sent = api.post("/accounts/community/transfers", json={"to": made.address, "amount": "200"}, headers=signed)
    assert sent.status_code == 200, sent.text
    return made


@pytest.fixture
def person(browser: Browser, network: Network) -> Iterator[Watched]:
    """A page in a browser of its own."""
    context = new_context(browser)
    yield Watched(context.new_page(), network.url)
    context.close()


def enter(person: Watched, account: LocalAccount) -> BrowserWallet:
    """Signs in with a wallet."""
    wallet = BrowserWallet(account).install(person.page.context)
    page = person.open("/sign-in")
    page.get_by_role("button", name=wallet.name).click()
    page.wait_for_url("**/wallet")
    page.wait_for_selector("main .figures")
    return wallet


def wait_until_active(chain: Chain, proposal: int) -> None:
    """Half a minute after it was made, a vote opens."""
    deadline = time.monotonic() + 120
    while state(chain, proposal) is ProposalState.PENDING and time.monotonic() < deadline:
        time.sleep(1)
    assert state(chain, proposal) is ProposalState.ACTIVE


def told(person: Watched, text: str) -> None:
    person.page.locator(".q-notification", has_text=text).first.wait_for()


def test_a_wallet_is_found_adds_the_chain_and_signs_in(
    person: Watched, account: LocalAccount, network: Network, chain: Chain
) -> None:
    other = BrowserWallet(new_account(), name="Another Wallet").install(person.page.context)
    wallet = enter(person, account)
    page = person.page
    expect(page.get_by_role("link", name="Your account")).to_contain_text(account.address[:6])
    assert page.locator("[data-wallet-account]").get_attribute("data-wallet-account") == account.address
    expect(page.locator(".figure", has_text="Balance")).to_contain_text("200")
    assert other.asked == []
    added = wallet.chains[chain.chain_id]
    assert added["nativeCurrency"] == {"name": "OPEN", "symbol": "OPEN", "decimals": 18}
    assert added["rpcUrls"] == [f"{network.url}/rpc"]
    assert wallet.chain_id == chain.chain_id
    cookie = next(cookie for cookie in page.context.cookies() if cookie["name"].startswith("openledger_wallet"))
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign in").first).to_be_visible()
    assert person.troubles == []


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 375)])
def test_what_a_wallet_sees_fits_and_can_be_read(
    browser: Browser, network: Network, account: LocalAccount, theme: str, width: int
) -> None:
    context = new_context(browser, viewport={"width": width, "height": 800}, color_scheme=theme)
    person = Watched(context.new_page(), network.url)
    enter(person, account)
    for path in ("/wallet", "/payouts", "/governance", "/datanets/1/contribute", "/models/1"):
        page = person.open(path)
        page.wait_for_timeout(250)
        assert page.evaluate(SIDEWAYS) <= 0, f"{path} scrolls sideways"
        assert page.evaluate(LOW_CONTRAST) == [], path
        assert page.evaluate(UNNAMED) == [], path
        assert page.locator(".error-line").count() == 0, path
    assert person.troubles == []
    context.close()


def test_a_wallet_makes_nobody_an_operator(person: Watched, account: LocalAccount, api: httpx.Client) -> None:
    enter(person, account)
    page = person.open("/factory")
    expect(page.get_by_text("sign in with this node's operator token")).to_be_visible()
    page = person.open("/models/1")
    assert page.get_by_role("button", name="Make an API key").count() == 0
    assert page.context.request.post(f"{person.url}/api/keys", data={"cap": "1"}).status == 401
    page = person.open("/payouts")
    assert page.get_by_role("button", name="Claim for").count() == 0


def test_whoever_declines_to_sign_in_is_told_and_stays_out(person: Watched, account: LocalAccount) -> None:
    wallet = BrowserWallet(account).install(person.page.context)
    page = person.open("/sign-in")
    for method in ("eth_requestAccounts", "wallet_addEthereumChain", "personal_sign"):
        wallet.decline.add(method)
        page.get_by_role("button", name=wallet.name).click()
        expect(page.get_by_text(DECLINED)).to_be_visible()
        assert [cookie for cookie in page.context.cookies() if cookie["name"].startswith("openledger_wallet")] == []
    page.get_by_role("button", name=wallet.name).click()
    page.wait_for_url("**/wallet")


def test_records_are_contributed_by_wallet_and_reviewed(
    person: Watched, account: LocalAccount, api: httpx.Client, signed: dict[str, str], network: Network, tmp_path: Path
) -> None:
    example = api.get("/datanets/1/records", params={"status": "accepted"}).json()["rows"][0]
    row = {key: example[key] for key in ("facts", "source", "kind")}
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(row | {"question": f"By {account.address}?", "answer": f"Not {example['answer']}"}))
    wallet = enter(person, account)
    blobs = len(list((network.home / "blobs").rglob("*")))
    known = len(api.get("/datanets/1").json()["contributions"])
    page = person.open("/datanets/1/contribute")
    page.set_input_files("input[type=file]", rows)
    expect(page.get_by_text("1 row read")).to_be_visible()
    for method in ("eth_signTypedData_v4", "eth_sendTransaction"):
        wallet.decline.add(method)
        page.get_by_role("button", name="Sign and submit").click()
        expect(page.locator(".q-notification", has_text=DECLINED)).to_have_count(1)
        expect(page.get_by_role("button", name="Sign and submit")).to_have_attribute("aria-busy", "false")
        assert len(list((network.home / "blobs").rglob("*"))) <= blobs + 1  # an empty folder may stay
        assert len(api.get("/datanets/1").json()["contributions"]) == known
        page.locator(".q-notification", has_text=DECLINED).get_by_role("button").click()
        expect(page.locator(".q-notification", has_text=DECLINED)).to_have_count(0)
    page.get_by_role("button", name="Sign and submit").click()
    expect(page.get_by_text("is on the chain with 1 row")).to_be_visible()
    made = api.get("/datanets/1").json()["contributions"][-1]
    assert (made["contributor"]["address"], made["state"]) == (account.address, "submitted")
    api.post(f"/contributions/{made['id']}/review", headers=signed).raise_for_status()
    page.get_by_role("link", name="Your account").last.click()
    line = page.get_by_role("row").filter(has_text=f"#{made['id']}")
    expect(line).to_contain_text("finalised")
    assert person.troubles == []


def test_earnings_are_claimed_by_wallet(
    person: Watched, network: Network, api: httpx.Client, signed: dict[str, str], chain: Chain
) -> None:
    key = api.post("/keys", json={"cap": "1"}, headers=signed).json()["key"]
    ask(network, key, api.get("/models").json()[0]["name"], "What is a flash loan?")
    api.post("/settle", headers=signed).raise_for_status()
    keys = KeyStore(network.home)
    accounts = {keys.address(name): name for name in keys.names()}
    due = [row for row in api.get("/payouts").json()["earnings"] if int(row["earned"]) > int(row["claimed"])]
    row = next(row for row in due if row["party"]["address"] in accounts)
    wallet = enter(person, keys.wallet(accounts[row["party"]["address"]]))
    before = chain.balance(wallet.account.address)
    page = person.open("/payouts")
    claims = page.get_by_role("button", name="Claim for")
    assert claims.count() == 1
    wallet.chain_id = 1
    claims.click()
    told(person, "claimed")
    assert wallet.chain_id == chain.chain_id
    after = next(item for item in api.get("/payouts").json()["earnings"] if item["party"] == row["party"])
    assert after["claimed"] == after["earned"]
    paid = int(after["claimed"]) - int(row["claimed"])
    receipt = chain.w3.eth.get_transaction_receipt(wallet.sent[-1])
    assert chain.balance(wallet.account.address) == before + paid - receipt["gasUsed"] * receipt["effectiveGasPrice"]
    assert person.troubles == []


def test_a_question_is_paid_from_ones_own_deposit_and_seen_by_nobody_else(
    person: Watched, visitor: Watched, account: LocalAccount, api: httpx.Client
) -> None:
    enter(person, account)
    page = person.open("/models/1")
    page.get_by_label("Your question").fill("What is a sandwich attack?")
    page.get_by_role("button", name="Send the question").click()
    page.locator(".chat .error-line", has_text="your deposit is 0 OPEN").wait_for()
    page.get_by_label("Deposit OPEN").fill("20")
    page.get_by_role("button", name="Deposit", exact=True).click()
    told(person, "Deposited.")
    page.get_by_label("Spend OPEN").fill("5")
    page.get_by_role("button", name="Allow").click()
    told(person, "may pay your questions")
    expect(page.locator(".funds")).to_contain_text("5 OPEN")
    page.get_by_label("Your question").fill("What is a sandwich attack?")
    page.get_by_role("button", name="Send the question").click()
    proof = page.get_by_role("link", name="See the receipt")
    proof.wait_for()
    name = str(proof.get_attribute("href"))
    view = api.get(f"/receipts/{name.rpartition('/')[2]}").json()
    assert view["consumer"]["address"] == account.address
    assert view["row"]["prompt"] == "(private)"
    proof.click()
    page.wait_for_selector(".heatmap-answer")
    expect(page.locator("#content")).to_contain_text("What is a sandwich attack?")
    stranger = visitor.open(name)
    expect(stranger.locator("#content")).not_to_contain_text("What is a sandwich attack?")
    assert stranger.locator(".heatmap-answer").count() == 0
    page = person.open("/wallet")
    expect(page.get_by_role("row").filter(has_text="What is a sandwich attack?")).to_be_visible()
    assert person.troubles == []


def test_votes_are_wrapped_given_and_cast_by_wallet(
    person: Watched, account: LocalAccount, api: httpx.Client, signed: dict[str, str], chain: Chain
) -> None:
    wallet = enter(person, account)
    page = person.page
    card = page.locator("section.card", has=page.get_by_role("heading", name="Votes"))
    card.get_by_label("Wrap OPEN").fill("50")
    card.get_by_role("button", name="Wrap", exact=True).click()
    told(person, "Wrapped.")
    card.get_by_role("button", name="Delegate").click()
    told(person, "The votes are given.")
    assert voting_power(chain, account.address).votes == 50 * OPEN
    title = f"Payouts within the hour, says {account.address}"
    proposal = api.post(
        "/proposals",
        json={"key": "payout.delay", "value": "3600", "description": title},
        headers=signed,
    ).json()["id"]
    wait_until_active(chain, int(proposal))
    page = person.open("/governance")
    shown = page.locator("section.card", has=page.get_by_role("heading", name=title))
    shown.get_by_role("button", name="For").click()
    told(person, "The vote is on the chain.")
    row = next(row for row in api.get("/governance").json()["proposals"] if row["id"] == proposal)
    assert int(row["votes_for"]) == 50 * OPEN
    shown.get_by_role("button", name="Against").click()
    told(person, "the contract refused: governor already cast vote")
    assert len(wallet.sent) == 3
    assert person.troubles == []


def test_stake_is_put_down_and_asked_back_by_wallet(person: Watched, account: LocalAccount, api: httpx.Client) -> None:
    wallet = enter(person, account)
    page = person.page
    card = page.locator("section.card", has=page.get_by_role("heading", name="Stake", exact=True))
    card.get_by_label("Stake OPEN", exact=True).fill("1000000")
    card.get_by_role("button", name="Stake", exact=True).click()
    told(person, "insufficient funds")
    assert wallet.sent == []
    card.get_by_label("Role").click()
    page.get_by_role("option", name="Agent").click()
    card.get_by_label("Stake OPEN", exact=True).fill("150")
    card.get_by_role("button", name="Stake", exact=True).click()
    told(person, "Staked.")
    assert api.get(f"/accounts/{account.address}/stakes/agent").json()["staked"] == str(150 * OPEN)
    card.get_by_label("Unstake OPEN").fill("150")
    card.get_by_role("button", name="Unstake").click()
    told(person, "Asked back.")
    assert api.get(f"/accounts/{account.address}/stakes/agent").json()["leaving"] == str(150 * OPEN)


def test_whoever_changes_the_account_in_the_wallet_is_signed_out(person: Watched, account: LocalAccount) -> None:
    wallet = enter(person, account)
    other = new_account()
    wallet.choose(person.page, other)
    told(person, f"{account.address[:6]}…{account.address[-4:]} is signed out here")
    expect(person.page.get_by_role("link", name="Sign in").first).to_be_visible()
    person.page.context.clear_cookies()
    person.open("/sign-in").get_by_role("button", name=wallet.name).click()
    person.page.wait_for_url("**/wallet")
    assert person.page.locator("[data-wallet-account]").get_attribute("data-wallet-account") == other.address
    wallet.account = account  # while the page was not looking
    person.open("/payouts")
    told(person, "is signed out here")
