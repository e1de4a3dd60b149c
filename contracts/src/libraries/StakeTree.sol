// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";
import {Lists} from "./Lists.sol";

/// @title Stakes that can be added up and drawn from, as they stood at any past block
/// @notice A Fenwick tree (Fenwick 1994) whose nodes keep their history. Setting a weight and drawing cost
/// O(log n) nodes. An account keeps the slot that it first got, so that a past tree is read without a history of slots.
/// @dev Draws read the tree of a block that is over. Whoever learns the randomness of that block can no longer move
/// the stakes that it is applied to.
library StakeTree {
    using Checkpoints for Checkpoints.Trace208;

    struct Tree {
        address[] accounts;
        mapping(address account => uint256) slots;
        mapping(address account => Checkpoints.Trace208) weights;
        mapping(uint256 node => Checkpoints.Trace208) nodes;
        Checkpoints.Trace208 sizes;
        Checkpoints.Trace208 totals;
    }

    /// @notice Gives `account` the weight `weight` from this block on.
    function set(Tree storage tree, address account, uint208 weight) internal {
        uint208 before = tree.weights[account].latest();
        if (before == weight) return;

        uint48 clock = uint48(block.number);
        uint256 slot = tree.slots[account];
        if (slot == 0) {
            _append(tree, account, weight, clock);
        } else {
            uint256 size = tree.accounts.length;
            for (uint256 node = slot; node <= size; node += _lowBit(node)) {
                tree.nodes[node].push(clock, tree.nodes[node].latest() - before + weight);
            }
        }
        tree.weights[account].push(clock, weight);
        tree.totals.push(clock, tree.totals.latest() - before + weight);
    }

    /// @notice Weight of `account` at the end of block `clock`.
    function weightAt(Tree storage tree, address account, uint48 clock) internal view returns (uint256) {
        return tree.weights[account].upperLookupRecent(clock);
    }

    /// @notice Sum of all weights at the end of block `clock`.
    function totalAt(Tree storage tree, uint48 clock) internal view returns (uint256) {
        return tree.totals.upperLookupRecent(clock);
    }

    /// @notice Draws up to `count` distinct accounts, each with probability proportional to its weight among those
    /// left, from the weights at the end of block `clock`.
    /// @param excluded Accounts that must not be drawn; may repeat and may be unknown.
    /// @return drawn The accounts in the order drawn; shorter than `count` when too few have weight.
    function draw(Tree storage tree, bytes32 seed, uint256 count, uint48 clock, address[] memory excluded)
        internal
        view
        returns (address[] memory drawn)
    {
        Holes memory holes =
            Holes(0, 0, new uint256[](count + excluded.length), new uint256[](count + excluded.length));
        for (uint256 i; i < excluded.length; ++i) {
            if (!Lists.has(excluded, i, excluded[i])) _dig(tree, holes, excluded[i], clock);
        }

        uint256 total = totalAt(tree, clock);
        uint256 size = tree.sizes.upperLookupRecent(clock);
        drawn = new address[](count);
        uint256 found;
        while (found < count && total > holes.weight) {
            uint256 point = uint256(keccak256(abi.encode(seed, found))) % (total - holes.weight);
            address account = tree.accounts[_find(tree, _skip(holes, point), size, clock) - 1];
            _dig(tree, holes, account, clock);
            drawn[found++] = account;
        }
        assembly ("memory-safe") {
            mstore(drawn, found)
        }
    }

    /// @dev Intervals of weight that are out of the draw, ascending by start.
    struct Holes {
        uint256 count;
        uint256 weight;
        uint256[] starts;
        uint256[] widths;
    }

    function _append(Tree storage tree, address account, uint208 weight, uint48 clock) private {
        tree.accounts.push(account);
        uint256 slot = tree.accounts.length;
        tree.slots[account] = slot;
        tree.sizes.push(clock, uint208(slot));

        uint208 sum = weight;
        uint256 first = slot - _lowBit(slot);
        for (uint256 node = slot - 1; node > first; node -= _lowBit(node)) {
            sum += tree.nodes[node].latest();
        }
        tree.nodes[slot].push(clock, sum);
    }

    function _dig(Tree storage tree, Holes memory holes, address account, uint48 clock) private view {
        uint256 width = weightAt(tree, account, clock);
        if (width == 0) return;
        uint256 start = _sumBefore(tree, tree.slots[account], clock);
        uint256 place = holes.count++;
        for (; place > 0 && holes.starts[place - 1] > start; --place) {
            holes.starts[place] = holes.starts[place - 1];
            holes.widths[place] = holes.widths[place - 1];
        }
        holes.starts[place] = start;
        holes.widths[place] = width;
        holes.weight += width;
    }

    /// @dev Maps a point of the weight that is left to the weight with its holes.
    function _skip(Holes memory holes, uint256 point) private pure returns (uint256) {
        for (uint256 i; i < holes.count && point >= holes.starts[i]; ++i) {
            point += holes.widths[i];
        }
        return point;
    }

    function _sumBefore(Tree storage tree, uint256 slot, uint48 clock) private view returns (uint256 sum) {
        for (uint256 node = slot - 1; node > 0; node -= _lowBit(node)) {
            sum += tree.nodes[node].upperLookupRecent(clock);
        }
    }

    /// @dev Slot whose interval of weight holds `point`; `point` is below the total.
    function _find(Tree storage tree, uint256 point, uint256 size, uint48 clock)
        private
        view
        returns (uint256 slot)
    {
        uint256 step = 1;
        while (step <= size >> 1) step <<= 1;
        for (; step > 0; step >>= 1) {
            uint256 node = slot + step;
            if (node > size) continue;
            uint256 sum = tree.nodes[node].upperLookupRecent(clock);
            if (sum <= point) {
                point -= sum;
                slot = node;
            }
        }
        return slot + 1;
    }

    function _lowBit(uint256 value) private pure returns (uint256) {
        unchecked {
            return value & (~value + 1);
        }
    }
}
