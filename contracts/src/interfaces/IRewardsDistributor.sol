// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Payouts: collected fees against cumulative earnings
/// @notice A payout root commits to what each account has earned since the beginning. A settler proposes it, validators
/// who recomputed it attest, and it becomes active after `payout.delay` seconds or as soon as two thirds of the
/// validators' weight have attested. Claims are made against the active root.
/// @dev Leaves are keccak256(keccak256(abi.encode(account, cumulative))). Whatever a root says, no more than its `total` is
/// ever paid under it, and `total` is never above what was collected.
interface IRewardsDistributor {
    /// @dev `total` is the sum of all cumulative earnings in wei, `lastBatch` the last batch counted in, `dataHash` the hash
    /// of the published payout data. `activationTime` is when the root can be activated without attestations.
    struct Root {
        bytes32 root;
        bytes32 dataHash;
        uint256 total;
        uint256 lastBatch;
        uint64 proposedTime;
        uint64 activationTime;
        uint64 proposedBlock;
        bool disabled;
        uint256 attestedWeight;
    }

    event FeesCollected(uint256 amount, uint256 totalCollected);
    event RootProposed(
        uint256 indexed rootId,
        bytes32 root,
        uint256 total,
        uint256 lastBatch,
        bytes32 dataHash,
        uint256 activationTime
    );
    event RootAttested(uint256 indexed rootId, address indexed validator, uint256 weight);
    event RootActivated(uint256 indexed rootId, bytes32 root, uint256 total);
    event RootDisabled(uint256 indexed rootId);
    event Claimed(address indexed account, uint256 amount, uint256 cumulative);

    error NotEscrow(address account);
    error ZeroAddress();
    /// @notice `total` is not within [`least`, `most`]: the active root's total and claims, and what was collected.
    error TotalOutOfBounds(uint256 total, uint256 least, uint256 most);
    error LastBatchDecreases(uint256 lastBatch, uint256 active);
    error UnknownRoot(uint256 rootId);
    error RootIsDisabled(uint256 rootId);
    /// @notice A root activated after `rootId` was proposed, or `rootId` itself, is active.
    error RootSuperseded(uint256 rootId, uint256 activeRootId);
    error RootNotReady(uint256 rootId, uint256 activationTime);
    error ValidatorNotActive(address account);
    error AlreadyAttested(uint256 rootId, address validator);
    error NoActiveRoot();
    error InvalidProof(address account, uint256 cumulative);
    error NothingToClaim(address account, uint256 claimed);
    /// @notice The root promises more than its total.
    error RootOverdrawn(uint256 wanted, uint256 left);

    /// @notice Takes in fees. Only from the escrow.
    function collect() external payable;

    /// @notice Proposes a payout root. Restricted to settlers.
    function proposeRoot(bytes32 root, uint256 total, uint256 lastBatch, bytes32 dataHash)
        external
        returns (uint256 rootId);

    /// @notice Attests that the caller recomputed the root. Needs the stake of a validator, now and when it was proposed.
    function attestRoot(uint256 rootId) external;

    /// @notice Makes a root the active one. Anyone may call it.
    function activate(uint256 rootId) external;

    /// @notice Stops a root, before or after its activation. Restricted to guardians. While no root is active nobody can
    /// claim; a settler can propose a right one.
    function disable(uint256 rootId) external;

    /// @notice Pays `account` what it has earned under the active root and not claimed before. Anyone may call it.
    function claim(address account, uint256 cumulative, bytes32[] calldata proof)
        external
        returns (uint256 amount);

    function totalCollected() external view returns (uint256);
    function totalClaimed() external view returns (uint256);
    function claimed(address account) external view returns (uint256);
    function rootCount() external view returns (uint256);
    /// @notice Id of the active root; 0 if there is none.
    function activeRootId() external view returns (uint256);
    function rootOf(uint256 rootId) external view returns (Root memory);
    function hasAttested(uint256 rootId, address validator) external view returns (bool);
    /// @notice Whether {activate} would succeed now.
    function isReady(uint256 rootId) external view returns (bool);
}
