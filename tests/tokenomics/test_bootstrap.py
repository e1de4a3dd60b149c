"""The community's bootstrap: its list is checked, everybody on it claims once and exactly that, the rest goes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openledger.chain import Chain, DevChain, Holders, deploy
from openledger.primitives import (
    WEI_PER_OPEN,
    InputError,
    NotFoundError,
    RevertError,
    standard_leaf,
)
from openledger.primitives.merkle import verify
from openledger.tokenomics import (
    Bootstrap,
    claim_grant,
    load_allocation,
    make_bootstrap,
    read_bootstrap,
    return_remainder,
)

A, B, C = (f"0x{number:040x}" for number in (0xA1, 0xB2, 0xC3))
addresses = st.integers(1, 2**160 - 1).map(lambda number: f"0x{number:040x}")


@given(st.dictionaries(addresses, st.integers(1, 10**27), min_size=1, max_size=20))
def test_every_grant_is_proven_against_the_root_and_survives_publication(grants: dict[str, int]) -> None:
    made = make_bootstrap(grants.items(), 60)
    assert made.total == sum(grants.values())
    assert Bootstrap.from_json(json.loads(json.dumps(made.to_json()))) == made
    for account, amount in made.grants:
        assert verify(made.root, standard_leaf(["address", "uint256"], (account, amount)), made.proof(account))
        assert not verify(made.root, standard_leaf(["address", "uint256"], (account, amount + 1)), made.proof(account))


def test_csv_and_json_give_the_same_list_in_any_order(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"address,amount\n{B},10\n{A},0.5\n")
    (tmp_path / "list.json").write_text(json.dumps([[A, "0.5"], [B, "10"]]))
    one, other = (read_bootstrap(tmp_path / name, 60) for name in ("list.csv", "list.json"))
    assert one == other
    assert one.amount(A) == WEI_PER_OPEN // 2


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("list.csv", "who,what\nada,1\n", "needs the columns address and amount"),
        ("list.csv", "address,amount\nada,1\n", "row 1 of the list: 'ada' is no address"),
        ("list.csv", f"address,amount\n{A},1\n{A},2\n", "row 2 of the list: .* stands twice"),
        ("list.csv", f"address,amount\n{A},0\n", "must be more than nothing"),
        ("list.csv", "address,amount\n", "the list is empty"),
        ("list.csv", "address,amount\n0x52908400098527886E0F7030069857D2E4169Ee7,1\n", "its checksum is wrong"),
        ("list.json", f'[["{A}", 1]]', "both as text"),
        ("list.json", "{}", "must hold a JSON array"),
    ],
)
def test_a_wrong_list_is_refused_with_the_row(tmp_path: Path, name: str, text: str, why: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=why):
        read_bootstrap(path, 60)


LIST = make_bootstrap([(A, 5 * WEI_PER_OPEN), (B, 7 * WEI_PER_OPEN)], 86_400)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DevChain, Chain]]:
    """A chain that was deployed with the list."""
    with DevChain(tmp_path_factory.mktemp("bootstrap")) as dev:
        chain, fund = Chain(dev.rpc_url), dev.keys.wallet("community")
        holders = Holders(free={"community": fund.address})
        deploy(chain, dev.keys.wallet("genesis"), load_allocation(), holders=holders, bootstrap=LIST)
        yield dev, chain


@pytest.mark.chain
def test_whoever_is_on_the_list_claims_once_and_the_remainder_goes_back(network: tuple[DevChain, Chain]) -> None:
    dev, chain = network
    fund = dev.keys.wallet("community")
    assert chain.balance(chain.address("CommunityDistributor")) == LIST.total
    free = load_allocation().bucket("community").free
    assert free - LIST.total - WEI_PER_OPEN < chain.balance(fund.address) <= free - LIST.total
    assert claim_grant(chain, fund, LIST, A) == chain.balance(A) == 5 * WEI_PER_OPEN
    with pytest.raises(RevertError, match="AlreadyClaimed"):
        claim_grant(chain, fund, LIST, A)
    with pytest.raises(NotFoundError, match="not on the list"):
        claim_grant(chain, fund, LIST, C)
    more = make_bootstrap([(B, 8 * WEI_PER_OPEN)], 60)
    with pytest.raises(RevertError, match="InvalidProof"):
        claim_grant(chain, fund, more, B)
    with pytest.raises(RevertError, match="DistributionRunning"):
        return_remainder(chain, fund)
    dev.warp(86_401)
    with pytest.raises(RevertError, match="DistributionOver"):
        claim_grant(chain, fund, LIST, B)
    before = chain.balance(fund.address)
    assert return_remainder(chain, dev.keys.wallet("community")) == 7 * WEI_PER_OPEN
    assert chain.balance(fund.address) > before


@pytest.mark.chain
def test_a_bootstrap_of_more_than_the_communitys_free_part_is_refused(tmp_path: Path) -> None:
    too_much = make_bootstrap([(A, load_allocation().bucket("community").free + 1)], 60)
    with DevChain(tmp_path) as dev, pytest.raises(InputError, match="the bootstrap gives away"):
        deploy(Chain(dev.rpc_url), dev.keys.wallet("genesis"), load_allocation(), bootstrap=too_much)
