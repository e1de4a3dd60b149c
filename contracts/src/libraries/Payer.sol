// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {IPayer} from "../interfaces/IPayer.sol";
import {Payment} from "./Payment.sol";

/// @title A contract whose payments no receiver can hold up
/// @notice See {IPayer}.
abstract contract Payer is IPayer, ReentrancyGuardTransient {
    mapping(address account => uint256) public owed;

    /// @inheritdoc IPayer
    function withdrawOwed() external nonReentrant {
        uint256 amount = owed[msg.sender];
        require(amount > 0, NothingOwed(msg.sender));
        owed[msg.sender] = 0;
        Address.sendValue(payable(msg.sender), amount);
    }

    /// @dev Callers have booked what they pay before they call this.
    function _pay(address to, uint256 amount) internal {
        if (amount == 0 || Payment.push(to, amount)) return;
        owed[to] += amount;
        emit PaymentOwed(to, amount);
    }

    /// @dev Divides `pot` evenly among `accounts`; what is left of `total` goes to `rest`.
    function _payEvenly(address[] memory accounts, uint256 pot, uint256 total, address rest) internal {
        uint256 each = pot / accounts.length;
        for (uint256 i; i < accounts.length; ++i) {
            _pay(accounts[i], each);
        }
        _pay(rest, total - each * accounts.length);
    }
}
