"""The official OpenAI client sees, and may ask, only the models that its key is good for and that the register lets be served."""

from __future__ import annotations

import openai
import pytest
from sqlalchemy import select

from openledger.node.server import Server
from openledger.node.service import Node
from openledger.primitives import WEI_PER_OPEN, NotFoundError
from openledger.storage import ModelRecord
from openledger.studio import ApiKey

pytestmark = pytest.mark.chain
QUESTION = [{"role": "user", "content": "What happened?"}]


def ai(server: Server, key: ApiKey) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key.reveal(), max_retries=0, timeout=120)


def seen(client: openai.OpenAI) -> list[str]:
    return [model.id for model in client.models.list()]


def register_again(node: Node) -> int:
    """The same model once more on the chain, under the name "other"."""
    registry, builder = node.chain.contract("ModelRegistry"), node.keys.wallet("builder")
    entry = list(registry.functions.model(1).call()[0])
    [job] = registry.events.TrainingRecorded().process_receipt(
        node.chain.send(builder, registry.functions.recordTraining(entry[6], entry[7], entry[0], entry[3]))
    )
    entry[-1] = job["args"]["job"]
    node.chain.send(builder, registry.functions.register(tuple(entry)))
    number = int(registry.functions.modelCount().call())
    with node.database.session() as session:
        first = session.scalars(select(ModelRecord).where(ModelRecord.id == 1)).one()
        kept = {name: getattr(first, name) for name in ("base", "datanet", "version", "run", "meta")}
        session.add(ModelRecord(id=number, name="other", **kept))
    node.inference.serve(node.shelf.load(node.database, number))
    return number


def test_a_key_sees_only_its_models_and_a_deprecated_one_is_served_to_nobody(server: Server, node: Node) -> None:
    other = register_again(node)
    all_, _, _ = node.create_key(WEI_PER_OPEN, 1.0)
    one, _, _ = node.create_key(WEI_PER_OPEN, 1.0, ["other"])
    assert one.models == {other}
    assert seen(ai(server, all_)) == ["tiny", "other"]
    assert seen(ai(server, one)) == ["other"]

    answer = ai(server, one).chat.completions.create(model="other", messages=QUESTION, max_tokens=2)
    assert answer.model_extra["openledger"]["receipt"]  # type: ignore[index]
    for name in ("tiny", f"{node.shelf.engine.name}:tiny", "nobody"):
        with pytest.raises(openai.NotFoundError, match="served: other"):
            ai(server, one).chat.completions.create(model=name, messages=QUESTION)
        with pytest.raises(openai.NotFoundError):
            ai(server, one).models.retrieve(name)

    wider = ApiKey(one.consumer, one.secret)
    with pytest.raises(openai.APIStatusError, match="no session key of") as refused:
        ai(server, wider).chat.completions.create(model="tiny", messages=QUESTION)
    assert refused.value.status_code == 402
    stolen = ApiKey(one.consumer, bytes(one.signer.key))
    with pytest.raises(openai.APIStatusError, match="no session key of"):
        ai(server, stolen).chat.completions.create(model="tiny", messages=QUESTION)

    node.chain.send(node.keys.wallet("builder"), node.chain.contract("ModelRegistry").functions.deprecate(other))
    node._stop.wait(2.1)  # an answer of the register is used again for two seconds
    assert seen(ai(server, all_)) == ["tiny"]
    assert seen(ai(server, one)) == []
    with pytest.raises(openai.NotFoundError):
        ai(server, all_).chat.completions.create(model="other", messages=QUESTION)


def test_a_key_for_a_model_that_does_not_exist_is_not_made(node: Node) -> None:
    with pytest.raises(NotFoundError, match="'nobody'"):
        node.create_key(WEI_PER_OPEN, 1.0, ["nobody"])
