"""A Datanet's whole life on a real chain: contribution, review, outcome, version."""

from dataclasses import replace

import pytest
from eth_account.signers.local import LocalAccount

from openledger.chain import Chain, DevChain, GovernanceSettings, Holders, Role, deploy
from openledger.datanets import (
    CarefulReviewer,
    ContributionState,
    DuplicateReviewer,
    FactReviewer,
    anchor_version,
    anchored_root,
    bond_of,
    build_contribution,
    build_version,
    challenge,
    commit,
    contribution_entry,
    create_datanet,
    decision,
    defend,
    end_round,
    fill_ballot,
    finalise,
    inspect,
    is_member,
    jury,
    load_records,
    load_terms,
    make_bad_rows,
    next_nonce,
    open_review,
    read_outcome,
    remove_record,
    reveal,
    review,
    review_items,
    review_times,
    settle_challenge,
    submit_contribution,
    tally,
    tombstones,
    verify_contribution,
    verify_version,
    withdraw_contribution,
)
from openledger.primitives import InputError, RevertError, VerificationError
from openledger.tokenomics import load_allocation

pytestmark = pytest.mark.chain

TERMS = load_terms()
RECORDS = load_records()
OPEN = 10**18
REVIEWERS = {
    "carol": CarefulReviewer(),
    "dave": FactReviewer(),
    "erin": CarefulReviewer(),
    "frank": DuplicateReviewer(),
}


class Town:
    """A chain with people on it: an owner, contributors, and four reviewers with stake."""

    def __init__(self, dev: DevChain) -> None:
        self.dev = dev
        self.chain = Chain(dev.rpc_url)
        deploy(
            self.chain,
            self.wallet("genesis"),
            load_allocation(),
            governance=GovernanceSettings.development(),
            holders=Holders(free={"community": self.wallet("bank").address}),
        )
        for name in ("owner", "alice", "bob", "relayer", *REVIEWERS):
            self.chain.transfer(self.wallet("bank"), self.wallet(name).address, 5_000 * OPEN)
        for name in REVIEWERS:
            stake = self.chain.contract("StakeManager").functions.stake(Role.REVIEWER)
            self.chain.send(self.wallet(name), stake, value=1_000 * OPEN)
        self.datanet = create_datanet(self.chain, self.wallet("owner"), TERMS, "datanets/exploits")

    def wallet(self, name: str) -> LocalAccount:
        return self.dev.keys.wallet(name)

    def contribute(self, name: str, records, payer: str | None = None):
        signed = build_contribution(
            TERMS,
            records,
            self.wallet(name),
            self.chain.domain("DatanetRegistry"),
            datanet=self.datanet,
            nonce=next_nonce(self.chain, self.wallet(name).address),
            licence="Apache-2.0",
            intended_use="training",
            time=self.chain.time(),
        )
        return submit_contribution(self.chain, self.wallet(payer or name), signed), signed

    def judge(self, contribution: int, records, known=()):
        """The whole review; returns the outcome and the jurors' bitmaps."""
        jurors = open_review(self.chain, self.wallet("relayer"), contribution)
        assert len(jurors) == 3
        assert jurors == jury(self.chain, contribution)
        bitmaps = self.vote(contribution, jurors, records, known)
        if end_round(self.chain, self.wallet("relayer"), contribution) is ContributionState.DISAGREED:
            joined = open_review(self.chain, self.wallet("relayer"), contribution)
            assert jury(self.chain, contribution) == jurors + joined
            bitmaps += self.vote(contribution, joined, records, known)
            assert end_round(self.chain, self.wallet("relayer"), contribution) is ContributionState.DECIDED
        assert decision(self.chain, contribution) == tally(bitmaps, len(records))
        self.pass_challenges(contribution)
        return finalise(self.chain, self.wallet("relayer"), contribution), bitmaps

    def pass_challenges(self, contribution: int) -> None:
        """Waits until the decision can no longer be challenged."""
        self.dev.warp(review_times(self.chain, contribution).challenge_end - self.chain.time())

    def vote(self, contribution: int, jurors, records, known=()):
        """Every juror commits to and reveals the ballot of its own procedure; returns the bitmaps."""
        names = {self.wallet(name).address: name for name in REVIEWERS}
        items = review_items(records, inspect(records, "Apache-2.0", TERMS, known))
        ballots = {
            names[juror]: fill_ballot(contribution, juror, review(REVIEWERS[names[juror]], items)) for juror in jurors
        }
        for name, ballot in ballots.items():
            commit(self.chain, self.wallet(name), ballot)
        for name, ballot in ballots.items():
            reveal(self.chain, self.wallet(name), ballot)
        return [ballot.bitmap for ballot in ballots.values()]


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with DevChain(tmp_path_factory.mktemp("town")) as dev:
        yield Town(dev)


def test_records_go_from_two_contributors_through_review_into_an_anchored_version(town):
    chain = town.chain
    good, bad = RECORDS[:30], [row.record for row in make_bad_rows(RECORDS[:30], 2, 14)]
    first, signed = town.contribute("alice", good, payer="relayer")
    outcome, bitmaps = town.judge(first, good)
    assert outcome == tally(bitmaps, 30) == [True] * 30

    second, _ = town.contribute("bob", bad)
    held = chain.balance(town.wallet("bob").address)
    verdict, bitmaps = town.judge(second, bad, known=good)
    assert verdict == tally(bitmaps, 14)
    assert sum(verdict) <= 2
    returned = chain.balance(town.wallet("bob").address) - held
    assert returned == bond_of(chain, sum(verdict))

    entry = contribution_entry(chain, first)
    assert entry.contributor == town.wallet("alice").address
    assert (entry.count, entry.accepted_count, entry.state) == (30, 30, ContributionState.FINALISED)
    event = chain.events("DatanetRegistry", "ContributionSubmitted", id=first)[0]["args"]
    assert bytes(event["manifest"]) == signed.manifest.hash
    verify_contribution(
        signed.message, signed.manifest.canonical, signed.signature, chain.domain("DatanetRegistry"), TERMS
    )

    result = read_outcome(chain, first, signed.manifest)
    version = build_version(town.datanet, 1, [result])
    assert anchor_version(chain, town.wallet("owner"), version) == 1
    verify_version(version, [result], anchored_root(chain, town.datanet, 1))
    assert is_member(anchored_root(chain, town.datanet, 1), good[7].hash, version.proof(good[7].hash))


def test_only_the_owner_anchors_and_only_what_was_accepted(town):
    records = RECORDS[40:43]
    number, signed = town.contribute("alice", records)
    with pytest.raises(InputError, match="submitted; its review is not final"):
        read_outcome(town.chain, number, signed.manifest)
    town.judge(number, records)
    result = read_outcome(town.chain, number, signed.manifest)
    version = build_version(town.datanet, 1, [result])
    with pytest.raises(RevertError) as refused:
        anchor_version(town.chain, town.wallet("bob"), version)
    assert refused.value.name == "NotDatanetOwner"
    inflated = build_version(town.datanet, 1, [replace(result, records=tuple(RECORDS[40:44]), accepted=(True,) * 4)])
    with pytest.raises(RevertError) as refused:
        anchor_version(town.chain, town.wallet("owner"), inflated)
    assert refused.value.name == "RecordsExceedAccepted"


def test_another_manifest_does_not_pass_for_the_contributions_own(town):
    number, _ = town.contribute("alice", RECORDS[50:53])
    town.judge(number, RECORDS[50:53])
    _, other = town.contribute("alice", RECORDS[53:56])
    with pytest.raises(VerificationError, match="is not that of contribution"):
        read_outcome(town.chain, number, other.manifest)


def test_a_ballot_that_was_not_committed_to_cannot_be_revealed(town):
    number, _ = town.contribute("bob", RECORDS[60:63])
    jurors = open_review(town.chain, town.wallet("relayer"), number)
    names = {town.wallet(name).address: name for name in REVIEWERS}
    items = review_items(RECORDS[60:63], inspect(RECORDS[60:63], "Apache-2.0", TERMS))
    ballots = [fill_ballot(number, juror, review(CarefulReviewer(), items)) for juror in jurors]
    for juror, ballot in zip(jurors, ballots, strict=True):
        commit(town.chain, town.wallet(names[juror]), ballot)
    changed = replace(ballots[0], bitmap=b"\x00")
    with pytest.raises(RevertError) as refused:
        reveal(town.chain, town.wallet(names[jurors[0]]), changed)
    assert refused.value.name == "CommitmentMismatch"
    outsider = next(name for name in REVIEWERS if town.wallet(name).address not in jurors)
    with pytest.raises(RevertError) as refused:
        commit(town.chain, town.wallet(outsider), fill_ballot(number, town.wallet(outsider).address, []))
    assert refused.value.name in {"NotJuror", "CommitWindowOver"}


def test_a_round_in_which_the_jury_stays_away_is_void_and_a_new_jury_is_drawn(town):
    number, _ = town.contribute("bob", RECORDS[70:72])
    open_review(town.chain, town.wallet("relayer"), number)
    with pytest.raises(RevertError) as refused:
        end_round(town.chain, town.wallet("relayer"), number)
    assert refused.value.name == "ReviewNotOver"
    town.dev.warp(2 * 3600 + 60)
    assert end_round(town.chain, town.wallet("relayer"), number) is ContributionState.SUBMITTED
    assert decision(town.chain, number) == []
    for name in REVIEWERS:  # the penalty took them below the least stake
        town.chain.send(
            town.wallet(name), town.chain.contract("StakeManager").functions.stake(Role.REVIEWER), value=10 * OPEN
        )


def test_a_contributor_cannot_look_at_the_jury_and_withdraw(town):
    number, _ = town.contribute("alice", RECORDS[80:84], payer="relayer")
    with pytest.raises(RevertError) as refused:
        withdraw_contribution(town.chain, town.wallet("alice"), number)
    assert refused.value.name == "JuryIsKnown"


def test_a_challenge_without_a_larger_jury_lapses_and_bonds_return(town):
    chain, records = town.chain, RECORDS[100:103]
    number, _ = town.contribute("alice", records)
    jurors = open_review(chain, town.wallet("relayer"), number)
    town.vote(number, jurors, records)
    assert end_round(chain, town.wallet("relayer"), number) is ContributionState.DECIDED
    with pytest.raises(InputError, match="there is none at 7"):
        challenge(chain, town.wallet("bob"), number, [7])
    dispute = challenge(chain, town.wallet("bob"), number, [0, 2])
    defend(chain, town.wallet("owner"), number, dispute)
    with pytest.raises(RevertError) as refused:
        challenge(chain, town.wallet("carol"), number, [1])
    assert refused.value.name == "PartyIsReviewer"
    appeals = chain.address("ReviewAppeals")
    assert chain.balance(appeals) == 4 * OPEN // 10
    town.dev.warp(review_times(chain, number).lapse_end - chain.time())
    assert finalise(chain, town.wallet("relayer"), number) == [True] * 3
    settle_challenge(chain, town.wallet("relayer"), number, dispute)
    assert chain.balance(appeals) == 0


def test_a_contributor_puts_a_tombstone_on_a_record_of_its_own(town):
    chain, records = town.chain, RECORDS[110:113]
    number, signed = town.contribute("alice", records)
    town.judge(number, records)
    with pytest.raises(RevertError) as refused:
        remove_record(chain, town.wallet("bob"), number, signed.manifest, 1)
    assert refused.value.name == "NotContributor"
    remove_record(chain, town.wallet("alice"), number, signed.manifest, 1)
    assert [stone.record for stone in tombstones(chain, town.datanet)] == [records[1].hash]
    assert contribution_entry(chain, number).removed_count == 1
    version = build_version(town.datanet, 1, [read_outcome(chain, number, signed.manifest)])
    with pytest.raises(RevertError) as refused:
        anchor_version(chain, town.wallet("owner"), version)
    assert refused.value.name == "RecordsExceedAccepted"


def test_the_same_signed_contribution_cannot_be_submitted_twice(town):
    _, signed = town.contribute("alice", RECORDS[90:92])
    with pytest.raises(RevertError) as refused:
        submit_contribution(town.chain, town.wallet("relayer"), signed)
    assert refused.value.name == "WrongNonce"


def test_the_datanets_terms_are_on_the_chain(town):
    (created,) = town.chain.events("DatanetRegistry", "DatanetCreated", datanet=town.datanet)
    assert bytes(created["args"]["schemaHash"]) == TERMS.schema_hash
    assert bytes(created["args"]["policyHash"]) == TERMS.policy_hash
    assert created["args"]["name"] == "smart-contract-exploits"


def test_a_contribution_that_does_not_exist_is_named_as_such(town):
    with pytest.raises(RevertError) as refused:
        contribution_entry(town.chain, 999)
    assert refused.value.name == "UnknownContribution"
