// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {IRuntimeParameters} from "./interfaces/IRuntimeParameters.sol";
import {IStakeManager} from "./interfaces/IStakeManager.sol";
import {ParameterKeys} from "./libraries/ParameterKeys.sol";
import {StakeRoles} from "./libraries/StakeRoles.sol";
import {StakeTree} from "./libraries/StakeTree.sol";

/// @title Stakes of reviewers, validators, hosts, operators and agents
/// @notice See {IStakeManager}. The contract holds exactly the stakes and what is leaving them.
contract StakeManager is IStakeManager, AccessManaged {
    using StakeTree for StakeTree.Tree;

    struct Position {
        uint128 staked;
        uint128 leaving;
        uint64 releaseTime;
        uint64 roundEnd;
        uint128 roundStake;
        uint128 roundSlashed;
    }

    uint256 private constant PPM = 1_000_000;

    /// @notice The numbers that governance may change.
    IRuntimeParameters public immutable parameters;

    mapping(uint8 role => mapping(address account => Position)) private _positions;
    mapping(uint8 role => uint256) private _totals;
    mapping(uint8 role => StakeTree.Tree) private _trees;

    constructor(address authority, IRuntimeParameters parameters_) AccessManaged(authority) {
        parameters = parameters_;
    }

    /// @inheritdoc IStakeManager
    function stake(uint8 role) external payable {
        require(msg.value > 0, AmountIsZero());
        Position storage position = _positions[role][msg.sender];
        position.staked += uint128(msg.value);
        _totals[role] += msg.value;
        uint256 minimum = minimumStake(role);
        require(position.staked >= minimum, StakeBelowMinimum(position.staked, minimum));
        _reweigh(role, msg.sender);
        emit Staked(role, msg.sender, msg.value, position.staked);
    }

    /// @inheritdoc IStakeManager
    function requestUnstake(uint8 role, uint256 amount) external {
        require(amount > 0, AmountIsZero());
        Position storage position = _positions[role][msg.sender];
        require(amount <= position.staked, InsufficientStake(amount, position.staked));
        uint256 left = position.staked - amount;
        uint256 minimum = minimumStake(role);
        require(left == 0 || left >= minimum, StakeBelowMinimum(left, minimum));

        uint256 releaseTime = block.timestamp + parameters.get(ParameterKeys.STAKE_UNBONDING);
        position.staked = uint128(left);
        position.leaving += uint128(amount);
        position.releaseTime = uint64(releaseTime);
        _totals[role] -= amount;
        _reweigh(role, msg.sender);
        emit UnstakeRequested(role, msg.sender, amount, releaseTime);
    }

    /// @inheritdoc IStakeManager
    function withdraw(uint8 role) external {
        Position storage position = _positions[role][msg.sender];
        uint256 amount = position.leaving;
        require(amount > 0, NothingToWithdraw(role, msg.sender));
        require(block.timestamp >= position.releaseTime, StillUnbonding(position.releaseTime));
        position.leaving = 0;
        emit Unstaked(role, msg.sender, amount);
        Address.sendValue(payable(msg.sender), amount);
    }

    /// @inheritdoc IStakeManager
    function refresh(uint8 role, address account) external {
        _reweigh(role, account);
    }

    /// @inheritdoc IStakeManager
    function slash(uint8 role, address account, uint256 amount, address to, string calldata reason)
        external
        restricted
        returns (uint256 slashed)
    {
        Position storage position = _positions[role][account];
        uint256 staked = position.staked;
        slashed = _slashable(position, amount);
        if (slashed == 0) return 0;

        uint256 fromStake = slashed < staked ? slashed : staked;
        position.staked = uint128(staked - fromStake);
        position.leaving -= uint128(slashed - fromStake);
        _totals[role] -= fromStake;
        _reweigh(role, account);
        emit Slashed(role, account, slashed, to, reason);
        Address.sendValue(payable(to), slashed);
    }

    /// @inheritdoc IStakeManager
    function stakeOf(uint8 role, address account) external view returns (uint256) {
        return _positions[role][account].staked;
    }

    /// @inheritdoc IStakeManager
    function unbondingOf(uint8 role, address account)
        external
        view
        returns (uint256 amount, uint256 releaseTime)
    {
        Position storage position = _positions[role][account];
        return (position.leaving, position.releaseTime);
    }

    /// @inheritdoc IStakeManager
    function totalStake(uint8 role) external view returns (uint256) {
        return _totals[role];
    }

    /// @inheritdoc IStakeManager
    function members(uint8 role) external view returns (address[] memory list) {
        address[] storage accounts = _trees[role].accounts;
        list = new address[](accounts.length);
        uint256 count;
        for (uint256 i; i < accounts.length; ++i) {
            if (_positions[role][accounts[i]].staked > 0) list[count++] = accounts[i];
        }
        assembly ("memory-safe") {
            mstore(list, count)
        }
    }

    /// @inheritdoc IStakeManager
    function isActive(uint8 role, address account) external view returns (bool) {
        return _positions[role][account].staked >= minimumStake(role);
    }

    /// @inheritdoc IStakeManager
    function weightAt(uint8 role, address account, uint256 blockNumber) external view returns (uint256) {
        return _trees[role].weightAt(account, _past(blockNumber));
    }

    /// @inheritdoc IStakeManager
    function totalWeightAt(uint8 role, uint256 blockNumber) external view returns (uint256) {
        return _trees[role].totalAt(_past(blockNumber));
    }

    /// @inheritdoc IStakeManager
    function draw(uint8 role, bytes32 seed, uint256 count, uint256 blockNumber, address[] calldata excluded)
        external
        view
        returns (address[] memory)
    {
        return _trees[role].draw(seed, count, _past(blockNumber), excluded);
    }

    /// @inheritdoc IStakeManager
    /// @dev Operators and agents need any stake at all; the other roles have a parameter.
    function minimumStake(uint8 role) public view returns (uint256) {
        if (role == StakeRoles.REVIEWER) return parameters.get(ParameterKeys.STAKE_REVIEWER);
        if (role == StakeRoles.VALIDATOR) return parameters.get(ParameterKeys.STAKE_VALIDATOR);
        if (role == StakeRoles.HOST) return parameters.get(ParameterKeys.STAKE_HOST);
        require(role != 0 && role <= StakeRoles.LAST, UnknownRole(role));
        return 1;
    }

    function _reweigh(uint8 role, address account) private {
        uint256 weight = _positions[role][account].staked;
        if (weight < minimumStake(role)) weight = 0;
        if (role == StakeRoles.REVIEWER) {
            uint256 cap = parameters.get(ParameterKeys.STAKE_REVIEWER_CAP);
            if (weight > cap) weight = cap;
        }
        _trees[role].set(account, uint208(weight));
    }

    /// @dev Books up to `amount` under the cap of the present round, which begins with its first slashing.
    function _slashable(Position storage position, uint256 amount) private returns (uint256 slashed) {
        uint256 held = position.staked + position.leaving;
        if (block.timestamp >= position.roundEnd) {
            position.roundEnd = uint64(block.timestamp + parameters.get(ParameterKeys.SLASH_ROUND));
            position.roundStake = uint128(held);
            position.roundSlashed = 0;
        }
        uint256 cap = position.roundStake * parameters.get(ParameterKeys.SLASH_CAP) / PPM;
        uint256 taken = position.roundSlashed;
        uint256 left = cap > taken ? cap - taken : 0;
        slashed = amount < left ? amount : left;
        if (slashed > held) slashed = held;
        position.roundSlashed = uint128(taken + slashed);
    }

    function _past(uint256 blockNumber) private view returns (uint48) {
        require(blockNumber < block.number, BlockNotOver(blockNumber));
        return uint48(blockNumber);
    }
}
