// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title One end of the bridge between OPEN on L1 and native OPEN on the L2
/// @notice What is locked in {OpenLockbox} on L1 is minted by {OpenMinter} on the L2, and what the minter burns is
/// released. The ends talk through the OP Stack's messengers.
/// @dev A receipt that reverts, because the bridge is paused or its rate limit used up, is a failed message of the messenger:
/// anyone can relay it again later. Nothing is lost by waiting.
interface IBridge {
    event TransferSent(uint256 indexed transferId, address indexed from, address indexed to, uint256 amount);
    event TransferReceived(
        uint256 indexed transferId, address indexed from, address indexed to, uint256 amount
    );
    event RateLimitSet(uint256 capacity, uint256 window);

    error AmountIsZero();
    error ZeroAddress();
    /// @notice Neither nobody nor the bridge itself can be paid.
    error InvalidReceiver(address to);
    /// @notice Only the messenger delivers transfers.
    error NotMessenger(address account);
    /// @notice The message was sent by `sender`, not by the other end of the bridge.
    error NotOtherBridge(address sender, address otherBridge);
    /// @notice This transfer was received before.
    error TransferReplayed(uint256 transferId);
    /// @notice `amount` is more than may come in now; `available` grows with time.
    error RateLimited(uint256 amount, uint256 available);
    /// @notice More would be released than is locked.
    error LockedTooLittle(uint256 amount, uint256 locked);

    /// @notice Takes in a transfer from the other end. Only the messenger, with a message of the other end.
    /// @custom:misuse A refused transfer is not lost: relay its message again once the limit has refilled or the pause
    /// is over.
    function receiveTransfer(uint256 transferId, address from, address to, uint256 amount) external;

    /// @notice Lets at most `capacity` wei come in at once, refilled evenly over `window` seconds. Restricted.
    /// @custom:misuse A capacity of 0 stops everything that comes in; a very high one is no limit.
    function setRateLimit(uint128 capacity, uint64 window) external;

    /// @notice Stops both directions; transfers under way wait. Restricted to guardians.
    /// @custom:misuse Stops new transfers and delays those under way; it does not return them.
    function pause() external;

    /// @notice Ends the pause. Restricted.
    /// @custom:misuse Do not end a pause before its cause is understood: what waits comes in at once, up to the limit.
    function unpause() external;

    /// @notice Whether a transfer was received.
    /// @custom:misuse False for a transfer that waits as well as for one that never was.
    function received(uint256 transferId) external view returns (bool);

    /// @notice Number of transfers sent from here; a transfer's id is the count when it was sent.
    /// @custom:misuse Counts one direction; the other end counts its own.
    function sentCount() external view returns (uint256);

    /// @notice What may come in now, in wei.
    /// @custom:misuse Shared by all receivers: others may use it up first.
    function availableNow() external view returns (uint256);
}
