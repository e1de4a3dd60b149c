"""The accounts of the founding network, by the names that its key store knows them by.

Every one has a key of its own. The network that is set up for the first time plays all of them, so that one person sees the
whole market; a real network's people hold their own keys.
"""

from __future__ import annotations

from dataclasses import dataclass

GENESIS = "genesis"
COMMUNITY = "community"
SETTLER = "settler"
GUARDIAN = "guardian"
OWNER = "owner"
BUILDER = "builder"
HOST = "host"
CONSUMER = "consumer"
ADVERSARY = "mallory"

CONTRIBUTORS = ("ada", "boris", "chidi", "dana", "emre", "fen")
REVIEWERS = ("rosa", "sami", "tove", "uma", "viktor")
VALIDATORS = ("wanda", "xavier")
HOLDERS = ("yara", "zeno")


@dataclass(frozen=True)
class Person:
    """One account: its name in the key store, the name and role shown, and what it is given to start with in OPEN."""

    name: str
    label: str
    role: str
    funds: int


PEOPLE = (
    Person(COMMUNITY, "Community fund", "fund", 0),
    Person(SETTLER, "Settler", "settler", 100),
    Person(GUARDIAN, "Guardian", "guardian", 100),
    Person(OWNER, "Olu (Datanet owner)", "Datanet owner", 1_000),
    Person(BUILDER, "Bea (model builder)", "builder", 1_000),
    Person(HOST, "Hugo (host)", "host", 3_000),
    Person(CONSUMER, "Caro (consumer)", "consumer", 5_000),
    Person(ADVERSARY, "Mallory", "contributor", 1_000),
    *(Person(name, name.capitalize(), "contributor", 500) for name in CONTRIBUTORS),
    *(Person(name, name.capitalize(), "reviewer", 4_000) for name in REVIEWERS),
    *(Person(name, name.capitalize(), "validator", 12_000) for name in VALIDATORS),
    *(Person(name, name.capitalize(), "holder", 30_000_000) for name in HOLDERS),
)
