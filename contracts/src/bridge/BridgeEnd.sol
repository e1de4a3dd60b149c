// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {IBridge} from "../interfaces/IBridge.sol";
import {ICrossDomainMessenger} from "../interfaces/optimism/ICrossDomainMessenger.sol";
import {RateLimit} from "../libraries/RateLimit.sol";

/// @title What both ends of the bridge have in common
/// @notice See {IBridge}. Who may pause and set limits is decided by the AccessManager of the end's own layer.
abstract contract BridgeEnd is IBridge, AccessManaged, Pausable {
    using RateLimit for RateLimit.Bucket;

    /// @notice The messenger of this layer.
    ICrossDomainMessenger public immutable messenger;
    /// @notice The other end, on the other layer.
    address public immutable otherBridge;

    uint256 public sentCount;
    mapping(uint256 transferId => bool) public received;

    RateLimit.Bucket private _limit;

    /// @param messenger_ The messenger of this layer.
    /// @param otherBridge_ The other end, whose address may be known before it is deployed.
    constructor(
        address authority,
        ICrossDomainMessenger messenger_,
        address otherBridge_,
        uint128 capacity,
        uint64 window
    ) AccessManaged(authority) {
        require(otherBridge_ != address(0) && address(messenger_) != address(0), ZeroAddress());
        messenger = messenger_;
        otherBridge = otherBridge_;
        _setRateLimit(capacity, window);
    }

    /// @inheritdoc IBridge
    function receiveTransfer(uint256 transferId, address from, address to, uint256 amount)
        external
        whenNotPaused
    {
        require(msg.sender == address(messenger), NotMessenger(msg.sender));
        address sender = messenger.xDomainMessageSender();
        require(sender == otherBridge, NotOtherBridge(sender, otherBridge));
        require(!received[transferId], TransferReplayed(transferId));
        (bool taken, uint256 available) = _limit.take(amount);
        require(taken, RateLimited(amount, available));

        received[transferId] = true;
        emit TransferReceived(transferId, from, to, amount);
        _payOut(to, amount);
    }

    /// @inheritdoc IBridge
    function setRateLimit(uint128 capacity, uint64 window) external restricted {
        _setRateLimit(capacity, window);
    }

    /// @inheritdoc IBridge
    function pause() external restricted {
        _pause();
    }

    /// @inheritdoc IBridge
    function unpause() external restricted {
        _unpause();
    }

    /// @inheritdoc IBridge
    function availableNow() external view returns (uint256) {
        return _limit.available();
    }

    /// @dev Tells the other end to pay `amount` to `to`; the caller has taken it in.
    function _send(address to, uint256 amount, uint32 minGasLimit) internal {
        require(amount > 0, AmountIsZero());
        require(to != address(0) && to != address(this) && to != otherBridge, InvalidReceiver(to));
        uint256 transferId = ++sentCount;
        emit TransferSent(transferId, msg.sender, to, amount);
        messenger.sendMessage(
            otherBridge,
            abi.encodeCall(IBridge.receiveTransfer, (transferId, msg.sender, to, amount)),
            minGasLimit
        );
    }

    /// @dev Pays out on this layer what the other end took in.
    function _payOut(address to, uint256 amount) internal virtual;

    function _setRateLimit(uint128 capacity, uint64 window) private {
        require(window > 0, AmountIsZero());
        _limit.configure(capacity, window);
        emit RateLimitSet(capacity, window);
    }
}
