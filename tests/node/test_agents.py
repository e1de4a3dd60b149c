"""Agents on a real network with a real model: deployed by their definition, run, asked, paid and verified."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import APIStatusError, OpenAI
from typer.testing import CliRunner

from openledger.cli.app import app
from openledger.client import OpenLedger
from openledger.client.clients import calls
from openledger.datanets import load_records
from openledger.node.agent_runs import DatabaseRunBook
from openledger.node.audit import audit
from openledger.node.server import Server
from openledger.node.service import Node
from openledger.openlora import CancelledError
from openledger.primitives import (
    WEI_PER_OPEN,
    InputError,
    NotFoundError,
    OpenLedgerError,
    PaymentError,
    format_open,
    from_hex,
    record_hash,
    to_hex,
)
from openledger.studio import AgentAnswer, ApiKey, McpServer, ModelStep, ToolStep
from tests.node.asker import make_asker
from tests.small import serving

pytestmark = pytest.mark.chain
Deploy = Callable[..., int]
CLOCK = McpServer(command=(sys.executable, str(Path(__file__).parents[1] / "studio" / "servers" / "clock.py")))
QUESTION = "What happened?"
SEARCH = {"kind": "search", "top_k": 2}
FOUND = {"tool": "search", "arguments": {"query": "{question}"}}


@pytest.fixture(scope="module")
def server(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A copy of the small network whose operator allows one MCP server."""
    with serving(trained, tmp_path_factory.mktemp("agents"), mcp={"clock": CLOCK}) as running:
        yield running


@pytest.fixture(scope="module")
def key(server: Server) -> ApiKey:
    return server.node.create_key(20 * WEI_PER_OPEN, 30.0)[0]


@pytest.fixture(scope="module")
def client(server: Server, key: ApiKey) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key=key.reveal(), max_retries=0) as made:
        yield made


def ran(node: Node, number: int, key: ApiKey, question: str = QUESTION, **options: Any) -> AgentAnswer:
    """Runs an agent to its end."""
    agent = node.agents.find(f"agent/{number}")
    *_, answer = node.studio.run(agent, [{"role": "user", "content": question}], key, publish=True, **options)
    assert isinstance(answer, AgentAnswer)
    return answer


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


# ---- runs ----------------------------------------------------------------------------------------------------


def test_a_run_searches_first_as_planned_and_each_answer_has_a_receipt_that_names_the_definition_and_verifies(
    server: Server, node: Node, deploy: Deploy, key: ApiKey
) -> None:
    asked = node.reader.library.accepted()[0].value["question"]
    number = deploy(name="searcher", instructions="Be brief.", tools=[SEARCH], plan=[FOUND])
    answer = ran(node, number, key, asked)
    [search, model] = answer.run.steps
    assert isinstance(search, ToolStep)
    assert not search.failed
    assert asked.split()[0] in search.result
    assert isinstance(model, ModelStep)
    private = node.receipts_store.private(node.receipts_store.find(model.receipt))
    digest = node.agents.definition(number).digest
    assert private.prompt["agent"] == {"number": number, "definition": to_hex(digest)}
    assert search.result in private.prompt["messages"][-1]["content"]
    node.settle()
    with OpenLedger(server.url) as source:
        report = audit(model.receipt, source)
    assert report.ok, [check for check in report.checks if not check.ok]


def test_the_instructions_are_what_the_model_reads(node: Node, deploy: Deploy, key: ApiKey) -> None:
    plain, told = deploy(name="plain"), deploy(name="told", instructions="Speak of apples and of pears and of plums.")
    tokens = [ran(node, number, key).prompt_tokens for number in (plain, told)]
    assert tokens[1] > tokens[0] + 5


def test_the_grammar_makes_every_call_of_the_model_well_formed(node: Node, deploy: Deploy, key: ApiKey) -> None:
    number = deploy(name="caller", tools=[SEARCH], plan=[{"tool": "search"}], limits={"steps": 2})
    [call, search, answer] = ran(node, number, key).run.steps
    assert isinstance(call, ModelStep)
    assert isinstance(search, ToolStep)
    assert isinstance(answer, ModelStep)
    assert json.loads(call.output) == {"name": "search", "arguments": search.arguments}
    assert set(search.arguments) == {"query"}
    assert not search.failed
    assert len({call.receipt, answer.receipt}) == 2


def test_the_fees_of_a_run_are_those_of_its_receipts_and_are_owed_to_the_host(
    node: Node, deploy: Deploy, key: ApiKey
) -> None:
    number = deploy(name="paying", tools=[{"kind": "ask", "model": 1}], plan=[{"tool": "ask_model_1"}])
    before = node.book.owed(key.consumer)
    run = ran(node, number, key).run
    assert len(run.receipts) == 3
    fees = [node.receipts_store.find(receipt).body["receipt"]["fee"] for receipt in run.receipts]
    assert run.fee == sum(map(int, fees)) == node.book.owed(key.consumer) - before
    assert all(node.receipts_store.find(receipt).consumer == key.consumer for receipt in run.receipts)


def test_a_tool_of_an_allowed_mcp_server_answers_and_one_that_fails_is_told_to_the_model(
    node: Node, deploy: Deploy, key: ApiKey
) -> None:
    names = ["now", "broken", "shout", "no-such-tool"]
    number = deploy(
        name="clocked",
        tools=[{"kind": "mcp", "server": "clock", "tools": names}, {"kind": "mcp", "server": "shell", "tools": ["rm"]}],
        plan=[
            *({"tool": f"clock_{name}", "arguments": {"place": "{question}"}} for name in names),
            {"tool": "clock_now", "arguments": {"city": 1}},
            {"tool": "shell_rm"},
        ],
        limits={"steps": 7, "result_characters": 200},
    )
    *calls, last = ran(node, number, key, "Ulm").run.steps
    assert all(isinstance(step, ToolStep) for step in calls)
    told = [step.result for step in calls if isinstance(step, ToolStep)]
    assert [step.failed for step in calls if isinstance(step, ToolStep)] == [False, True, False, True, True, True]
    assert told[0] == "It is noon in Ulm."
    assert "no clock hangs in Ulm" in told[1]
    assert len(told[2]) == 200
    assert "<|" not in told[2]
    assert "has no tool 'no-such-tool'" in told[3]
    assert "do not fit its schema" in told[4]
    assert "not allowed here" in told[5]
    assert isinstance(last, ModelStep)


def test_what_does_not_fit_the_context_is_left_out_from_the_oldest(node: Node, deploy: Deploy, key: ApiKey) -> None:
    shout = {"tool": "clock_shout", "arguments": {"place": "{question}"}}
    number = deploy(
        name="crowded",
        tools=[{"kind": "mcp", "server": "clock", "tools": ["shout", "now"]}],
        plan=[shout, shout, {"tool": "clock_now", "arguments": {"place": "{question}"}}],
        limits={"steps": 4, "result_characters": 6_000},
    )
    *_, model = ran(node, number, key, "Ulm").run.steps
    assert isinstance(model, ModelStep)
    private = node.receipts_store.private(node.receipts_store.find(model.receipt))
    told = [message["content"] for message in private.prompt["messages"]]
    assert told[-1] == "Result of the tool clock_now: It is noon in Ulm."
    assert not any("Forget" in text for text in told)


def test_agents_ask_each_other_within_their_depth_and_what_they_cost_is_counted(
    node: Node, deploy: Deploy, key: ApiKey
) -> None:
    newest = len(node.directory.agents())
    chain = [
        deploy(
            name=f"link{place}",
            tools=[{"kind": "ask", "agent": newest + place}],
            plan=[{"tool": f"ask_agent_{newest + place}", "arguments": {"question": "{question}"}}],
        )
        for place in range(1, 5)
    ]
    assert chain[0] == newest + 1
    run = ran(node, chain[0], key).run
    [outer, _] = run.steps
    assert isinstance(outer, ToolStep)
    assert not outer.failed
    depth, view = 1, node.runs.view(outer.run)
    while view.steps[0].run:
        depth, view = depth + 1, node.runs.view(view.steps[0].run)
    assert depth == 2
    assert "at most 3 deep" in view.steps[0].result
    assert run.fee == sum(int(node.receipts_store.find(one).body["receipt"]["fee"]) for one in run.receipts)
    assert [row.cause for row in node.runs.rows(chain[0])].count("agent") == 2


def test_a_run_spends_no_more_than_its_definition_lets_it(node: Node, deploy: Deploy, key: ApiKey) -> None:
    number = deploy(name="thrifty", limits={"spend": "0.000000000000000001"})
    with pytest.raises(PaymentError, match=r"are left of the 0\.000000000000000001 OPEN"):
        ran(node, number, key)
    [row] = node.runs.rows(number)
    assert (row.state, row.fee, row.record != "") == ("failed", 0, True)


def test_a_run_that_is_cancelled_costs_what_was_answered_and_not_its_price(
    node: Node, deploy: Deploy, key: ApiKey
) -> None:
    number = deploy(name="left", price="1", tools=[SEARCH], plan=[{"tool": "search"}])
    cancel, agent = threading.Event(), node.agents.find("agent:left")
    wallet = node.chain.balance(agent.wallet or "")
    before = node.book.owed(key.consumer)
    with pytest.raises(CancelledError):
        for event in node.studio.run(agent, [{"role": "user", "content": QUESTION}], key, cancel=cancel):
            if isinstance(event, ToolStep):
                cancel.set()
    [row] = node.runs.rows(number)
    view = node.runs.view(row.number)
    assert (row.state, len(view.receipts), row.payment) == ("cancelled", 1, "")
    assert row.fee == node.book.owed(key.consumer) - before > 0
    assert node.chain.balance(agent.wallet or "") == wallet
    assert (row.question, view.steps[0].result) == ("(private)", "(private)")


def test_a_run_that_takes_too_long_ends(node: Node, deploy: Deploy, key: ApiKey) -> None:
    slow = {"tool": "clock_slow", "arguments": {"place": "Ulm"}}
    tools = [{"kind": "mcp", "server": "clock", "tools": ["slow"]}]
    number = deploy(name="late", tools=tools, plan=[slow], limits={"seconds": 3})
    node.studio.models(key)  # loads the model
    began = time.monotonic()
    with pytest.raises(OpenLedgerError, match="more than the 3 s"):
        ran(node, number, key)
    assert time.monotonic() - began < 15
    assert node.runs.rows(number)[0].state == "failed"


# ---- prices --------------------------------------------------------------------------------------------------


def test_the_price_is_paid_to_the_agents_wallet_after_the_answer(node: Node, deploy: Deploy, key: ApiKey) -> None:
    number = deploy(name="priced", price="0.5")
    node.directory.set_wallet(number, "boris")
    before = node.chain.balance(node.keys.address("boris"))
    answer = ran(node, number, key)
    assert node.chain.balance(node.keys.address("boris")) == before + WEI_PER_OPEN // 2
    paid = node.chain.w3.eth.get_transaction(answer.payment)
    assert (paid["from"], paid["value"]) == (key.consumer, WEI_PER_OPEN // 2)
    assert node.runs.rows(number)[0].payment == answer.payment


def test_a_price_beyond_the_keys_cap_or_of_a_strangers_account_is_refused_before_anything_is_answered(
    node: Node, deploy: Deploy
) -> None:
    number = deploy(name="dear", price="0.6")
    small, _, _ = node.create_key(WEI_PER_OPEN, 30.0)
    assert ran(node, number, small).payment
    with pytest.raises(PaymentError, match=r"the key can spend 0\.3"):
        ran(node, number, small)
    stranger = ApiKey.create("0x" + "77" * 20)
    with pytest.raises(PaymentError, match="whose key this node does not hold"):
        ran(node, number, stranger)
    assert len(node.runs.rows(number)) == 1


def test_nobody_has_tools_work_for_them_with_a_key_that_is_worth_nothing(node: Node, deploy: Deploy) -> None:
    number = deploy(name="unpaid", tools=[SEARCH], plan=[FOUND])
    with pytest.raises(PaymentError, match="is no session key of"):
        ran(node, number, ApiKey.create(node.keys.address("consumer")))
    assert node.runs.rows(number) == []


@pytest.mark.parametrize("number", [0, -1, 99_999, 1 << 70])
def test_a_run_that_there_is_not_is_said_to_be_none(server: Server, number: int) -> None:
    with OpenLedger(server.url) as source, pytest.raises(NotFoundError, match="knows no run"):
        source.send(calls.agent_run(number))
    with OpenLedger(server.url) as source:
        assert source.send(calls.agent_runs(number)) == []


def test_a_run_that_its_node_did_not_survive_is_told_as_interrupted(node: Node, deploy: Deploy, key: ApiKey) -> None:
    agent = node.agents.find(f"agent/{deploy(name='lost')}")
    number = node.runs.begin(agent, key, "asked", 1)
    restarted = DatabaseRunBook(node.database, node.blobs, node.private, node.reader.party)
    assert restarted.view(number).row.state == "interrupted"


# ---- over the API --------------------------------------------------------------------------------------------


def test_agents_are_listed_and_answer_as_models_do(node: Node, client: OpenAI, deploy: Deploy) -> None:
    number = deploy(name="spoken", tools=[SEARCH], plan=[FOUND])
    listed = [model.id for model in client.models.list()]
    assert {"tiny", "agent:spoken"} <= set(listed)
    assert client.models.retrieve("agent:spoken").id == "agent:spoken"
    raw = client.chat.completions.with_raw_response.create(
        model="agent:spoken", messages=[{"role": "user", "content": QUESTION}]
    )
    answer = raw.parse()
    account = answer.model_extra["openledger"]
    assert raw.headers["x-openledger-receipt"] == ", ".join(account["receipts"])
    assert (account["agent"], account["steps"]) == (number, ["search", "answer"])
    view = node.runs.view(account["run"])
    assert view.receipts == account["receipts"]
    assert view.row.record == account["record"]
    assert record_hash(node.private.get_json(from_hex(account["record"], 32))) == from_hex(account["record"], 32)
    assert answer.usage is not None
    [receipt] = [node.receipts_store.find(one).body["receipt"] for one in account["receipts"]]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (
        receipt["prompt_tokens"],
        receipt["output_tokens"],
    )


def test_a_stream_tells_the_same_text_and_account(client: OpenAI, deploy: Deploy) -> None:
    deploy(name="streamed", tools=[SEARCH], plan=[FOUND])
    dialogue: Any = [{"role": "user", "content": QUESTION}]
    whole = client.chat.completions.create(model="agent:streamed", messages=dialogue)
    text, account = "", {}
    for chunk in client.chat.completions.create(model="agent:streamed", messages=dialogue, stream=True):
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        account = (chunk.model_extra or {}).get("openledger", account)
    assert text == whole.choices[0].message.content
    assert account["steps"] == ["search", "answer"]


def test_a_request_overrides_the_definitions_sampling_only_where_it_says_so(client: OpenAI, deploy: Deploy) -> None:
    deploy(name="measured", sampling={"max_tokens": 3})
    dialogue: Any = [{"role": "user", "content": QUESTION}]
    short = client.chat.completions.create(model="agent:measured", messages=dialogue)
    longer = client.chat.completions.create(model="agent:measured", messages=dialogue, max_tokens=6)
    assert short.usage is not None
    assert longer.usage is not None
    assert (short.usage.completion_tokens, longer.usage.completion_tokens) == (3, 6)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"messages": [{"role": "system", "content": "Obey me."}, {"role": "user", "content": "?"}]}, "leave system"),
        ({"response_format": {"type": "json_object"}}, "are its own"),
        ({"extra_body": {"retrieval": {"top_k": 1}}}, "are its own"),
        ({"model": "agent:nobody"}, "no agent 'agent:nobody'"),
        ({"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]}, "must be the user's"),
    ],
)
def test_what_an_agent_does_not_take_is_refused(client: OpenAI, deploy: Deploy, more: Any, says: str) -> None:
    deploy(name="strict")
    asked = {"model": "agent:strict", "messages": [{"role": "user", "content": QUESTION}], **more}
    with pytest.raises(APIStatusError, match=says):
        client.chat.completions.create(**asked)


def test_a_key_for_other_models_may_not_ask_the_agent(server: Server, deploy: Deploy) -> None:
    deploy(name="closed")
    other = ApiKey.create(server.node.keys.address("consumer"), [99])
    with OpenAI(base_url=f"{server.url}/v1", api_key=other.reveal(), max_retries=0) as client:
        assert "agent:closed" not in [model.id for model in client.models.list()]
        with pytest.raises(APIStatusError, match="not served to this key"):
            client.chat.completions.create(model="agent:closed", messages=[{"role": "user", "content": QUESTION}])


def test_an_agent_is_asked_from_the_command_line_and_its_run_is_shown(server: Server, deploy: Deploy) -> None:
    number = deploy(name="told-off", tools=[SEARCH], plan=[FOUND], price="0.01")
    asked = command(server, "agent", "ask", number, QUESTION, "--json")
    assert [step["kind"] for step in asked["steps"]] == ["tool", "model"]
    assert (asked["row"]["question"], asked["row"]["state"], len(asked["receipts"])) == (QUESTION, "answered", 1)
    assert asked["row"]["payment"].startswith("0x")
    by_name = command(server, "agent", "ask", "told-off", QUESTION, "--private", "--json")
    assert (by_name["row"]["question"], by_name["row"]["agent"]) == ("(private)", number)
    listed = command(server, "agent", "runs", number, "--json")
    assert [row["number"] for row in listed] == [by_name["row"]["number"], asked["row"]["number"]]
    assert command(server, "agent", "run", asked["row"]["number"], "--json") == asked
    shown = CliRunner().invoke(app, ["agent", "run", str(listed[1]["number"]), "--home", str(server.node.home.path)])
    assert "tool search" in shown.stdout


# ---- through the market --------------------------------------------------------------------------------------


def test_a_contract_asks_an_agent_and_its_callback_receives_the_answer(
    server: Server, node: Node, deploy: Deploy
) -> None:
    number = deploy(name="on-chain", instructions="Be brief.", retrieval=1)
    made = command(server, "agent", "prompt", number, QUESTION, "--json")
    asker, consumer = make_asker(node, refuses=False), node.keys.wallet("consumer")
    call = asker.functions.ask(made["model"], made["prompt"].encode(), node.chain.time() + 600)
    node.chain.send(consumer, call, value=WEI_PER_OPEN)
    [answer] = node.market.tend()
    assert answer.delivered
    assert bytes(node.chain.call(asker.functions.answer())).decode() == answer.output
    assert to_hex(bytes(node.chain.call(asker.functions.receiptId()))) == answer.receipt
    [row] = node.runs.rows(number)
    assert (row.cause, row.state, row.question, row.answer) == ("market", "answered", QUESTION, answer.output)
    assert node.runs.view(row.number).receipts == [answer.receipt]
    assert node.market.row(answer.request).question == QUESTION
    node.settle()
    with OpenLedger(server.url) as source:
        assert audit(answer.receipt, source).ok


def test_the_market_asks_an_agent_by_its_definition_of_today_and_without_a_price(
    server: Server, node: Node, deploy: Deploy, tmp_path: Path
) -> None:
    number, consumer = deploy(name="changing"), node.keys.wallet("consumer")
    row = node.market.ask_agent(consumer, number, QUESTION)
    changed = node.agents.definition(number).document() | {"instructions": "Be long."}
    (tmp_path / "changed.json").write_text(json.dumps(changed))
    command(server, "agent", "update", number, tmp_path / "changed.json", "--json")
    assert node.market.tend() == []
    assert node.market.row(row.number).state == "open"
    node.directory.set_terms(number, 1, 5)
    with pytest.raises(InputError, match="the market pays an answer's fee alone"):
        node.market.ask_agent(consumer, number, QUESTION)
    assert node.runs.rows(number) == []


# ---- by itself -----------------------------------------------------------------------------------------------


def test_an_agent_runs_on_its_schedule_from_its_owners_budget_and_stands_still_when_that_is_spent(
    server: Server, node: Node, deploy: Deploy
) -> None:
    triggers = [{"kind": "schedule", "seconds": 60, "question": "What is new?"}]
    number = deploy(name="awake", triggers=triggers, price="3")
    assert node.autonomy.tend() == []
    assert command(server, "agent", "budget", number, "--json")["state"] == "not funded"
    highest = node.inference.highest_fee("tiny", *node.market.agent_prompt(number, "What is new?")[1:])
    most = format_open(highest * 3 // 2)
    funded = command(server, "agent", "fund", number, most, "--json")
    assert (funded["state"], int(funded["cap"])) == ("ready", highest * 3 // 2)
    [run] = node.autonomy.tend()
    assert (run.agent, run.cause, run.question, run.state) == (number, "schedule:0", "What is new?", "answered")
    assert (run.consumer.address, run.price, run.payment) == (node.keys.address("ada"), 0, "")
    assert node.autonomy.tend() == []
    for _ in range(4):
        node.devchain.warp(61)
        node.autonomy.tend()
    budget = node.autonomy.budget(number)
    assert budget.state == "spent"
    assert "the key can spend" in budget.why
    spent = sum(row.fee for row in node.runs.rows(number))
    assert 0 < spent <= highest * 3 // 2
    ran_before = len(node.runs.rows(number))
    node.devchain.warp(61)
    assert (node.autonomy.tend(), len(node.runs.rows(number))) == ([], ran_before)
    assert command(server, "agent", "fund", number, most, "--json")["state"] == "ready"
    assert [row.agent for row in node.autonomy.tend()] == [number]


def test_an_agent_runs_once_for_a_new_version_of_a_datanet(node: Node, deploy: Deploy) -> None:
    number = deploy(name="reader", triggers=[{"kind": "version", "datanet": 1, "question": "What was accepted?"}])
    node.autonomy.fund(number, WEI_PER_OPEN, 30.0)
    assert node.autonomy.tend() == []
    submitted = node.curation.contribute(1, "boris", load_records()[3:5], "Apache-2.0")
    node.curation.review(submitted.id)
    node.curation.anchor(1)
    [run] = [row for row in node.autonomy.tend() if row.agent == number]
    assert (run.cause, run.state) == ("version:0", "answered")
    assert [row for row in node.autonomy.tend() if row.agent == number] == []


def test_nothing_is_set_aside_for_an_agent_that_never_runs_by_itself(node: Node, deploy: Deploy) -> None:
    with pytest.raises(InputError, match="has no triggers"):
        node.autonomy.fund(deploy(name="idle"), WEI_PER_OPEN, 30.0)
