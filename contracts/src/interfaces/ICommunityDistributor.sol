// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The community's bootstrap: OPEN for a list of accounts, until a deadline
/// @notice The list is a Merkle root over keccak256(keccak256(abi.encode(account, amount))). Each account is paid once; what
/// is not claimed in time goes back.
/// @dev Whoever makes the list must publish it, or nobody can make a proof. An account that occurs twice in it is paid once.
interface ICommunityDistributor {
    event Funded(address indexed from, uint256 amount);
    event Claimed(address indexed account, uint256 amount);
    event RemainderReturned(address indexed to, uint256 amount);

    error ZeroAddress();
    error DeadlineInPast(uint64 deadline);
    /// @notice Claims ended with the second `deadline`.
    error DistributionOver(uint64 deadline);
    /// @notice The remainder is returned after the second `deadline` only.
    error DistributionRunning(uint64 deadline);
    error AlreadyClaimed(address account);
    error InvalidProof(address account, uint256 amount);
    error NothingLeft();

    /// @notice Pays `amount` wei to `account`, which the list must say. Anyone may call it; the money goes to `account`.
    /// @custom:misuse An account that cannot take OPEN cannot be paid; its part goes back with the remainder.
    function claim(address account, uint256 amount, bytes32[] calldata proof) external;

    /// @notice Pays what is left after the deadline to `remainderTo`. Anyone may call it.
    /// @custom:misuse Fails while `remainderTo` refuses payments: choose one that takes them, it cannot be changed.
    function returnRemainder() external returns (uint256 amount);

    /// @notice Root of the list.
    /// @custom:misuse Worth nothing without the published list behind it.
    function root() external view returns (bytes32);
    /// @notice Last second in which claims are paid.
    /// @custom:misuse Claims in the second after it fail: send early.
    function deadline() external view returns (uint64);
    /// @notice Who receives what was not claimed.
    /// @custom:misuse Fixed for ever.
    function remainderTo() external view returns (address);
    /// @notice Sum of what was paid, in wei.
    /// @custom:misuse Not what is left: more may have been paid in.
    function totalClaimed() external view returns (uint256);
    /// @notice Whether `account` was paid.
    /// @custom:misuse False also for accounts that are not on the list.
    function hasClaimed(address account) external view returns (bool);
}
