// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

/// @title Merkle root of a batch, built from its leaves
/// @notice The layout is that of OpenZeppelin's Merkle tree with the leaves in the given order: n leaves make an array
/// of 2n-1 nodes, node `i` is the hash of the sorted pair `2i+1`, `2i+2`, and leaf `k` stands at `2n-2-k`. Leaves are 24
/// bytes, left-aligned in their node; inner nodes are full hashes of 32 bytes.
library BatchTree {
    /// @dev Length of a leaf.
    uint256 internal constant LEAF_BYTES = 24;

    /// @notice Root over the leaves; one leaf is its own root.
    /// @dev Read from its end, the array of the layout is a queue: the first two nodes are taken and their parent is
    /// appended, until one is left.
    /// @param leaves At least one leaf, packed: 24 bytes each.
    function root(bytes calldata leaves) internal pure returns (bytes32 result) {
        assembly ("memory-safe") {
            let queue := mload(0x40)
            let tail := queue
            let mask := not(0xffffffffffffffff)
            let end := add(leaves.offset, leaves.length)
            for { let leaf := leaves.offset } lt(leaf, end) { leaf := add(leaf, 24) } {
                mstore(tail, and(calldataload(leaf), mask))
                tail := add(tail, 0x20)
            }
            for {} lt(add(queue, 0x20), tail) { queue := add(queue, 0x40) } {
                let left := mload(queue)
                let right := mload(add(queue, 0x20))
                switch lt(left, right)
                case 1 {
                    mstore(tail, keccak256(queue, 0x40))
                }
                default {
                    mstore(0x00, right)
                    mstore(0x20, left)
                    mstore(tail, keccak256(0x00, 0x40))
                }
                tail := add(tail, 0x20)
            }
            result := mload(queue)
        }
    }

    /// @notice Whether `proof` leads from `leaf` at place `index` among `count` leaves to `expected`.
    /// @dev Pairs are sorted, so the proof's length is bound to `index` but the leaf's place is not. A leaf must
    /// therefore commit to its own place, and must not be a hash of 64 bytes that somebody could choose.
    function verify(bytes32[] calldata proof, bytes24 leaf, uint256 index, uint256 count, bytes32 expected)
        internal
        pure
        returns (bool)
    {
        if (index >= count || proof.length != depth(index, count)) return false;
        bytes32 node = leaf;
        for (uint256 i; i < proof.length; ++i) {
            node = Hashes.commutativeKeccak256(node, proof[i]);
        }
        return node == expected;
    }

    /// @notice Number of steps between leaf `index` of `count` leaves and the root.
    function depth(uint256 index, uint256 count) internal pure returns (uint256 steps) {
        for (uint256 node = 2 * count - 2 - index; node > 0; node = (node - 1) / 2) {
            ++steps;
        }
    }
}
