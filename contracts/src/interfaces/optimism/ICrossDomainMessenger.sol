// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title What OpenLedger uses of the OP Stack's messengers, on either layer
interface ICrossDomainMessenger {
    /// @notice Sends a call of `target` on the other layer; it is made with at least `minGasLimit` gas.
    function sendMessage(address target, bytes calldata message, uint32 minGasLimit) external payable;

    /// @notice Who sent the message that is being relayed; reverts when none is.
    function xDomainMessageSender() external view returns (address);
}
