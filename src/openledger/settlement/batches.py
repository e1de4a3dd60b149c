"""Batches on ``InferenceLedger``: every receipt's leaf in calldata, the Merkle root built on chain.

A leaf is the first 24 bytes of the receipt's digest. Inclusion is proven from the chain alone: the leaves are read back from
the posting transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from eth_account.signers.local import LocalAccount
from web3.logs import DISCARD

from openledger.chain import Chain
from openledger.primitives import (
    Domain,
    InputError,
    MerkleTree,
    NotFoundError,
    VerificationError,
    to_hex,
    verify_proof,
)
from openledger.settlement.receipts import ReceiptBody, check_shares_root

LEDGER = "InferenceLedger"

LEAF_BYTES = 24
"""What is posted of a digest: two receipts with one leaf cost 2^96 hashes to find, and a byte of calldata costs 40 gas."""


@dataclass(frozen=True)
class PostedBatch:
    """What posting a batch gave.

    Attributes:
        number: the batch's number in the ledger.
        root: the root that the chain built.
        first_sequence: the host's sequence of the first receipt.
        count: receipts in the batch.
        transaction: hash of the posting transaction.
        block_number: its block.
        gas_used: gas of the whole transaction.
    """

    number: int
    root: bytes
    first_sequence: int
    count: int
    transaction: bytes
    block_number: int
    gas_used: int

    @property
    def gas_per_inference(self) -> float:
        """Gas for one receipt."""
        return self.gas_used / self.count


@dataclass(frozen=True)
class InclusionProof:
    """That a leaf stands in a batch on chain.

    Attributes:
        batch: the batch's number.
        index: the leaf's place in it.
        leaf: the 24 bytes of the receipt's digest that were posted.
        siblings: the Merkle proof.
        root: the root on chain.
        transaction: hash of the posting transaction.
        block_number: its block.
    """

    batch: int
    index: int
    leaf: bytes
    siblings: tuple[bytes, ...]
    root: bytes
    transaction: bytes
    block_number: int

    def holds(self) -> bool:
        """Whether the siblings lead from the leaf to the root."""
        return verify_proof(self.root, _node(self.leaf), self.siblings)


def receipt_leaf(digest: bytes) -> bytes:
    """A receipt's leaf on chain: the first 24 of its digest's 32 bytes."""
    return digest[:LEAF_BYTES]


def batch_tree(leaves: Sequence[bytes]) -> MerkleTree:
    """The tree whose root the ledger builds over leaves of 24 bytes."""
    return MerkleTree([_node(leaf) for leaf in leaves])


def next_sequence(chain: Chain, host: str) -> int:
    """The sequence of the next receipt that ``host`` can post."""
    return int(chain.call(chain.contract(LEDGER).functions.nextSequence(host)))


def post_batch(chain: Chain, wallet: LocalAccount, bodies: Sequence[ReceiptBody]) -> PostedBatch:
    """Posts the leaves of the host's next receipts, in order.

    Raises:
        InputError: no receipt, another host's, or not the next sequences without a gap; nothing was sent.
        RevertError: the ledger refused, for example ``HostNotActive`` without a host's stake.
    """
    if not bodies:
        raise InputError("there is no receipt to post")
    first = next_sequence(chain, wallet.address)
    for position, body in enumerate(bodies):
        if body.receipt.host != wallet.address:
            raise InputError(
                f"receipt {body.receipt.sequence} is {body.receipt.host}'s; {wallet.address} posts its own only"
            )
        if body.receipt.sequence != first + position:
            raise InputError(
                f"place {position} holds receipt {body.receipt.sequence}; the chain expects {first + position}: "
                "post the host's receipts in order and without a gap"
            )
    domain = chain.domain(LEDGER)
    leaves = [receipt_leaf(body.digest(domain)) for body in bodies]
    ledger = chain.contract(LEDGER)
    receipt = chain.send(wallet, ledger.functions.post(first, b"".join(leaves)))
    event = ledger.events.BatchPosted().process_receipt(receipt, errors=DISCARD)[0]
    return PostedBatch(
        number=event["args"]["batchId"],
        root=bytes(event["args"]["root"]),
        first_sequence=first,
        count=len(leaves),
        transaction=bytes(receipt["transactionHash"]),
        block_number=receipt["blockNumber"],
        gas_used=receipt["gasUsed"],
    )


def leaves_of(chain: Chain, number: int) -> tuple[tuple[bytes, ...], bytes]:
    """The leaves of batch ``number`` as they stand in the calldata, and the hash of that transaction.

    Raises:
        NotFoundError: there is no such batch.
        VerificationError: the calldata is not a direct call of ``post``, or does not give the batch's root.
    """
    ledger = chain.contract(LEDGER)
    posted = chain.events(LEDGER, "BatchPosted", batchId=number)
    if not posted:
        raise NotFoundError(f"there is no batch {number} on chain {chain.chain_id}")
    event = posted[0]
    transaction = chain.w3.eth.get_transaction(event["transactionHash"])
    if transaction["to"] != ledger.address:
        raise VerificationError(
            f"batch {number} was posted through {transaction['to']}, so its leaves do not stand in the transaction's own "
            "calldata; ask the poster for them"
        )
    _, arguments = ledger.decode_function_input(transaction["input"])
    packed = bytes(arguments["leaves"])
    leaves = tuple(packed[start : start + LEAF_BYTES] for start in range(0, len(packed), LEAF_BYTES))
    root = batch_tree(leaves).root
    if root != bytes(event["args"]["root"]):
        raise VerificationError(
            f"batch {number}: the calldata gives the root {to_hex(root)}, the chain holds {to_hex(event['args']['root'])}"
        )
    return leaves, bytes(event["transactionHash"])


def find_batch(chain: Chain, host: str, sequence: int) -> int:
    """The number of the batch that holds receipt ``sequence`` of ``host``.

    Raises:
        NotFoundError: it is not posted.
    """
    for event in chain.events(LEDGER, "BatchPosted", poster=host):
        posted = event["args"]
        if 0 <= sequence - posted["firstSequence"] < posted["count"]:
            return int(posted["batchId"])
    raise NotFoundError(
        f"receipt {sequence} of host {host} is not posted on chain {chain.chain_id}; post its batch first"
    )


def proof_from_chain(chain: Chain, host: str, sequence: int) -> InclusionProof:
    """The proof that the ``sequence``-th receipt of ``host`` is on chain, rebuilt from calldata and nothing else.

    Raises:
        NotFoundError: it is not posted.
        VerificationError: the calldata does not give the batch's root.
    """
    number = find_batch(chain, host, sequence)
    leaves, transaction = leaves_of(chain, number)
    batch = chain.call(chain.contract(LEDGER).functions.batch(number))
    root, block_number, first_sequence = bytes(batch[0]), int(batch[3]), int(batch[4])
    index = sequence - first_sequence
    return InclusionProof(
        batch=number,
        index=index,
        leaf=leaves[index],
        siblings=tuple(batch_tree(leaves).proof(index)),
        root=root,
        transaction=transaction,
        block_number=block_number,
    )


def admit(
    bodies: Iterable[ReceiptBody], host: str, first_sequence: int, leaves: Sequence[bytes], domain: Domain
) -> tuple[list[ReceiptBody], Mapping[int, str]]:
    """Those of ``bodies`` that are what ``host`` posted, and why the others are not, by sequence.

    A body is admitted when its digest is its leaf and its shares lead to its shares root. The host posted the leaf itself,
    so its signature adds nothing here; :func:`openledger.settlement.receipts.check` checks it.
    """
    admitted: list[ReceiptBody] = []
    refused: dict[int, str] = {}
    for body in bodies:
        sequence = body.receipt.sequence
        index = sequence - first_sequence
        if body.receipt.host != host or not 0 <= index < len(leaves):
            refused[sequence] = f"it is not among the {len(leaves)} receipts of {host} from {first_sequence}"
        elif receipt_leaf(body.digest(domain)) != leaves[index]:
            refused[sequence] = f"its digest is {to_hex(body.digest(domain))}, the chain holds {to_hex(leaves[index])}…"
        else:
            try:
                check_shares_root(body)
            except VerificationError as error:
                refused[sequence] = str(error)
            else:
                admitted.append(body)
    return admitted, refused


def _node(leaf: bytes) -> bytes:
    """A leaf as it stands in the tree: left-aligned in 32 bytes."""
    return leaf.ljust(32, b"\0")
