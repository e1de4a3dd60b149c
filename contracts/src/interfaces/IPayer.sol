// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Payments that wait for receivers that refuse them
interface IPayer {
    /// @notice A receiver refused `amount`; it waits in {owed}.
    event PaymentOwed(address indexed account, uint256 amount);

    error NothingOwed(address account);

    /// @notice Pays the caller what could not be delivered before.
    /// @custom:misuse Forwards all gas to the caller's own account; useless for anybody else.
    function withdrawOwed() external;

    /// @notice What waits for `account`, in wei.
    /// @custom:misuse Not a balance to build on: it is 0 for everybody who takes payments.
    function owed(address account) external view returns (uint256);
}
