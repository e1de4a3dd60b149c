"""Short question-and-answer pairs made from reference works, so that the base model knows the dialogue's form."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from openledger.models.pretraining.extract import docstrings, is_prose, rst, tidy

_LIMIT = 330


@dataclass(frozen=True, slots=True)
class Pair:
    """One question with its answer; ``kind`` says from what sort of source."""

    question: str
    answer: str
    kind: str


@dataclass(frozen=True, slots=True)
class Package:
    """A Debian package as the archive's lists describe it; ``size`` in kB once installed, 0 when not stated."""

    name: str
    synopsis: str
    body: tuple[str, ...]
    version: str = ""
    section: str = ""
    homepage: str = ""
    size: int = 0

    def prose(self) -> str:
        """The description as a document: the synopsis, then every paragraph that is prose; empty when there is none."""
        kept = [paragraph for paragraph in self.body if is_prose(paragraph)]
        return "\n\n".join([f"{self.name}: {self.synopsis}.", *kept]) if kept else ""


def packages(translations: str, lists: str) -> Iterator[Package]:
    """Join the archive's English descriptions with its package lists, one ``Package`` per name."""
    facts: dict[str, dict[str, str]] = {}
    for stanza in lists.split("\n\n"):
        fields = dict(re.findall(r"^([A-Z][\w-]*): (.*)$", stanza, re.MULTILINE))
        if "Package" in fields:
            facts[fields["Package"]] = fields
    done: set[str] = set()
    for stanza in translations.split("\n\n"):
        match = re.match(r"Package: (\S+)\n.*?Description-en: (.*?)\n(.*)", stanza, re.DOTALL)
        if not match or match.group(1) in done or not match.group(2).isascii():
            continue
        done.add(match.group(1))
        body = re.split(r"\n \.\n?", "\n" + match.group(3))
        paragraphs = tuple(tidy(block) for block in body if not re.search(r"\n  ", block))
        known = facts.get(match.group(1), {})
        size = known.get("Installed-Size", "0")
        yield Package(
            match.group(1),
            tidy(match.group(2)),
            paragraphs,
            known.get("Version", ""),
            known.get("Section", ""),
            known.get("Homepage", ""),
            int(size) if size.isdigit() else 0,
        )


def about_package(package: Package, generator: random.Random) -> Iterator[Pair]:
    """What a package is, and its facts: version, section, installed size."""
    first = next((paragraph for paragraph in package.body if is_prose(paragraph)), "")
    answer = _sentences(first, _LIMIT)
    if answer:
        question = generator.choice(
            ["What is the package {}?", "What is {}?", "Tell me about {}.", "What does {} do?", "Describe {}."]
        )
        yield Pair(question.format(package.name), answer, "package")
    if package.version and package.section and package.size:
        version = package.version.split(":")[-1]
        question, answer = generator.choice(
            [
                (
                    "How large is {name} once installed?",
                    "{name} takes {size:,} kB once installed. It is described as: {synopsis}.",
                ),
                (
                    "Which version of {name} is in Debian 12?",
                    "Debian 12 has version {version} of {name}, in the section {section}.",
                ),
                (
                    "What do you know about the package {name}?",
                    "{name}, version {version}, is in the section {section} and takes {size:,} kB. Purpose: {synopsis}.",
                ),
                ("To which section does {name} belong?", "{name} belongs to the section {section}: {synopsis}."),
            ]
        )
        values = {
            "name": package.name,
            "size": package.size,
            "synopsis": package.synopsis,
            "version": version,
            "section": package.section,
        }
        yield Pair(question.format(**values), answer.format(**values), "package facts")


def from_foldoc(text: str, generator: random.Random) -> Iterator[Pair]:
    """Entries of the Free On-line Dictionary of Computing."""
    for match in re.finditer(r"^(\S[^\n]*)\n(?:\S[^\n]*\n)*\n((?:   [^\n]*\n)+)", text, re.MULTILINE):
        head, body = match.group(1).strip(), tidy(match.group(2))
        body = re.sub(r"^(?:<[^>]*>\s*)+", "", re.sub(r"[{}]", "", body))
        body = re.sub(r"^\([^)]*\)\s*", "", body)
        answer = _sentences(body, _LIMIT)
        if answer and is_prose(answer) and len(head) < 50:
            question = generator.choice(["What is {}?", "What does {} mean?", "Define {}.", "Explain {}."])
            yield Pair(question.format(head), answer, "computing term")


def from_wordnet(text: str, generator: random.Random) -> Iterator[Pair]:
    """Meanings of the first word of each WordNet entry."""
    for line in text.splitlines():
        if line.startswith(" ") or " | " not in line:
            continue
        fields, gloss = line.split(" | ", 1)
        word = fields.split(" ")[4].replace("_", " ")
        meaning = tidy(gloss.split('; "')[0])
        if 25 <= len(meaning) <= 200 and meaning.isascii() and generator.random() < 0.4:
            question = generator.choice(['What does the word "{}" mean?', "What is the meaning of {}?", "Define {}."])
            yield Pair(question.format(word), meaning[0].upper() + meaning[1:] + ".", "word")


def from_man(text: str, filename: str, generator: random.Random) -> Iterator[Pair]:
    """What the command or function of a manual page does, by its NAME line."""
    match = re.search(r'^\.SH "?NAME"?\n(.*?)^\.', text, re.DOTALL | re.MULTILINE)
    if not match:
        return
    line = tidy(re.sub(r"\\f.", "", match.group(1)).replace("\\-", "-"))
    head, found, purpose = line.partition(" - ")
    name, _, section = filename.removesuffix(".gz").rpartition(".")
    if found and name in head and len(purpose) > 12 and "\\" not in line:
        sort = {"1": "command", "8": "command", "2": "system call", "3": "function"}.get(section[:1], "page")
        question = generator.choice(["What does the {} {} do?", "What is the {} {} for?"])
        yield Pair(question.format(sort, name), f"The {sort} {name} is for this: {purpose.rstrip('.')}.", "manual page")


def from_python(text: str, module: str, generator: random.Random) -> Iterator[Pair]:
    """What a Python function or class does, by the first sentence of its docstring."""
    for name, documentation in docstrings(text):
        first = rst(documentation)[:1]
        answer = _sentences(first[0], 200) if first else ""
        if len(answer) > 30 and answer.isascii() and not re.search(r"[{}\\|<>=]|::", answer):
            question = generator.choice(["What does {}.{} do?", "What is {}.{} in Python?"])
            yield Pair(question.format(module, name), answer, "Python")


def from_changelog(text: str, generator: random.Random) -> Iterator[Pair]:
    """When versions of a Debian package were released, by its changelog; no names of people."""
    entries = re.findall(r"^(\S+) \(([^)]+)\) [^\n]*$.*?^ -- [^\n]*?>  ([^\n]+)$", text, re.MULTILINE | re.DOTALL)
    for name, version, stamp in generator.sample(entries, min(12, len(entries))):
        try:
            day = parsedate_to_datetime(stamp).astimezone(UTC)
        except (TypeError, ValueError):
            continue
        if not datetime(1993, 1, 1, tzinfo=UTC) < day < datetime(2027, 1, 1, tzinfo=UTC):
            continue
        question, answer = generator.choice(
            [
                ("When was version {v} of {n} released?", "Version {v} of {n} was released on {d:%Y-%m-%d}."),
                ("When did {n} {v} come out?", "{n} {v} came out on {d.day} {d:%B} {d:%Y}."),
                ("What was released on {d:%Y-%m-%d}?", "On {d:%Y-%m-%d}, version {v} of {n} was released."),
                ("What happened to {n} on {d.day} {d:%B} {d:%Y}?", "On {d:%Y-%m-%d}, {n} reached version {v}."),
            ]
        )
        yield Pair(question.format(n=name, v=version, d=day), answer.format(n=name, v=version, d=day), "release")


def _sentences(text: str, limit: int) -> str:
    """The longest run of whole leading sentences within ``limit`` characters; empty when the first is longer."""
    kept = ""
    for sentence in re.findall(r".+?[.!?](?=\s|$)", text):
        if len(kept) + len(sentence) > limit:
            break
        kept += sentence
    return kept.strip()
