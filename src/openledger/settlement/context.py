"""Reading the terms of payouts from the chain and the public blobs, so that anyone computes the same.

Nothing but events up to one block, immutable or checkpointed contract state, and blobs named by hashes on chain is read.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from openledger.chain import Chain, Role
from openledger.primitives import (
    InputError,
    MerkleTree,
    NotFoundError,
    OpenLedgerError,
    VerificationError,
    from_hex,
    keccak,
    record_hash,
    to_hex,
)
from openledger.settlement.payouts import Terms
from openledger.settlement.terms import Accuracy, Attestation, Batch, FeeSplit, Model, Origin, Version, VersionId

_RECEIPT = 0
"""Kind of a dispute about a receipt; see :class:`openledger.settlement.disputes.DisputeKind`."""


class Blobs(Protocol):
    """Public content-addressed blobs, such as :class:`openledger.storage.BlobStore`."""

    def get_json(self, digest: bytes) -> Any: ...


@dataclass(frozen=True)
class ReviewedContribution:
    """A finalised contribution: its record hashes in order, which were accepted, and the revealed verdicts."""

    number: int
    contributor: str
    records: tuple[bytes, ...]
    accepted: bytes
    verdicts: Mapping[str, bytes]

    def origins(self) -> dict[bytes, Origin]:
        """The accepted records with their contributor and the reviewers whose verdict accepts them."""
        return {
            record: Origin(self.contributor, self._curators(position))
            for position, record in reversed(list(enumerate(self.records)))
            if _bit(self.accepted, position)
        }

    def _curators(self, position: int) -> tuple[str, ...]:
        return tuple(sorted(reviewer for reviewer, verdict in self.verdicts.items() if _bit(verdict, position)))


class TermsReader:
    """Reads :class:`Terms` again and again; events and versions already read are kept. Safe from several threads.

    Args:
        chain: with its deployment. Its past is taken as final: give it a node that serves finalised blocks.
        blobs: must hold the manifests of contributions and versions, and the models' evaluations.
    """

    def __init__(self, chain: Chain, blobs: Blobs) -> None:
        self._chain = chain
        self._blobs = blobs
        self._events: dict[tuple[str, str], list[Any]] = defaultdict(list)
        self._read_to: dict[tuple[str, str], int] = {}
        self._versions: dict[VersionId, Version] = {}
        self._weights: dict[tuple[int, str], int] = {}
        self._accuracies: dict[bytes, Accuracy] = {}
        self._treasury = ""
        self._lock = threading.RLock()
        self.problems: dict[VersionId, str] = {}
        """Versions whose records could not be read, and why."""

    def read(self, as_of_block: int | None = None) -> Terms:
        """The terms as of the end of ``as_of_block`` (the latest block by default).

        A version whose manifests are missing or wrong is left out and named in :attr:`problems`.
        """
        block = self._chain.w3.eth.block_number if as_of_block is None else as_of_block
        registry = self._chain.contract("DatanetRegistry").functions
        with self._lock:
            self._treasury = self._treasury or str(self._chain.call(registry.treasury()))
            models = self._models(block)
            return Terms(
                treasury=self._treasury,
                batches=tuple(self._batches(block)),
                models=models,
                versions=self._needed_versions({model.version for model in models.values()}),
                redeemed=self._redeemed(block),
            )

    def version(self, datanet: int, number: int) -> Version:
        """One anchored version with the origin of every record.

        Raises:
            NotFoundError: no such version, or a manifest is not among the blobs.
            VerificationError: the manifests do not lead to the roots on chain.
        """
        with self._lock:
            if (datanet, number) not in self._versions:
                self._versions[datanet, number] = self._read_version(datanet, number)
            return self._versions[datanet, number]

    def _logs(self, contract: str, event: str, block: int) -> list[Any]:
        """Events up to ``block``, in order."""
        key = (contract, event)
        with self._lock:
            start = self._read_to.get(key, 0)
            if start <= block:
                self._events[key] += self._chain.events(contract, event, start, block)
                self._read_to[key] = block + 1
            return [log for log in self._events[key] if log["blockNumber"] <= block]

    def _batches(self, block: int) -> Iterable[Batch]:
        attestations = defaultdict(list)
        for log in self._logs("InferenceLedger", "BatchAttested", block):
            attestations[log["args"]["batchId"]].append((log["args"]["validator"], log["args"]["valid"]))
        challenged = self._challenged(block)
        disabled = {log["args"]["batchId"] for log in self._logs("Disputes", "BatchDisabled", block)}
        for log in self._logs("InferenceLedger", "BatchPosted", block):
            posted = log["args"]
            number = posted["batchId"]
            yield Batch(
                number=number,
                host=posted["poster"],
                first_sequence=posted["firstSequence"],
                count=posted["count"],
                root=bytes(posted["root"]),
                split=FeeSplit(*posted["split"]),
                influence_ppm=posted["influencePpm"],
                position=_position(log),
                attestations=tuple(
                    Attestation(validator, self._weight(log["blockNumber"], validator), valid)
                    for validator, valid in attestations[number]
                ),
                challenged=frozenset(challenged[number]),
                disabled=number in disabled,
            )

    def _challenged(self, block: int) -> Mapping[int, set[int]]:
        """Sequences of receipts under an open challenge, by batch."""
        decided = {log["args"]["id"] for log in self._logs("Disputes", "DisputeResolved", block)}
        found: defaultdict[int, set[int]] = defaultdict(set)
        for log in self._logs("Disputes", "DisputeOpened", block):
            opened = log["args"]
            if opened["kind"] == _RECEIPT and opened["id"] not in decided:
                found[opened["subject"]].add(opened["sequence"])
        return found

    def _weight(self, block: int, validator: str) -> int:
        key = (block, validator)
        if key not in self._weights:
            manager = self._chain.contract("StakeManager")
            self._weights[key] = int(self._chain.call(manager.functions.weightAt(Role.VALIDATOR, validator, block)))
        return self._weights[key]

    def _models(self, block: int) -> dict[int, Model]:
        owners = defaultdict(list)
        for log in self._logs("ModelRegistry", "Transfer", block):
            owners[log["args"]["tokenId"]].append((_position(log), log["args"]["to"]))
        lines = {log["args"]["id"]: log["args"] for log in self._logs("ModelRegistry", "LineageSet", block)}
        accepted = defaultdict(list)
        for log in self._logs("ModelRegistry", "ModelEvaluated", block):
            accuracy = self._accuracy(bytes(log["args"]["evaluationHash"]))
            accepted[log["args"]["id"]].append((_position(log), accuracy))
        return {
            log["args"]["id"]: Model(
                number=log["args"]["id"],
                version=(log["args"]["datanet"], log["args"]["version"]),
                owners=tuple(owners[log["args"]["id"]]),
                parent=lines[log["args"]["id"]]["parent"],
                lineage_ppm=lines[log["args"]["id"]]["lineagePpm"],
                accuracy=self._accuracy(bytes(log["args"]["evaluationHash"])),
                accepted=tuple(accepted[log["args"]["id"]]),
            )
            for log in self._logs("ModelRegistry", "ModelRegistered", block)
        }

    def _accuracy(self, evaluation: bytes) -> Accuracy:
        if evaluation not in self._accuracies:
            try:
                self._accuracies[evaluation] = Accuracy.of(self._blobs.get_json(evaluation))
            except NotFoundError:
                return Accuracy(published=False)
            except InputError:
                self._accuracies[evaluation] = Accuracy()
        return self._accuracies[evaluation]

    def _redeemed(self, block: int) -> dict[tuple[str, str], int]:
        return {
            (log["args"]["consumer"], log["args"]["host"]): log["args"]["cumulative"]
            for log in self._logs("FeeEscrow", "VoucherRedeemed", block)
        }

    def _needed_versions(self, needed: Iterable[VersionId]) -> dict[VersionId, Version]:
        found = {}
        for datanet, number in needed:
            if datanet == 0:
                continue
            try:
                found[datanet, number] = self.version(datanet, number)
                self.problems.pop((datanet, number), None)
            except OpenLedgerError as error:
                self.problems[datanet, number] = str(error)
        return found

    def _read_version(self, datanet: int, number: int) -> Version:
        latest = self._chain.w3.eth.block_number
        for log in self._logs("DatanetRegistry", "VersionAnchored", latest):
            anchored = log["args"]
            if (anchored["datanet"], anchored["version"]) == (datanet, number):
                break
        else:
            raise NotFoundError(f"Datanet {datanet} has no version {number}")
        records: dict[bytes, Origin] = {}
        for contribution in self.contributions(anchored["contributionIds"]):
            records = contribution.origins() | records
        for log in self._logs("DatanetRegistry", "RecordRemoved", latest):
            if log["args"]["datanet"] == datanet and log["args"]["version"] <= number:
                records.pop(bytes(log["args"]["recordHash"]), None)
        root = bytes(anchored["root"])
        if version_root(records) != root:
            for removed in self._removed(bytes(anchored["manifest"])):
                records.pop(removed, None)
        if version_root(records) != root:
            raise VerificationError(
                f"version {number} of Datanet {datanet}: the accepted records of contributions "
                f"{anchored['contributionIds']} give the root {to_hex(version_root(records))}, the chain holds {to_hex(root)}"
            )
        return Version(datanet, number, root, records)

    def contributions(self, numbers: Iterable[int]) -> list[ReviewedContribution]:
        """Finalised contributions in ascending order of their number.

        Raises:
            NotFoundError: a manifest is not among the blobs, or a contribution is not final.
            VerificationError: a manifest's records do not give the root on chain.
        """
        wanted = sorted(numbers)
        submitted = {log["args"]["id"]: log["args"] for log in self._of_contributions("ContributionSubmitted", wanted)}
        finalised = {log["args"]["id"]: log for log in self._of_contributions("ContributionFinalised", wanted)}
        verdicts: dict[int, dict[str, bytes]] = defaultdict(dict)
        for log in self._of_contributions("VerdictRevealed", wanted):
            verdict = log["args"]
            if verdict["id"] in finalised and verdict["round"] == finalised[verdict["id"]]["args"]["round"]:
                verdicts[verdict["id"]][verdict["reviewer"]] = bytes(verdict["verdict"])
        if missing := [number for number in wanted if number not in finalised]:
            raise NotFoundError(f"contributions {missing} are not finalised")
        return [
            ReviewedContribution(
                number=number,
                contributor=submitted[number]["contributor"],
                records=self._records(submitted[number]),
                accepted=bytes(finalised[number]["args"]["accepted"]),
                verdicts=verdicts[number],
            )
            for number in wanted
        ]

    def _of_contributions(self, event: str, numbers: Iterable[int]) -> list[Any]:
        wanted = set(numbers)
        logs = self._logs("DatanetRegistry", event, self._chain.w3.eth.block_number)
        return [log for log in logs if log["args"]["id"] in wanted]

    def _records(self, submitted: Mapping[str, Any]) -> tuple[bytes, ...]:
        manifest = bytes(submitted["manifest"])
        document = self._blobs.get_json(manifest)
        records = document.get("records") if isinstance(document, dict) else None
        if not isinstance(records, list):
            raise InputError(f"blob {to_hex(manifest)} is not a contribution's manifest: it has no list of records")
        hashes = tuple(record_hash(record) for record in records)
        root = MerkleTree([keccak(record) for record in hashes]).root
        if root != bytes(submitted["recordsRoot"]):
            raise VerificationError(
                f"contribution {submitted['id']}: its manifest's records give the root {to_hex(root)}, the chain holds "
                f"{to_hex(submitted['recordsRoot'])}"
            )
        return hashes

    def _removed(self, manifest: bytes) -> list[bytes]:
        document = self._blobs.get_json(manifest)
        removed = document.get("removed", []) if isinstance(document, dict) else None
        if not isinstance(removed, list):
            raise InputError(f"blob {to_hex(manifest)} is not a version's manifest: `removed` is no list")
        return [from_hex(record, 32) for record in removed]


def version_root(records: Iterable[bytes]) -> bytes:
    """The root of a version: the Merkle root over ``keccak256(record hash)`` in ascending order of the record hash."""
    return MerkleTree([keccak(record) for record in sorted(records)]).root


def _position(log: Any) -> tuple[int, int]:
    return log["blockNumber"], log["logIndex"]


def _bit(bitmap: bytes, position: int) -> bool:
    return len(bitmap) > position // 8 and bool(bitmap[position // 8] >> position % 8 & 1)
