"""Who may read a Datanet and who earns from it, on a real chain."""

import pytest
from eth_account.signers.local import LocalAccount

from openledger.chain import Chain, DevChain, Holders, deploy
from openledger.datanets import (
    AccessRule,
    DatanetTerms,
    RequestState,
    access_requests,
    claim_income,
    claimable_income,
    create_datanet,
    datanet_terms,
    deny_request,
    grant_access,
    grant_request,
    has_access,
    load_terms,
    request_access,
    revoke_access,
    withdraw_request,
)
from openledger.primitives import RevertError
from openledger.tokenomics import load_allocation

pytestmark = pytest.mark.chain
OPEN = 10**18


class Library:
    """A chain with an owner and a reader, and a Datanet for each access rule."""

    def __init__(self, dev: DevChain) -> None:
        self.dev, self.chain = dev, Chain(dev.rpc_url)
        holders = Holders(free={"community": self.wallet("bank").address})
        deploy(self.chain, self.wallet("genesis"), load_allocation(), holders=holders)
        for name in ("owner", "reader"):
            self.chain.transfer(self.wallet("bank"), self.wallet(name).address, 1_000 * OPEN)
        self.datanets = {
            rule: create_datanet(
                self.chain, self.wallet("owner"), load_terms(), "", DatanetTerms(rule, access_fee=3 * OPEN)
            )
            for rule in AccessRule
        }

    def wallet(self, name: str) -> LocalAccount:
        return self.dev.keys.wallet(name)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    with DevChain(tmp_path_factory.mktemp("library")) as dev:
        yield Library(dev)


def test_an_open_datanet_is_read_by_everybody(library):
    datanet, reader = library.datanets[AccessRule.OPEN], library.wallet("reader")
    assert has_access(library.chain, datanet, reader.address)
    with pytest.raises(RevertError) as refused:
        request_access(library.chain, reader, datanet)
    assert refused.value.name == "AccessIsOpen"


def test_paid_access_is_granted_at_once_and_cannot_be_taken_back(library):
    chain, datanet, reader = library.chain, library.datanets[AccessRule.PAID], library.wallet("reader")
    assert not has_access(chain, datanet, reader.address)
    owned = chain.balance(library.wallet("owner").address)
    request_access(chain, reader, datanet)
    assert has_access(chain, datanet, reader.address)
    assert chain.balance(library.wallet("owner").address) == owned + 3 * OPEN  # no version yet: nobody to share with
    with pytest.raises(RevertError) as refused:
        revoke_access(chain, library.wallet("owner"), datanet, reader.address)
    assert refused.value.name == "GrantIsPaid"


def test_the_owner_grants_or_denies_and_the_reader_may_withdraw(library):
    chain, datanet = library.chain, library.datanets[AccessRule.GRANTED]
    owner, reader = library.wallet("owner"), library.wallet("reader")
    assert datanet_terms(chain, datanet).access_fee == 3 * OPEN
    first, second, third = (request_access(chain, reader, datanet) for _ in range(3))
    assert chain.balance(chain.address("DatanetAccess")) == 9 * OPEN
    deny_request(chain, owner, first)
    withdraw_request(chain, reader, second)
    assert not has_access(chain, datanet, reader.address)
    with pytest.raises(RevertError) as refused:
        grant_request(chain, reader, third, chain.time() + 1_000)
    assert refused.value.name == "NotOwner"
    grant_request(chain, owner, third, chain.time() + 1_000)
    assert [request.state for request in access_requests(chain, datanet)] == [
        RequestState.DENIED,
        RequestState.WITHDRAWN,
        RequestState.GRANTED,
    ]
    assert has_access(chain, datanet, reader.address)
    library.dev.warp(1_001)
    assert not has_access(chain, datanet, reader.address)
    grant_access(chain, owner, datanet, reader.address, chain.time() + 1_000)
    assert has_access(chain, datanet, reader.address)
    revoke_access(chain, owner, datanet, reader.address)
    assert not has_access(chain, datanet, reader.address)


def test_without_income_there_is_nothing_to_claim(library):
    datanet = library.datanets[AccessRule.PAID]
    assert claimable_income(library.chain, datanet, 1, 1) == 0
    with pytest.raises(RevertError) as refused:
        claim_income(library.chain, library.wallet("reader"), datanet, 1, 1)
    assert refused.value.name == "NothingToClaim"
