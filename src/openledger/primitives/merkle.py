"""Merkle trees in the layout of OpenZeppelin's ``merkle-tree`` library, the same in Python and in Solidity.

An array of ``2n - 1`` nodes: leaf ``i`` stands at ``2n - 2 - i``, and node ``i`` is the hash of its two children
``2i + 1`` and ``2i + 2`` in ascending order, so proofs fit OpenZeppelin's ``MerkleProof``. A leaf must be the hash of
something that is not 64 bytes long (:func:`standard_leaf` hashes twice), or else an inner node could pose as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eth_abi.abi import encode

from openledger.primitives.errors import InputError
from openledger.primitives.hashing import ZERO_HASH, keccak


def standard_leaf(types: Sequence[str], values: Sequence[Any]) -> bytes:
    """``keccak256(keccak256(abi.encode(values)))``, the leaf of OpenZeppelin's StandardMerkleTree."""
    return keccak(keccak(encode(list(types), list(values))))


def hash_pair(left: bytes, right: bytes) -> bytes:
    """The parent of two nodes: their keccak-256 in ascending order."""
    return keccak(left, right) if left < right else keccak(right, left)


class MerkleTree:
    """The tree over ``leaves`` (32 bytes each), in the order given.

    The root of no leaf is 32 zero bytes, the root of one leaf is that leaf.

    Raises:
        InputError: a leaf is not 32 bytes long.
    """

    def __init__(self, leaves: Sequence[bytes]) -> None:
        for position, leaf in enumerate(leaves):
            if len(leaf) != 32:
                raise InputError(f"leaf {position} has {len(leaf)} bytes; a Merkle leaf has 32")
        self._count = len(leaves)
        nodes = [ZERO_HASH] * max(0, self._count - 1) + list(reversed([bytes(leaf) for leaf in leaves]))
        for i in range(self._count - 2, -1, -1):
            nodes[i] = hash_pair(nodes[2 * i + 1], nodes[2 * i + 2])
        self._nodes = nodes

    def __len__(self) -> int:
        return self._count

    @property
    def root(self) -> bytes:
        """32 bytes."""
        return self._nodes[0] if self._nodes else ZERO_HASH

    def proof(self, position: int) -> list[bytes]:
        """The siblings from leaf ``position`` up to the root.

        Raises:
            InputError: there is no such leaf.
        """
        if not 0 <= position < self._count:
            raise InputError(f"no leaf {position} in a tree of {self._count}")
        node, siblings = 2 * self._count - 2 - position, []
        while node > 0:
            siblings.append(self._nodes[node + 1 if node % 2 else node - 1])
            node = (node - 1) // 2
        return siblings


def verify(root: bytes, leaf: bytes, proof: Sequence[bytes]) -> bool:
    """Whether ``proof`` leads from ``leaf`` to ``root``."""
    node = leaf
    for sibling in proof:
        node = hash_pair(node, sibling)
    return node == root
