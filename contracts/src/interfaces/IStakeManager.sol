// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Stake in OPEN behind every role of the network
/// @notice An account stakes native OPEN in a role (see {StakeRoles}). It is active while its stake reaches the role's
/// minimum; its weight is then its stake, a reviewer's at most `stake.reviewer.cap`, and 0 otherwise. Stake that is leaving no longer has weight but can still be
/// slashed until it is withdrawn.
interface IStakeManager {
    event Staked(uint8 indexed role, address indexed account, uint256 amount, uint256 staked);
    event UnstakeRequested(uint8 indexed role, address indexed account, uint256 amount, uint256 releaseTime);
    event Unstaked(uint8 indexed role, address indexed account, uint256 amount);
    event Slashed(uint8 indexed role, address indexed account, uint256 amount, address to, string reason);

    error UnknownRole(uint8 role);
    /// @notice The account's stake would be `stake` wei: more than nothing but less than `minimum`.
    error StakeBelowMinimum(uint256 stake, uint256 minimum);
    error InsufficientStake(uint256 requested, uint256 available);
    error NothingToWithdraw(uint8 role, address account);
    /// @notice The stake is free at `releaseTime` only.
    error StillUnbonding(uint256 releaseTime);
    /// @notice Weights are known for blocks that are over; `blockNumber` is not.
    error BlockNotOver(uint256 blockNumber);
    error AmountIsZero();

    /// @notice Adds the value sent to the caller's stake in `role`.
    function stake(uint8 role) external payable;

    /// @notice Takes `amount` out of the caller's stake. It can be withdrawn after `stake.unbonding` seconds; a further
    /// request starts the time anew for the whole amount that is leaving.
    function requestUnstake(uint8 role, uint256 amount) external;

    /// @notice Pays out the caller's stake that has finished unbonding.
    function withdraw(uint8 role) external;

    /// @notice Brings an account's weight in line with a minimum that changed since its last move. Anyone may call it.
    function refresh(uint8 role, address account) external;

    /// @notice Takes up to `amount` from an account, the leaving part last. All slashings within `slash.round` seconds of the
    /// first together take at most `slash.cap` of the stake that there was at that first one.
    /// Restricted to slashers.
    /// @return slashed What was taken and sent to `to`, in wei.
    function slash(uint8 role, address account, uint256 amount, address to, string calldata reason)
        external
        returns (uint256 slashed);

    function stakeOf(uint8 role, address account) external view returns (uint256);

    /// @notice Stake that is leaving, and when it is free.
    function unbondingOf(uint8 role, address account)
        external
        view
        returns (uint256 amount, uint256 releaseTime);

    /// @notice Sum of all stakes in `role`, without what is leaving.
    function totalStake(uint8 role) external view returns (uint256);

    /// @notice Accounts with stake in `role`. Meant for reading from outside: its cost grows with all who ever staked.
    function members(uint8 role) external view returns (address[] memory);

    function minimumStake(uint8 role) external view returns (uint256);

    /// @notice Whether the account's stake reaches the role's present minimum.
    function isActive(uint8 role, address account) external view returns (bool);

    /// @notice Weight of `account` at the end of block `blockNumber`, which must be over.
    function weightAt(uint8 role, address account, uint256 blockNumber) external view returns (uint256);

    /// @notice Sum of all weights in `role` at the end of block `blockNumber`, which must be over.
    function totalWeightAt(uint8 role, uint256 blockNumber) external view returns (uint256);

    /// @notice Draws up to `count` distinct accounts in proportion to their weights at the end of block `blockNumber`,
    /// leaving out `excluded`. The result depends on the arguments alone.
    function draw(uint8 role, bytes32 seed, uint256 count, uint256 blockNumber, address[] calldata excluded)
        external
        view
        returns (address[] memory);
}
