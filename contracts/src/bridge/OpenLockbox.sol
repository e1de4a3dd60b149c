// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ICrossDomainMessenger} from "../interfaces/optimism/ICrossDomainMessenger.sol";
import {BridgeEnd} from "./BridgeEnd.sol";

/// @title The bridge's end on L1: OPEN that circulates on the L2 is locked here
/// @notice `locked` counts what was sent and not yet released; OPEN that somebody transfers here by mistake is in no count
/// and cannot be taken out.
contract OpenLockbox is BridgeEnd {
    using SafeERC20 for IERC20;

    /// @notice OPEN on L1.
    IERC20 public immutable token;

    /// @notice OPEN locked for the L2, in wei.
    uint256 public locked;

    constructor(
        address authority,
        ICrossDomainMessenger messenger_,
        address otherBridge_,
        IERC20 token_,
        uint128 capacity,
        uint64 window
    ) BridgeEnd(authority, messenger_, otherBridge_, capacity, window) {
        require(address(token_) != address(0), ZeroAddress());
        token = token_;
    }

    /// @notice Locks `amount` of the caller's approved OPEN; `to` receives it as native OPEN on the L2.
    /// @param minGasLimit Gas for its receipt on the L2; 200,000 is plenty. Too little only means to relay it again.
    /// @custom:misuse `to` is an address on the L2: a contract of this layer may not exist there.
    function send(address to, uint256 amount, uint32 minGasLimit) external whenNotPaused {
        _lock(to, amount, minGasLimit);
    }

    /// @notice {send}, with the approval as a signature (ERC-2612).
    /// @dev A permit that somebody has used already is no obstacle as long as the approval stands.
    /// @custom:misuse The permit must name this contract and exactly the owner who sends; anybody can use it up before,
    /// which does no harm.
    function sendWithPermit(
        address to,
        uint256 amount,
        uint32 minGasLimit,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external whenNotPaused {
        try IERC20Permit(address(token)).permit(msg.sender, address(this), amount, deadline, v, r, s) {} catch {}
        _lock(to, amount, minGasLimit);
    }

    function _lock(address to, uint256 amount, uint32 minGasLimit) private {
        locked += amount;
        token.safeTransferFrom(msg.sender, address(this), amount);
        _send(to, amount, minGasLimit);
    }

    /// @dev Releases what the L2 burned.
    function _payOut(address to, uint256 amount) internal override {
        require(amount <= locked, LockedTooLittle(amount, locked));
        locked -= amount;
        token.safeTransfer(to, amount);
    }
}
