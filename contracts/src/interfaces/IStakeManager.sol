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
    /// @custom:misuse Has no weight before the next block, and cannot be had back before `stake.unbonding` is over.
    function stake(uint8 role) external payable;

    /// @notice Takes `amount` out of the caller's stake. It can be withdrawn after `stake.unbonding` seconds; a further
    /// request starts the time anew for the whole amount that is leaving.
    /// @custom:misuse A second request makes what is leaving already wait again; leaving stake has no weight but can
    /// still be slashed.
    function requestUnstake(uint8 role, uint256 amount) external;

    /// @notice Pays out the caller's stake that has finished unbonding.
    /// @custom:misuse Pays the caller with all gas: a contract that cannot take OPEN cannot withdraw.
    function withdraw(uint8 role) external;

    /// @notice Brings an account's weight in line with a minimum that changed since its last move. Anyone may call it.
    /// @custom:misuse Forgetting it lets a weight stand that no longer meets a raised minimum; activity is checked anew
    /// all the same.
    function refresh(uint8 role, address account) external;

    /// @notice Takes up to `amount` from an account, the leaving part last. All slashings within `slash.round` seconds of the
    /// first together take at most `slash.cap` of the stake that there was at that first one.
    /// Restricted to slashers.
    /// @return slashed What was taken and sent to `to`, in wei.
    /// @custom:misuse `to` must take payments, or every slashing reverts and with it what depends on it. The answer may
    /// be less than `amount`.
    function slash(uint8 role, address account, uint256 amount, address to, string calldata reason)
        external
        returns (uint256 slashed);

    /// @notice What `account` has staked in `role`, without what is leaving, in wei.
    /// @custom:misuse No weight: an account below the minimum has stake and no say.
    function stakeOf(uint8 role, address account) external view returns (uint256);

    /// @notice Stake that is leaving, and when it is free.
    /// @custom:misuse May be slashed until it is withdrawn: do not count on the amount.
    function unbondingOf(uint8 role, address account)
        external
        view
        returns (uint256 amount, uint256 releaseTime);

    /// @notice Sum of all stakes in `role`, without what is leaving.
    /// @custom:misuse Not the sum of weights: stakes below the minimum and above the reviewers' cap count here in full.
    function totalStake(uint8 role) external view returns (uint256);

    /// @notice Accounts with stake in `role`. Meant for reading from outside: its cost grows with all who ever staked.
    /// @custom:misuse Grows with everybody who ever staked: for reading from outside, never from a contract.
    function members(uint8 role) external view returns (address[] memory);

    /// @notice Least stake that makes an account active in `role`, in wei.
    /// @custom:misuse A vote may raise it: an account active today may not be tomorrow.
    function minimumStake(uint8 role) external view returns (uint256);

    /// @notice Whether the account's stake reaches the role's present minimum.
    /// @custom:misuse Says what is true now; draws go by the weights of a block that is over.
    function isActive(uint8 role, address account) external view returns (bool);

    /// @notice Weight of `account` at the end of block `blockNumber`, which must be over.
    /// @custom:misuse Fails for the present block: weights are settled when it ends.
    function weightAt(uint8 role, address account, uint256 blockNumber) external view returns (uint256);

    /// @notice Sum of all weights in `role` at the end of block `blockNumber`, which must be over.
    /// @custom:misuse Fails for the present block. Excluded accounts are in it: do not take it for the weight that a
    /// draw chose from.
    function totalWeightAt(uint8 role, uint256 blockNumber) external view returns (uint256);

    /// @notice Draws up to `count` distinct accounts in proportion to their weights at the end of block `blockNumber`,
    /// leaving out `excluded`. The result depends on the arguments alone.
    /// @custom:misuse A seed that is known while stake can still move lets the draw be steered: use a past block and a
    /// later hash.
    function draw(uint8 role, bytes32 seed, uint256 count, uint256 blockNumber, address[] calldata excluded)
        external
        view
        returns (address[] memory);
}
