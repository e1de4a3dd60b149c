// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IInferenceLedger} from "./IInferenceLedger.sol";

/// @title What a contract that asks for an inference may implement to be told the answer
interface IInferenceCallback {
    /// @notice Called once by the market with the answer, with at most the gas that the request named.
    /// @dev Check that the caller is the market. If this fails, the answer stands in {IInferenceMarket.InferenceFulfilled} all
    /// the same and the host is paid.
    /// @custom:misuse Anyone may call it: check that the caller is the market, and act on nothing that a host alone
    /// could make up.
    function onInference(uint256 requestId, bytes calldata output, bytes32 receiptId) external;
}

/// @title Inferences for contracts: one asks and pays in, a host answers, a callback receives
/// @notice The fee goes the way of every fee: the market is the receipt's consumer, deposits the fee in {FeeEscrow} and lets
/// the host's voucher be redeemed in the same transaction. The host still posts the receipt and is paid with everybody
/// else who has a part in the answer. What the request paid in above the fee goes back; all of it after the deadline.
/// @dev The answer is the host's word until validators have sampled it. A contract that acts on it in the callback trusts the
/// host; one that can wait should wait until the receipt's batch is final.
interface IInferenceMarket {
    enum State {
        None,
        Open,
        Fulfilled,
        Refunded
    }

    /// @dev `host` answers; 0 until one accepts, and again when its time is over. `promptHash` is the plain keccak256 of
    /// the prompt. Amounts in wei, times in seconds.
    struct Request {
        address requester;
        uint64 deadline;
        uint32 callbackGas;
        address host;
        uint64 acceptedUntil;
        State state;
        uint128 maxFee;
        uint256 model;
        bytes32 promptHash;
        bytes32 receiptId;
    }

    event InferenceRequested(
        uint256 indexed requestId,
        address indexed requester,
        uint256 indexed model,
        address host,
        uint256 maxFee,
        uint256 deadline,
        bytes prompt
    );
    event RequestAccepted(uint256 indexed requestId, address indexed host, uint256 until);
    /// @notice `delivered` says whether the callback took the answer.
    event InferenceFulfilled(
        uint256 indexed requestId,
        address indexed host,
        bytes32 indexed receiptId,
        uint256 fee,
        bool delivered,
        bytes output
    );
    event RequestRefunded(uint256 indexed requestId, address indexed requester, uint256 amount);

    error AmountIsZero();
    error ModelNotServable(uint256 model);
    /// @notice The deadline is not within [`least`, `most`].
    error DeadlineOutOfBounds(uint256 deadline, uint256 least, uint256 most);
    error CallbackGasTooHigh(uint256 callbackGas, uint256 most);
    error UnknownRequest(uint256 requestId);
    error RequestClosed(uint256 requestId, State state);
    error HostNotActive(address account);
    /// @notice Another host is at it until `until`.
    error TakenByAnother(address host, uint256 until);
    error NotRequestsHost(address account, address host);
    error DeadlineOver(uint256 deadline);
    error DeadlineRunning(uint256 deadline);
    /// @notice The receipt's `field` is not what the request and the answer say.
    error WrongReceipt(string field);
    error FeeAboveMaximum(uint256 fee, uint256 maximum);
    error ReceiptUsed(bytes32 receiptId);
    /// @notice Too little gas is left to give the callback what it was promised.
    error TooLittleGas(uint256 left, uint256 needed);

    /// @notice Asks `model`; the value sent is the most that it may cost.
    /// @param prompt The prompt as RFC 8785 JSON, as a receipt's prompt hash takes it.
    /// @param host The host that shall answer; 0 for any.
    /// @param deadline Second after which the money goes back; from a minute to 7 days away.
    /// @param callbackGas Gas for the caller's {IInferenceCallback.onInference}; 0 for no callback.
    /// @custom:misuse The prompt is public for ever. Too little `callbackGas` makes the callback fail, and the host is
    /// paid all the same.
    function request(
        uint256 model,
        bytes calldata prompt,
        address host,
        uint64 deadline,
        uint32 callbackGas
    ) external payable returns (uint256 requestId);

    /// @notice Takes a request on for 10 minutes, so that nobody can copy the answer out of the queue of transactions and be
    /// first. Needs the stake of a host.
    /// @custom:misuse Holds the request back from others: a host that cannot answer within 10 minutes only delays it.
    function accept(uint256 requestId) external;

    /// @notice Answers. The caller is the request's host; `receipt` is the one that it will post, with the market as consumer and
    /// exactly the model's price of its tokens as fee.
    /// @param prompt The request's prompt; the receipt's prompt hash is keccak256(promptSalt, prompt).
    /// @param output The answer; the receipt's output hash is keccak256(outputSalt, output).
    /// @dev The callback's failure is no obstacle: the host is paid and the answer emitted.
    /// @custom:misuse The same receipt must be posted to the ledger afterwards, or the fee that was collected is never
    /// paid out.
    function fulfil(
        uint256 requestId,
        bytes calldata prompt,
        bytes32 promptSalt,
        bytes calldata output,
        bytes32 outputSalt,
        IInferenceLedger.Receipt calldata receipt
    ) external;

    /// @notice Pays a request back after its deadline. Anyone may call it.
    /// @custom:misuse Pays the requester, whoever calls. A requester that refuses payments finds the amount in {owed}.
    function refund(uint256 requestId) external;

    /// @notice A request with its state.
    /// @custom:misuse `host` may have let its time run out: compare `acceptedUntil` with the time.
    function requestOf(uint256 requestId) external view returns (Request memory);
    /// @notice Number of requests; ids run from 1 to it.
    /// @custom:misuse Closed ones count too.
    function requestCount() external view returns (uint256);
    /// @notice What an answer of so many tokens costs now, in wei, rounded up.
    /// @custom:misuse The price at this moment; the model's holder can change it before the answer, up to what was paid
    /// in.
    function quote(uint256 model, uint32 promptTokens, uint32 outputTokens) external view returns (uint256);
}
