"""The Python SDK: a node's views and acts as typed calls, sync and async over the same core.

    from openledger.client import OpenLedger

    with OpenLedger("http://127.0.0.1:8600", api_key="olk-…") as network:
        answer = network.ask("exploits", "What happened to Uranium on 2021-04-28?")
        print(answer.text, answer.receipt)

The answers are the frozen data of :mod:`openledger.node.views`.
"""

from openledger.client.clients import Answer, AsyncOpenLedger, OpenLedger

__all__ = ["Answer", "AsyncOpenLedger", "OpenLedger"]
