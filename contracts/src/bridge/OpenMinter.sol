// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ICrossDomainMessenger} from "../interfaces/optimism/ICrossDomainMessenger.sol";
import {ILiquidityController} from "../interfaces/optimism/ILiquidityController.sol";
import {BridgeEnd} from "./BridgeEnd.sol";

/// @title The bridge's end on the L2: native OPEN comes into being against what L1 has locked
/// @notice It must be authorised as a minter of the LiquidityController, and be the only one: `minted` never exceeds what is
/// locked on L1, and other minters would break that for the chain as a whole.
contract OpenMinter is BridgeEnd {
    /// @notice The OP Stack's LiquidityController.
    ILiquidityController public immutable controller;

    /// @notice Native OPEN in circulation through this bridge, in wei: minted and not burned since.
    uint256 public minted;

    constructor(
        address authority,
        ICrossDomainMessenger messenger_,
        address otherBridge_,
        ILiquidityController controller_,
        uint128 capacity,
        uint64 window
    ) BridgeEnd(authority, messenger_, otherBridge_, capacity, window) {
        require(address(controller_) != address(0), ZeroAddress());
        controller = controller_;
    }

    /// @notice Burns the native OPEN that is sent; `to` receives as much OPEN on L1.
    /// @param minGasLimit Gas for its receipt on L1; 200,000 is plenty. Too little only means to relay it again.
    /// @custom:misuse `to` is an address on L1: a contract of this layer may not exist there.
    function send(address to, uint32 minGasLimit) external payable whenNotPaused {
        require(msg.value <= minted, LockedTooLittle(msg.value, minted));
        minted -= msg.value;
        controller.burn{value: msg.value}();
        _send(to, msg.value, minGasLimit);
    }

    /// @dev The controller pays without calling the receiver.
    function _payOut(address to, uint256 amount) internal override {
        minted += amount;
        controller.mint(to, amount);
    }
}
