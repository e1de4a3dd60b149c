"""What the compiled contracts say about themselves: ``docs/contracts-reference.md``, and functions without documentation.

The page lists each contract's storage and events, and the attacks, invariants and proofs among the Solidity tests, by name. It is
written and compared together with the artifacts (:mod:`openledger.chain.build`), so it cannot drift from the source.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HEAD = """# Contracts: storage, events, tests

Written by `python -m openledger.chain.build` from the compiled sources; `make artifacts-check` fails where it differs. What the
contracts do is in [contracts](contracts.md). No contract is upgradeable, so a layout matters only to who reads storage
directly. Inherited events are included.
"""
_TESTS = (
    ("Attacks", "test_attack_", "what is tried, and fails"),
    ("Invariants", "invariant_", "what random actors cannot break"),
    ("Proofs", "check_", "what Halmos proves for all inputs, in the bounds given in [contracts](contracts.md)"),
)
_FUNCTION = re.compile(r"^ {4}function (\w+)\(([^)]*)\)", re.MULTILINE)
_VARIABLE = re.compile(r"^ {4}[^/\n(][^;\n]*\bpublic\b[^;(\n]*?\b(\w+)(?: =|;|$)", re.MULTILINE)
_BASES = re.compile(r"^(?:abstract contract|contract|interface) (\w+) is\s+([^{]+)\{", re.MULTILINE)


@dataclass(frozen=True)
class Compiled:
    """One compiled contract or interface of ours."""

    name: str
    source: str
    bases: tuple[str, ...]
    output: dict[str, Any]

    @property
    def documentation(self) -> dict[str, dict[str, str]]:
        """Documentation by signature: ``notice`` and the tags of developers, ``custom:misuse`` among them."""
        metadata = json.loads(self.output["rawMetadata"])["output"]
        found: dict[str, dict[str, str]] = {}
        for kind in ("userdoc", "devdoc"):
            for signature, tags in metadata[kind].get("methods", {}).items():
                found.setdefault(signature, {}).update(tags)
        return found


def read_compiled(folder: Path) -> dict[str, Compiled]:
    """Everything that ``forge build`` compiled from ``folder/src``, by name."""
    found = {}
    for path in sorted((folder / "src").rglob("*.sol")):
        artifact = folder / "out" / path.name / f"{path.stem}.json"
        if not artifact.is_file():
            continue
        source = path.read_text(encoding="utf-8")
        bases = next((match[2] for match in _BASES.finditer(source) if match[1] == path.stem), "")
        names = tuple(re.findall(r"\w+", re.sub(r"\([^)]*\)", "", bases)))
        found[path.stem] = Compiled(path.stem, source, names, json.loads(artifact.read_text(encoding="utf-8")))
    return found


def undocumented(compiled: dict[str, Compiled], names: Iterable[str]) -> list[str]:
    """Functions of the contracts ``names`` that lack a ``@notice``, or a ``@custom:misuse`` saying how they are misused.

    A public variable that no interface declares needs the notice alone. What OpenZeppelin declares is documented there.
    """
    missing = []
    for name in names:
        if name not in compiled:
            continue
        family = _family(compiled, name)
        functions = {
            (found, len(list(filter(str.strip, fields.split(",")))))
            for member in family
            for found, fields in _FUNCTION.findall(member.source)
        }
        variables = {found for member in family for found in _VARIABLE.findall(member.source)}
        for signature in compiled[name].output["methodIdentifiers"]:
            function = signature.partition("(")[0]
            ours = (function, _arity(signature)) in functions
            if not ours and function not in variables:
                continue
            tags: dict[str, str] = {}
            for member in family:
                tags |= member.documentation.get(signature, {})
            wanted = ("notice", "custom:misuse") if ours else ("notice",)
            missing += [f"{name}.{signature} lacks @{tag}" for tag in wanted if not tags.get(tag)]
    return missing


def reference(folder: Path, compiled: dict[str, Compiled], names: Iterable[str]) -> str:
    """The text of ``docs/contracts-reference.md``."""
    parts = [_HEAD]
    for name in sorted(set(names) & set(compiled)):
        parts.append(f"## {name}\n")
        parts.append(_storage(compiled[name].output["storageLayout"]))
        parts.append(_events(compiled[name].output["abi"]))
    for title, prefix, what in _TESTS:
        parts.append(f"## {title}\n\nTests named `{prefix}…`: {what}.\n")
        parts.append(_table(("file", "test"), _tests(folder, prefix)))
    return "\n".join(parts)


def _family(compiled: dict[str, Compiled], name: str) -> list[Compiled]:
    members = [compiled[name]]
    for base in compiled[name].bases:
        if base in compiled:
            members += [member for member in _family(compiled, base) if member not in members]
    return members


def _arity(signature: str) -> int:
    """Number of a signature's parameters; a struct counts as one."""
    fields = signature.partition("(")[2].removesuffix(")")
    while fields != (flat := re.sub(r"\([^()]*\)", "struct", fields)):
        fields = flat
    return len(list(filter(None, fields.split(","))))


def _storage(layout: dict[str, Any]) -> str:
    types = layout["types"] or {}
    rows = [
        (entry["slot"], str(entry["offset"]), f"`{entry['label']}`", f"`{types[entry['type']]['label']}`")
        for entry in layout["storage"]
    ]
    return _table(("slot", "byte", "storage", "type"), rows) if rows else "No storage.\n"


def _events(abi: list[dict[str, Any]]) -> str:
    rows = sorted(
        (f"`{entry['name']}`", ", ".join(f"`{_type(field)}`" for field in entry["inputs"]) or "nothing")
        for entry in abi
        if entry["type"] == "event"
    )
    return _table(("event", "fields"), rows) if rows else "No events.\n"


def _type(field: dict[str, Any]) -> str:
    kind = str(field["internalType"]).removeprefix("struct ").removeprefix("enum ").removeprefix("contract ")
    return " ".join(filter(None, (kind, "indexed" if field["indexed"] else "", str(field["name"]))))


def _tests(folder: Path, prefix: str) -> list[tuple[str, str]]:
    return [
        (f"`{path.relative_to(folder)}`", f"`{name}`")
        for path in sorted((folder / "test").rglob("*.sol"))
        for name, _ in _FUNCTION.findall(path.read_text(encoding="utf-8"))
        if name.startswith(prefix)
    ]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
