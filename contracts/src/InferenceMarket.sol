// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {IFeeEscrow} from "./interfaces/IFeeEscrow.sol";
import {IInferenceCallback, IInferenceMarket} from "./interfaces/IInferenceMarket.sol";
import {IInferenceLedger} from "./interfaces/IInferenceLedger.sol";
import {IModelRegistry} from "./interfaces/IModelRegistry.sol";
import {IStakeManager} from "./interfaces/IStakeManager.sol";
import {Payer} from "./libraries/Payer.sol";
import {StakeRoles} from "./libraries/StakeRoles.sol";

/// @title Market of inferences for contracts
/// @notice See {IInferenceMarket}. The contract holds exactly what open requests paid in and what it owes to receivers that
/// refused a payment.
contract InferenceMarket is IInferenceMarket, IERC1271, Payer {
    /// @notice Least time to a request's deadline, in seconds.
    uint256 public constant MIN_TIME = 1 minutes;
    /// @notice Most time to a request's deadline, in seconds.
    uint256 public constant MAX_TIME = 7 days;
    /// @notice How long an accepted request is one host's alone.
    uint256 public constant ACCEPT_TIME = 10 minutes;
    /// @notice Most gas that a callback may be promised.
    uint256 public constant MAX_CALLBACK_GAS = 2_000_000;

    /// @dev What follows the callback, and the call itself.
    uint256 private constant GAS_RESERVE = 40_000;

    /// @notice The ledger of receipts.
    IInferenceLedger public immutable ledger;
    /// @notice The escrow of fees.
    IFeeEscrow public immutable escrow;
    /// @notice The registry of models.
    IModelRegistry public immutable models;
    /// @notice The stakes that stand behind roles.
    IStakeManager public immutable stakeManager;

    uint256 public requestCount;
    /// @notice Whether a receipt has answered a request.
    mapping(bytes32 receiptId => bool) public receiptUsed;
    mapping(uint256 requestId => Request) private _requests;

    /// @dev Digest of the one voucher that counts as signed by this contract, while it is being redeemed.
    bytes32 private transient _signing;

    constructor(
        IInferenceLedger ledger_,
        IFeeEscrow escrow_,
        IModelRegistry models_,
        IStakeManager stakeManager_
    ) {
        ledger = ledger_;
        escrow = escrow_;
        models = models_;
        stakeManager = stakeManager_;
    }

    /// @inheritdoc IInferenceMarket
    function request(
        uint256 model,
        bytes calldata prompt,
        address host,
        uint64 deadline,
        uint32 callbackGas
    ) external payable returns (uint256 requestId) {
        require(msg.value > 0, AmountIsZero());
        require(models.isServable(model), ModelNotServable(model));
        (uint256 least, uint256 most) = (block.timestamp + MIN_TIME, block.timestamp + MAX_TIME);
        require(deadline >= least && deadline <= most, DeadlineOutOfBounds(deadline, least, most));
        require(callbackGas <= MAX_CALLBACK_GAS, CallbackGasTooHigh(callbackGas, MAX_CALLBACK_GAS));

        requestId = ++requestCount;
        Request storage entry = _requests[requestId];
        entry.requester = msg.sender;
        entry.deadline = deadline;
        entry.callbackGas = callbackGas;
        entry.host = host;
        if (host != address(0)) entry.acceptedUntil = deadline;
        entry.state = State.Open;
        entry.maxFee = uint128(msg.value);
        entry.model = model;
        entry.promptHash = keccak256(prompt);
        emit InferenceRequested(requestId, msg.sender, model, host, msg.value, deadline, prompt);
    }

    /// @inheritdoc IInferenceMarket
    function accept(uint256 requestId) external {
        Request storage entry = _open(requestId);
        require(block.timestamp <= entry.deadline, DeadlineOver(entry.deadline));
        require(stakeManager.isActive(StakeRoles.HOST, msg.sender), HostNotActive(msg.sender));
        bool free = entry.host == address(0) || block.timestamp > entry.acceptedUntil;
        require(free, TakenByAnother(entry.host, entry.acceptedUntil));
        entry.host = msg.sender;
        entry.acceptedUntil = uint64(block.timestamp + ACCEPT_TIME);
        emit RequestAccepted(requestId, msg.sender, entry.acceptedUntil);
    }

    /// @inheritdoc IInferenceMarket
    function fulfil(
        uint256 requestId,
        bytes calldata prompt,
        bytes32 promptSalt,
        bytes calldata output,
        bytes32 outputSalt,
        IInferenceLedger.Receipt calldata receipt
    ) external nonReentrant {
        Request storage entry = _open(requestId);
        require(block.timestamp <= entry.deadline, DeadlineOver(entry.deadline));
        require(msg.sender == entry.host, NotRequestsHost(msg.sender, entry.host));
        require(stakeManager.isActive(StakeRoles.HOST, msg.sender), HostNotActive(msg.sender));
        require(receipt.host == msg.sender, WrongReceipt("host"));
        require(receipt.consumer == address(this), WrongReceipt("consumer"));
        require(receipt.model == entry.model, WrongReceipt("model"));
        require(keccak256(prompt) == entry.promptHash, WrongReceipt("prompt"));
        require(
            keccak256(abi.encodePacked(promptSalt, prompt)) == receipt.promptHash, WrongReceipt("promptHash")
        );
        require(
            keccak256(abi.encodePacked(outputSalt, output)) == receipt.outputHash, WrongReceipt("outputHash")
        );
        uint256 fee = quote(entry.model, receipt.promptTokens, receipt.outputTokens);
        require(receipt.fee == fee, WrongReceipt("fee"));
        require(fee <= entry.maxFee, FeeAboveMaximum(fee, entry.maxFee));
        bytes32 receiptId = ledger.receiptDigest(receipt);
        require(!receiptUsed[receiptId], ReceiptUsed(receiptId));

        receiptUsed[receiptId] = true;
        entry.state = State.Fulfilled;
        entry.receiptId = receiptId;
        if (fee > 0) _payFee(msg.sender, uint128(fee));
        _pay(entry.requester, entry.maxFee - fee);
        bool delivered = _deliver(requestId, entry, output, receiptId);
        emit InferenceFulfilled(requestId, msg.sender, receiptId, fee, delivered, output);
    }

    /// @inheritdoc IInferenceMarket
    function refund(uint256 requestId) external nonReentrant {
        Request storage entry = _open(requestId);
        require(block.timestamp > entry.deadline, DeadlineRunning(entry.deadline));
        entry.state = State.Refunded;
        emit RequestRefunded(requestId, entry.requester, entry.maxFee);
        _pay(entry.requester, entry.maxFee);
    }

    /// @notice Says yes to one digest alone: that of the voucher which the market is redeeming (ERC-1271).
    /// @custom:misuse Outside of {fulfil} it says no to everything; no other contract can have the market sign.
    function isValidSignature(bytes32 hash, bytes calldata) external view returns (bytes4) {
        return hash != 0 && hash == _signing ? IERC1271.isValidSignature.selector : bytes4(0xffffffff);
    }

    /// @inheritdoc IInferenceMarket
    function requestOf(uint256 requestId) external view returns (Request memory) {
        return _known(requestId);
    }

    /// @inheritdoc IInferenceMarket
    function quote(uint256 model, uint32 promptTokens, uint32 outputTokens) public view returns (uint256) {
        IModelRegistry.ModelInput memory input = models.model(model).input;
        uint256 thousandfold =
            uint256(promptTokens) * input.inputPrice + uint256(outputTokens) * input.outputPrice;
        return (thousandfold + 999) / 1_000;
    }

    /// @dev By way of the escrow, like every consumer's fee.
    function _payFee(address host, uint128 fee) private {
        IFeeEscrow.Voucher memory voucher =
            IFeeEscrow.Voucher(address(this), host, escrow.redeemed(address(this), host) + fee);
        escrow.deposit{value: fee}(address(this));
        _signing = escrow.voucherDigest(voucher);
        escrow.redeem(voucher, "");
        _signing = 0;
    }

    /// @dev Copies no return data, and makes sure that a host cannot starve the callback (EIP-150 passes on at most 63/64).
    function _deliver(uint256 requestId, Request storage entry, bytes calldata output, bytes32 receiptId)
        private
        returns (bool delivered)
    {
        uint256 limit = entry.callbackGas;
        address requester = entry.requester;
        if (limit == 0 || requester.code.length == 0) return false;
        bytes memory data = abi.encodeCall(IInferenceCallback.onInference, (requestId, output, receiptId));
        uint256 needed = limit + limit / 63 + GAS_RESERVE;
        require(gasleft() >= needed, TooLittleGas(gasleft(), needed));
        assembly ("memory-safe") {
            delivered := call(limit, requester, 0, add(data, 0x20), mload(data), 0, 0)
        }
    }

    function _known(uint256 requestId) private view returns (Request storage entry) {
        entry = _requests[requestId];
        require(entry.state != State.None, UnknownRequest(requestId));
    }

    function _open(uint256 requestId) private view returns (Request storage entry) {
        entry = _known(requestId);
        require(entry.state == State.Open, RequestClosed(requestId, entry.state));
    }
}
