// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Sets of records as bitmaps
/// @notice Bit `i % 8` (least significant first) of byte `i / 8` is 1 where record `i` belongs to the set. Two bitmaps
/// that meet here have the same length.
library Bitmaps {
    /// @notice Number of records in `set`.
    function count(bytes memory set) internal pure returns (uint256 total) {
        for (uint256 offset; offset < set.length; offset += 32) {
            total += ones(word(set, offset));
        }
    }

    /// @notice Whether record `index` belongs to `set`.
    function has(bytes memory set, uint256 index) internal pure returns (bool) {
        return index / 8 < set.length && (uint8(set[index / 8]) >> (index % 8)) & 1 == 1;
    }

    /// @notice Records in both.
    function both(bytes memory one, bytes memory other) internal pure returns (bytes memory set) {
        set = new bytes(one.length);
        for (uint256 offset; offset < one.length; offset += 32) {
            _put(set, offset, word(one, offset) & word(other, offset));
        }
    }

    /// @notice Records in one of the two or in both.
    function either(bytes memory one, bytes memory other) internal pure returns (bytes memory set) {
        set = new bytes(one.length);
        for (uint256 offset; offset < one.length; offset += 32) {
            _put(set, offset, word(one, offset) | word(other, offset));
        }
    }

    /// @notice Records in exactly one of the two.
    function differing(bytes memory one, bytes memory other) internal pure returns (bytes memory set) {
        set = new bytes(one.length);
        for (uint256 offset; offset < one.length; offset += 32) {
            _put(set, offset, word(one, offset) ^ word(other, offset));
        }
    }

    /// @dev The 32 bytes from `offset` on, zero beyond the end.
    function word(bytes memory set, uint256 offset) internal pure returns (uint256 bits) {
        assembly ("memory-safe") {
            bits := mload(add(add(set, 0x20), offset))
        }
        uint256 left = set.length - offset;
        if (left < 32) bits &= ~(type(uint256).max >> (8 * left));
    }

    /// @notice Number of bits that are 1, by sums over ever wider fields.
    function ones(uint256 value) internal pure returns (uint256) {
        unchecked {
            value -= (value >> 1) & (type(uint256).max / 3);
            value = (value & (type(uint256).max / 5)) + ((value >> 2) & (type(uint256).max / 5));
            value = (value + (value >> 4)) & (type(uint256).max / 17);
            value = (value & (type(uint256).max / 257)) + ((value >> 8) & (type(uint256).max / 257));
            return (value * (type(uint256).max / 65_535)) >> 240;
        }
    }

    /// @dev Memory is allocated in words of 32 bytes, so that a whole word may be written.
    function _put(bytes memory set, uint256 offset, uint256 bits) private pure {
        assembly ("memory-safe") {
            mstore(add(add(set, 0x20), offset), bits)
        }
    }
}
