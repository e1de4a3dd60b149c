// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {IFeeEscrow} from "./interfaces/IFeeEscrow.sol";
import {IRewardsDistributor} from "./interfaces/IRewardsDistributor.sol";
import {IRuntimeParameters} from "./interfaces/IRuntimeParameters.sol";
import {ParameterKeys} from "./libraries/ParameterKeys.sol";
import {Signatures} from "./libraries/Signatures.sol";

/// @title Escrow of inference fees
/// @notice See {IFeeEscrow}. The contract holds exactly the sum of all deposits.
contract FeeEscrow is IFeeEscrow, EIP712 {
    struct Withdrawal {
        uint128 amount;
        uint64 releaseTime;
    }

    /// @notice EIP-712 type of a voucher.
    bytes32 public constant VOUCHER_TYPEHASH =
        keccak256("Voucher(address consumer,address host,uint128 cumulative)");

    /// @notice The numbers that governance may change.
    IRuntimeParameters public immutable parameters;
    /// @notice The distributor of fees.
    IRewardsDistributor public immutable distributor;

    mapping(address consumer => uint256) public depositOf;
    mapping(address consumer => mapping(address host => uint128)) public redeemed;

    mapping(address consumer => mapping(address key => SessionKey)) private _sessionKeys;
    mapping(address consumer => Withdrawal) private _withdrawals;

    constructor(IRuntimeParameters parameters_, IRewardsDistributor distributor_) EIP712("OpenLedger", "1") {
        parameters = parameters_;
        distributor = distributor_;
    }

    /// @inheritdoc IFeeEscrow
    function deposit(address consumer) external payable {
        require(msg.value > 0, AmountIsZero());
        require(consumer != address(0), ZeroAddress());
        depositOf[consumer] += msg.value;
        emit Deposited(consumer, msg.sender, msg.value, depositOf[consumer]);
    }

    /// @inheritdoc IFeeEscrow
    function setSessionKey(address key, uint128 cap, uint64 expiry) external {
        require(key != address(0), ZeroAddress());
        require(cap > 0, AmountIsZero());
        require(expiry > block.timestamp, ExpiryInPast(expiry));
        SessionKey storage entry = _sessionKeys[msg.sender][key];
        require(cap >= entry.cap && expiry >= entry.expiry, SessionKeyCannotShrink(entry.cap, entry.expiry));
        entry.cap = cap;
        entry.expiry = expiry;
        emit SessionKeySet(msg.sender, key, cap, expiry);
    }

    /// @inheritdoc IFeeEscrow
    function revokeSessionKey(address key) external {
        SessionKey storage entry = _sessionKeys[msg.sender][key];
        require(entry.cap > 0, UnknownSessionKey(msg.sender, key));
        uint256 end = block.timestamp + parameters.get(ParameterKeys.WITHDRAWAL_DELAY);
        if (end < entry.expiry) entry.expiry = uint64(end);
        emit SessionKeyRevoked(msg.sender, key, entry.expiry);
    }

    /// @inheritdoc IFeeEscrow
    function redeem(Voucher calldata voucher, bytes calldata signature) external returns (uint256 amount) {
        uint128 before = redeemed[voucher.consumer][voucher.host];
        require(voucher.cumulative > before, VoucherNotHigher(voucher.cumulative, before));
        amount = voucher.cumulative - before;
        uint256 available = depositOf[voucher.consumer];
        require(amount <= available, InsufficientDeposit(amount, available));

        address signer = _authorise(voucher, uint128(amount), signature);
        redeemed[voucher.consumer][voucher.host] = voucher.cumulative;
        depositOf[voucher.consumer] = available - amount;
        emit VoucherRedeemed(voucher.consumer, voucher.host, signer, amount, voucher.cumulative);
        distributor.collect{value: amount}();
    }

    /// @inheritdoc IFeeEscrow
    function requestWithdrawal(uint256 amount) external {
        require(amount > 0, AmountIsZero());
        uint256 available = depositOf[msg.sender];
        require(amount <= available, InsufficientDeposit(amount, available));
        uint256 releaseTime = block.timestamp + parameters.get(ParameterKeys.WITHDRAWAL_DELAY);
        _withdrawals[msg.sender] = Withdrawal(uint128(amount), uint64(releaseTime));
        emit WithdrawalRequested(msg.sender, amount, releaseTime);
    }

    /// @inheritdoc IFeeEscrow
    function withdraw() external returns (uint256 amount) {
        Withdrawal memory request = _withdrawals[msg.sender];
        require(request.amount > 0, NoWithdrawalRequested(msg.sender));
        require(block.timestamp >= request.releaseTime, WithdrawalNotReady(request.releaseTime));
        uint256 available = depositOf[msg.sender];
        amount = request.amount < available ? request.amount : available;
        delete _withdrawals[msg.sender];
        depositOf[msg.sender] = available - amount;
        emit Withdrawn(msg.sender, amount);
        Address.sendValue(payable(msg.sender), amount);
    }

    /// @inheritdoc IFeeEscrow
    function pendingWithdrawal(address consumer) external view returns (uint256 amount, uint256 releaseTime) {
        Withdrawal storage request = _withdrawals[consumer];
        return (request.amount, request.releaseTime);
    }

    /// @inheritdoc IFeeEscrow
    function sessionKey(address consumer, address key) external view returns (SessionKey memory) {
        return _sessionKeys[consumer][key];
    }

    /// @inheritdoc IFeeEscrow
    function voucherDigest(Voucher calldata voucher) public view returns (bytes32) {
        return _hashTypedDataV4(
            keccak256(abi.encode(VOUCHER_TYPEHASH, voucher.consumer, voucher.host, voucher.cumulative))
        );
    }

    /// @dev Finds who signed and, for a session key, books `amount` against its cap.
    function _authorise(Voucher calldata voucher, uint128 amount, bytes calldata signature)
        private
        returns (address signer)
    {
        bytes32 digest = voucherDigest(voucher);
        signer = Signatures.recover(digest, signature);
        SessionKey storage key = _sessionKeys[voucher.consumer][signer];
        if (signer != voucher.consumer && key.cap > 0) {
            require(block.timestamp <= key.expiry, SessionKeyExpired(signer, key.expiry));
            require(amount <= key.cap - key.spent, SessionKeyCapExceeded(signer, amount, key.cap - key.spent));
            key.spent += amount;
            return signer;
        }
        require(
            Signatures.isBy(voucher.consumer, digest, signature),
            VoucherSignerNotAuthorised(voucher.consumer, signer)
        );
        return voucher.consumer;
    }
}
