"""Challenges of review decisions on this node: with its accounts on both sides, and its reviewers in the larger jury."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from openledger.chain import Chain, KeyStore
from openledger.datanets import (
    Challenge,
    ContributionState,
    challenge,
    challenges,
    contribution_entry,
    defend,
    review_times,
    settle_challenge,
)
from openledger.node import views
from openledger.node.curating import Curation
from openledger.node.people import SETTLER
from openledger.primitives import ChainError, InputError


class Appeals:
    """Both sides of challenges, and the appeal that decides them. Rows are counted from 1.

    Args:
        chain: with its deployment.
        keys: the accounts that may take sides.
        curation: has the larger jury judge.
        party: names an account.
    """

    def __init__(self, chain: Chain, keys: KeyStore, curation: Curation, party: Callable[[str], views.Party]) -> None:
        self._chain = chain
        self._keys = keys
        self._curation = curation
        self._party = party

    def rows(self, contribution: int) -> list[views.ChallengeRow]:
        """The challenges of the decision on a contribution, in order."""
        return [self._row(found) for found in challenges(self._chain, contribution)]

    def challenge(self, contribution: int, account: str, rows: Sequence[int]) -> views.ChallengeRow:
        """Challenges the decision on these rows as an account whose key this node holds, with a bond for each.

        Raises:
            NotFoundError: the key is not here.
            InputError: the contribution has no such row.
            RevertError: the window is over, a row is challenged already, or the account is a reviewer's.
        """
        if not rows or min(rows) < 1:
            raise InputError(f"name the rows to challenge by their numbers from 1, not {list(rows)}")
        positions = [row - 1 for row in rows]
        number = challenge(self._chain, self._keys.find(account), contribution, positions)
        return self._numbered(contribution, number)

    def defend(self, contribution: int, number: int, account: str) -> views.ChallengeRow:
        """Stands by the decision as an account whose key this node holds, with the challenger's bond.

        Raises:
            NotFoundError: the key is not here.
            RevertError: the time is over, somebody defends already, or the account may not take sides.
        """
        defend(self._chain, self._keys.find(account), contribution, number)
        return self._numbered(contribution, number)

    def appeal(self, contribution: int) -> list[views.ChallengeRow]:
        """Waits for the time to defend to end, has a larger jury judge the challenged rows, and pays both sides.

        Raises:
            ChainError: too few reviewers have stake for a larger jury, or too few of them revealed.
            RevertError: nothing is challenged.
        """
        self._curation.wait_until(review_times(self._chain, contribution).defend_end)
        if self._curation.judge(contribution) is not ContributionState.FINALISED:
            raise ChainError(
                f"no larger jury decided on contribution {contribution}: it needs as many more reviewers with stake as the "
                "parameter review.appeal says, beside the first jury; let more people stake, or wait until the appeal lapses"
            )
        for found in challenges(self._chain, contribution):
            if not found.settled:
                settle_challenge(self._chain, self._keys.wallet(SETTLER), contribution, found.number)
        return self.rows(contribution)

    def lapse(self, contribution: int) -> list[views.ChallengeRow]:
        """Waits until an appeal for which no jury came together lapses; the decision stands and all bonds go back.

        Raises:
            RevertError: nothing is decided, or a larger jury is sitting.
        """
        self._curation.wait_until(review_times(self._chain, contribution).lapse_end)
        if contribution_entry(self._chain, contribution).state is ContributionState.DECIDED:
            self._curation.finalise(contribution)
        for found in challenges(self._chain, contribution):
            if not found.settled:
                settle_challenge(self._chain, self._keys.wallet(SETTLER), contribution, found.number)
        return self.rows(contribution)

    def _numbered(self, contribution: int, number: int) -> views.ChallengeRow:
        return self.rows(contribution)[number - 1]

    def _row(self, found: Challenge) -> views.ChallengeRow:
        return views.ChallengeRow(
            contribution=found.contribution,
            number=found.number,
            rows=[position + 1 for position in found.positions],
            challenger=self._party(found.challenger),
            defender=None if found.defender is None else self._party(found.defender),
            bond=found.bond,
            settled=found.settled,
        )
