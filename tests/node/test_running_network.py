"""`openledger up` as its users meet it: over the openai client, the command line, and after a power cut."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import httpx
import openai
import pytest

from openledger.client import OpenLedger
from openledger.client.clients import calls
from openledger.node.home import Home
from openledger.primitives import PPM
from tests.conftest import Network, openledger

pytestmark = [pytest.mark.slow, pytest.mark.chain]


@pytest.fixture(scope="session")
def client(network: Network) -> OpenLedger:
    return OpenLedger(network.url, operator_token=Home(network.home).operator_token())


@pytest.fixture(scope="session")
def api_key(client: OpenLedger) -> str:
    return str(client.send(calls.create_key("1"))["key"])


def ai(network: Network, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{network.url}/v1", api_key=key, max_retries=0)


def question(network: Network) -> dict[str, str]:
    return next(receipt for receipt in network.document["receipts"] if receipt["about"])


def test_the_openai_client_gets_an_answer_with_a_receipt(network: Network, api_key: str) -> None:
    asked = question(network)
    models = [model.id for model in ai(network, api_key).models.list()]
    answer = ai(network, api_key).chat.completions.create(
        model=models[0], messages=[{"role": "user", "content": asked["prompt"]}], store=True
    )
    assert answer.choices[0].message.content == asked["output"]
    account = answer.model_extra["openledger"]
    assert sum(account["contributors"].values()) + account["residual_ppm"] == PPM
    assert int(account["fee_wei"]) > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_streaming_gives_the_same_answer_in_pieces_with_usage_at_the_end(network: Network, api_key: str) -> None:
    asked = question(network)
    model = next(iter(ai(network, api_key).models.list())).id
    chunks = list(
        ai(network, api_key).chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": asked["prompt"]}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(pieces) == asked["output"]
    assert len([piece for piece in pieces if piece]) > 3
    assert chunks[-1].usage.completion_tokens > 0


def test_plain_completions_are_served(network: Network, api_key: str) -> None:
    model = next(iter(ai(network, api_key).models.list())).id
    done = ai(network, api_key).completions.create(model=model, prompt="The program", max_tokens=5)
    assert done.usage.completion_tokens <= 5


def test_log_probabilities_come_with_the_answer_and_its_receipt_still_verifies(network: Network, api_key: str) -> None:
    answer = ai(network, api_key).chat.completions.create(
        model="exploits",
        messages=[{"role": "user", "content": question(network)["prompt"]}],
        logprobs=True,
        top_logprobs=2,
        store=True,
    )
    told = answer.choices[0].logprobs
    assert told is not None
    assert told.content
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in told.content)
    assert "".join(token.token for token in told.content).startswith(answer.choices[0].message.content or "?")
    shown = openledger("settle", home=network.home)
    assert shown.returncode == 0, shown.stderr
    checked = openledger("verify", answer.model_extra["openledger"]["receipt"], home=network.home)  # type: ignore[index]
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_refusals_have_openais_shape_and_cost_nothing(network: Network, client: OpenLedger, api_key: str) -> None:
    model = next(iter(ai(network, api_key).models.list())).id
    before = client.send(calls.receipts()).total
    hello = [{"role": "user", "content": "hello"}]
    with pytest.raises(openai.NotFoundError, match="no model 'nobody'"):
        ai(network, api_key).chat.completions.create(model="nobody", messages=hello)
    with pytest.raises(openai.AuthenticationError, match="openledger key create"):
        ai(network, "sk-nonsense").chat.completions.create(model=model, messages=hello)
    with pytest.raises(openai.BadRequestError, match="temperature is 9"):
        ai(network, api_key).chat.completions.create(model=model, messages=hello, temperature=9)
    with pytest.raises(openai.BadRequestError, match="n is 9"):
        ai(network, api_key).chat.completions.create(model=model, messages=hello, n=9)
    with pytest.raises(openai.BadRequestError, match="top_logprobs is 3 without logprobs"):
        ai(network, api_key).chat.completions.create(model=model, messages=hello, top_logprobs=3)
    with pytest.raises(openai.BadRequestError, match="context"):
        ai(network, api_key).chat.completions.create(
            model=model, messages=[{"role": "user", "content": "word " * 5000}]
        )
    poor = str(client.send(calls.create_key("0.0000001"))["key"])
    with pytest.raises(openai.APIStatusError, match="raise the key's cap") as caught:
        ai(network, poor).chat.completions.create(model=model, messages=hello)
    assert caught.value.status_code == 402
    stranger = api_key[:44] + "-" + "1" * 64
    with pytest.raises(openai.APIStatusError, match="no session key of"):
        ai(network, stranger).chat.completions.create(model=model, messages=hello)
    assert client.send(calls.receipts()).total == before


def test_acts_need_the_operators_token(network: Network) -> None:
    for path in ("/api/settle", "/api/keys"):
        refused = httpx.post(f"{network.url}{path}", json={"cap": "1"})
        assert refused.status_code == 401
        assert "operator.token" in refused.json()["error"]["message"]


def test_a_page_elsewhere_cannot_read_the_node_under_its_own_name(network: Network) -> None:
    assert httpx.get(f"{network.url}/api/overview", headers={"Host": "evil.example"}).status_code == 400
    assert httpx.get(f"{network.url}/api/overview").status_code == 200


def test_what_is_not_there_is_named_for_what_it_is(network: Network, api_key: str) -> None:
    version = httpx.get(f"{network.url}/api/datanets/99")
    assert (version.status_code, version.json()["error"]["code"]) == (404, "not_found")
    model = httpx.get(f"{network.url}/v1/models/nobody", headers={"authorization": f"Bearer {api_key}"})
    assert (model.status_code, model.json()["error"]["code"]) == (404, "model_not_found")


def test_the_api_reference_asks_nothing_of_other_hosts(network: Network) -> None:
    page = httpx.get(f"{network.url}/api/docs")
    assert page.status_code == 200
    parts = re.findall(r"""(?:src|href)=["']([^"']+)""", page.text)
    assert parts
    assert all(part.startswith("/") for part in parts)
    assert all(httpx.get(network.url + part).status_code == 200 for part in parts)


def test_a_private_prompt_is_not_among_the_public_blobs(network: Network, api_key: str, client: OpenLedger) -> None:
    model = client.send(calls.models())[0].name
    secret = OpenLedger(network.url, api_key=api_key).ask(model, "What is my secret, 4711?", publish=False)
    body = client.send(calls.receipt_body(secret.receipt))
    refused = httpx.get(f"{network.url}/api/blobs/{body['private_hash']}")
    assert refused.status_code == 404
    assert "4711" not in httpx.get(f"{network.url}/api/receipts?limit=500").text
    shown = client.send(calls.receipt(secret.receipt))
    assert (shown.row.prompt, shown.row.output, shown.tokens, shown.spans) == ("(private)", "(private)", [], [])


def test_verify_says_yes_from_public_data_and_no_with_the_difference(network: Network, tmp_path: Path) -> None:
    receipt = question(network)
    good = openledger("verify", receipt["id"], "--json", home=network.home)
    assert good.returncode == 0, good.stdout + good.stderr
    report = json.loads(good.stdout)
    assert report["ok"] is True
    assert {check["name"] for check in report["checks"]} >= {"signature", "inclusion on chain", "influence", "payout"}
    body = json.loads(openledger("receipt", "body", receipt["id"], home=network.home).stdout)
    record, ppm = body["shares"][0]
    body["shares"][0] = [record, ppm - 1000]
    body["residual_ppm"] += 1000
    tampered = tmp_path / "tampered.json"
    tampered.write_text(json.dumps(body))
    bad = openledger("verify", str(tampered), "--json", home=network.home)
    assert bad.returncode == 1
    failed = {check["name"]: check["detail"] for check in json.loads(bad.stdout)["checks"] if not check["ok"]}
    assert "shares root" in failed
    assert "-1,000 ppm" in failed["influence"]


@pytest.mark.parametrize(
    ("content", "message"),
    [("{}", "lacks receipt"), ("not json", "not JSON"), ("[1]", "object"), ('{"receipt": 1, "receipt": 2}', "twice")],
)
def test_a_malformed_receipt_file_is_one_clear_error(
    network: Network, tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "receipt.json"
    path.write_text(content)
    done = openledger("verify", str(path), home=network.home)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_line_explains_a_receipt(network: Network) -> None:
    shown = openledger("receipt", "show", question(network)["id"], home=network.home)
    assert shown.returncode == 0, shown.stderr
    for words in ("Whose data shaped this answer", "base model", "Where the fee"):
        assert words in shown.stdout


def test_asking_from_the_command_line_streams_and_leaves_a_receipt(network: Network) -> None:
    done = openledger("ask", question(network)["prompt"], "--json", home=network.home)
    assert done.returncode == 0, done.stderr
    view = json.loads(done.stdout)
    assert view["row"]["output"] == question(network)["output"]


def test_a_right_receipt_is_challenged_answered_and_found_right_from_the_command_line(
    network: Network, client: OpenLedger, tmp_path: Path
) -> None:
    receipt = question(network)["id"]
    challenger = client.send(calls.payouts()).earnings[0].party.address

    def dispute(*arguments: str) -> dict[str, object]:
        done = openledger("dispute", *arguments, "--json", home=network.home)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    honest = openledger("dispute", "open", receipt, "--as", challenger, home=network.home)
    assert honest.returncode != 0
    assert "nothing to dispute" in " ".join(honest.stderr.split())
    nobody = tmp_path / "shares.json"
    nobody.write_text("[]")
    opened = dispute("open", receipt, "--as", challenger, "--shares", str(nobody), "--why", "nobody taught this")
    number = str(opened["number"])
    assert opened["state"] == "open"
    assert dispute("answer", number)["state"] != "open"  # the node answers by itself, and may have been first
    decided = dispute("vote", number)
    assert (decided["state"], decided["upholds"], decided["rejects"]) == ("rejected", 0, 2)
    assert [row.why for row in client.send(calls.disputes())] == ["nobody taught this"]


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["ask", ""], 2, "question is empty"),
        (["ask", "hi", "--model", "nobody"], 1, "no model 'nobody'"),
        (["receipt", "show", "0xabcdef123456"], 1, "no receipt"),
        (["receipt", "show", "zz"], 1, "no receipt 'zz'"),
        (["datanet", "show", "99"], 1, "no Datanet 99"),
        (["claim", "0x0000000000000000000000000000000000000001"], 2, "has earned nothing yet"),
        (["gov", "propose", "fee.nothing", "1", "--why", "x"], 2, "fee.nothing"),
        (["gov", "propose", "fee.data", "2000000", "--why", "x"], 2, "cannot be"),
        (["train", "again", "--datanet", "77"], 1, "77"),
    ],
)
def test_what_cannot_be_is_one_clear_line_and_a_bad_exit(
    network: Network, command: list[str], code: int, message: str
) -> None:
    done = openledger(*command, home=network.home)
    assert done.returncode == code, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_node_on_the_same_folder_is_refused(network: Network) -> None:
    done = openledger("up", "--port", "0", home=network.home)
    assert done.returncode == 1
    assert "already runs" in done.stderr


def test_a_command_without_a_network_says_how_to_get_one(tmp_path: Path) -> None:
    done = openledger("receipt", "list", home=tmp_path / "none")
    assert done.returncode == 1
    assert "openledger up" in done.stderr


def test_a_full_disk_is_a_clear_error(network: Network) -> None:
    with Path("/dev/full").open("w") as full:
        done = openledger_to(full, "receipt", "list", "--json", home=network.home)
    assert done != 0


def openledger_to(stream: object, *arguments: str, home: Path) -> int:
    import subprocess

    from tests.conftest import COMMAND

    return subprocess.run(
        [*COMMAND, *arguments, "--home", str(home)], stdout=stream, stderr=subprocess.DEVNULL, check=False, timeout=120
    ).returncode


def test_a_power_cut_loses_no_acknowledged_receipt(network: Network, client: OpenLedger, api_key: str) -> None:
    model = client.send(calls.models())[0].name
    asking = OpenLedger(network.url, api_key=api_key)
    given = [asking.ask(model, question(network)["prompt"]).receipt for _ in range(3)]
    before = client.send(calls.overview())
    network.kill()
    network.start()
    again = OpenLedger(network.url)
    kept = {row.id for row in again.send(calls.receipts(limit=500)).rows}
    assert set(given) <= kept
    after = again.send(calls.overview())
    assert after.block_number >= before.block_number
    assert after.contracts == before.contracts
    openledger("settle", home=network.home)
    statuses = {row.id: row.status for row in again.send(calls.receipts(limit=500)).rows}
    assert all(statuses[receipt] == "paid" for receipt in given)


def test_stopping_in_the_middle_of_a_training_is_clean(network: Network) -> None:
    client = OpenLedger(network.url, operator_token=Home(network.home).operator_token())
    client.send(calls.train(1, 1, "interrupted", {}))
    deadline = time.monotonic() + 120
    while not (losses := httpx.get(f"{network.url}/api/training").json()["losses"]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert losses
    assert losses[0][0] == 1
    network.process.send_signal(signal.SIGTERM)
    assert network.process.wait(timeout=60) == 0
    assert "terminate called" not in (network.home.parent / "up.log").read_text()
    assert not list(Home(network.home).work.glob("run-*"))
    network.start()
    assert "interrupted" not in {model["name"] for model in httpx.get(f"{network.url}/api/models").json()}
