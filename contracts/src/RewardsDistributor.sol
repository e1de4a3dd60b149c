// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {IRewardsDistributor} from "./interfaces/IRewardsDistributor.sol";
import {IRuntimeParameters} from "./interfaces/IRuntimeParameters.sol";
import {IStakeManager} from "./interfaces/IStakeManager.sol";
import {ParameterKeys} from "./libraries/ParameterKeys.sol";
import {StakeRoles} from "./libraries/StakeRoles.sol";

/// @title Distributor of inference fees
/// @notice See {IRewardsDistributor}. The contract holds exactly what was collected and not yet claimed.
contract RewardsDistributor is IRewardsDistributor, AccessManaged {
    IRuntimeParameters public immutable parameters;
    IStakeManager public immutable stakeManager;
    address public immutable escrow;

    uint256 public totalCollected;
    uint256 public totalClaimed;
    uint256 public rootCount;
    uint256 public activeRootId;
    mapping(address account => uint256) public claimed;
    mapping(uint256 rootId => mapping(address validator => bool)) public hasAttested;

    /// @dev Totals of the last activated root; they stay when that root is disabled.
    uint256 private _settledTotal;
    uint256 private _settledBatch;
    uint256 private _lastActivated;
    mapping(uint256 rootId => Root) private _roots;

    /// @param escrow_ The fee escrow, which may be deployed after this contract, at an address known before.
    constructor(
        address authority,
        IRuntimeParameters parameters_,
        IStakeManager stakeManager_,
        address escrow_
    ) AccessManaged(authority) {
        require(escrow_ != address(0), ZeroAddress());
        parameters = parameters_;
        stakeManager = stakeManager_;
        escrow = escrow_;
    }

    /// @inheritdoc IRewardsDistributor
    function collect() external payable {
        require(msg.sender == escrow, NotEscrow(msg.sender));
        totalCollected += msg.value;
        emit FeesCollected(msg.value, totalCollected);
    }

    /// @inheritdoc IRewardsDistributor
    function proposeRoot(bytes32 root, uint256 total, uint256 lastBatch, bytes32 dataHash)
        external
        restricted
        returns (uint256 rootId)
    {
        _checkTotals(total, lastBatch);
        rootId = ++rootCount;
        uint256 activationTime = block.timestamp + parameters.get(ParameterKeys.PAYOUT_DELAY);
        _roots[rootId] = Root(
            root,
            dataHash,
            total,
            lastBatch,
            uint64(block.timestamp),
            uint64(activationTime),
            uint64(block.number),
            false,
            0
        );
        emit RootProposed(rootId, root, total, lastBatch, dataHash, activationTime);
    }

    /// @inheritdoc IRewardsDistributor
    function attestRoot(uint256 rootId) external {
        Root storage entry = _enabled(rootId);
        require(!hasAttested[rootId][msg.sender], AlreadyAttested(rootId, msg.sender));
        uint256 weight = stakeManager.weightAt(StakeRoles.VALIDATOR, msg.sender, entry.proposedBlock);
        require(
            weight > 0 && stakeManager.isActive(StakeRoles.VALIDATOR, msg.sender),
            ValidatorNotActive(msg.sender)
        );
        hasAttested[rootId][msg.sender] = true;
        entry.attestedWeight += weight;
        emit RootAttested(rootId, msg.sender, weight);
    }

    /// @inheritdoc IRewardsDistributor
    function activate(uint256 rootId) external {
        Root storage entry = _enabled(rootId);
        require(rootId > _lastActivated, RootSuperseded(rootId, _lastActivated));
        require(_matured(entry), RootNotReady(rootId, entry.activationTime));
        _checkTotals(entry.total, entry.lastBatch);
        _lastActivated = rootId;
        _settledTotal = entry.total;
        _settledBatch = entry.lastBatch;
        activeRootId = rootId;
        emit RootActivated(rootId, entry.root, entry.total);
    }

    /// @inheritdoc IRewardsDistributor
    function disable(uint256 rootId) external restricted {
        Root storage entry = _enabled(rootId);
        entry.disabled = true;
        if (rootId == activeRootId) {
            activeRootId = 0;
            _settledTotal = totalClaimed;
            _settledBatch = 0;
        }
        emit RootDisabled(rootId);
    }

    /// @inheritdoc IRewardsDistributor
    function claim(address account, uint256 cumulative, bytes32[] calldata proof)
        external
        returns (uint256 amount)
    {
        require(activeRootId != 0, NoActiveRoot());
        Root storage entry = _roots[activeRootId];
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(account, cumulative))));
        require(MerkleProof.verifyCalldata(proof, entry.root, leaf), InvalidProof(account, cumulative));
        uint256 before = claimed[account];
        require(cumulative > before, NothingToClaim(account, before));
        amount = cumulative - before;
        uint256 left = entry.total - totalClaimed;
        require(amount <= left, RootOverdrawn(amount, left));

        claimed[account] = cumulative;
        totalClaimed += amount;
        emit Claimed(account, amount, cumulative);
        Address.sendValue(payable(account), amount);
    }

    /// @inheritdoc IRewardsDistributor
    function rootOf(uint256 rootId) external view returns (Root memory) {
        return _known(rootId);
    }

    /// @inheritdoc IRewardsDistributor
    function isReady(uint256 rootId) external view returns (bool) {
        Root storage entry = _known(rootId);
        return !entry.disabled && rootId > _lastActivated && _matured(entry) && entry.total >= _least()
            && entry.lastBatch >= _settledBatch;
    }

    function _checkTotals(uint256 total, uint256 lastBatch) private view {
        require(
            total >= _least() && total <= totalCollected, TotalOutOfBounds(total, _least(), totalCollected)
        );
        require(lastBatch >= _settledBatch, LastBatchDecreases(lastBatch, _settledBatch));
    }

    /// @dev The delay is over, or two thirds of the weight that validators had at the proposal have attested.
    function _matured(Root storage entry) private view returns (bool) {
        if (block.timestamp >= entry.activationTime) return true;
        if (entry.attestedWeight == 0) return false;
        uint256 weight = stakeManager.totalWeightAt(StakeRoles.VALIDATOR, entry.proposedBlock);
        return entry.attestedWeight * 3 >= weight * 2;
    }

    /// @dev No root may promise less than the active one, nor less than what was paid under one since disabled.
    function _least() private view returns (uint256) {
        return _settledTotal > totalClaimed ? _settledTotal : totalClaimed;
    }

    function _known(uint256 rootId) private view returns (Root storage entry) {
        entry = _roots[rootId];
        require(entry.proposedTime != 0, UnknownRoot(rootId));
    }

    function _enabled(uint256 rootId) private view returns (Root storage entry) {
        entry = _known(rootId);
        require(!entry.disabled, RootIsDisabled(rootId));
    }
}
