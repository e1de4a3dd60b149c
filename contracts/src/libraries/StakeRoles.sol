// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The roles in which OPEN can be staked
library StakeRoles {
    uint8 internal constant REVIEWER = 1;
    uint8 internal constant VALIDATOR = 2;
    uint8 internal constant HOST = 3;
    uint8 internal constant OPERATOR = 4;
    uint8 internal constant AGENT = 5;

    /// @dev Highest role; 0 is no role.
    uint8 internal constant LAST = AGENT;
}
