// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Lists} from "./Lists.sol";

/// @title Random subsets of the numbers below a count
library Sample {
    /// @notice `min(size, count)` distinct numbers below `count`; every such set is equally likely (Floyd's algorithm).
    /// @dev Its cost grows with the square of `size`: meant for samples of a few dozen.
    function draw(bytes32 seed, uint256 count, uint256 size) internal pure returns (uint256[] memory numbers) {
        if (size > count) size = count;
        numbers = new uint256[](size);
        for (uint256 i; i < size; ++i) {
            uint256 last = count - size + i;
            uint256 pick = uint256(keccak256(abi.encode(seed, i))) % (last + 1);
            numbers[i] = Lists.has(numbers, i, pick) ? last : pick;
        }
    }
}
