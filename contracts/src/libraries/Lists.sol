// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Short lists in memory
library Lists {
    /// @notice Whether `account` is among the first `length` of `list`.
    function has(address[] memory list, uint256 length, address account) internal pure returns (bool) {
        for (uint256 i; i < length; ++i) {
            if (list[i] == account) return true;
        }
        return false;
    }

    /// @notice Whether `number` is among the first `length` of `list`.
    function has(uint256[] memory list, uint256 length, uint256 number) internal pure returns (bool) {
        for (uint256 i; i < length; ++i) {
            if (list[i] == number) return true;
        }
        return false;
    }
}
