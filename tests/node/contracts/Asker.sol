// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

interface IMarket {
    function request(uint256 model, bytes calldata prompt, address host, uint64 deadline, uint32 callbackGas)
        external
        payable
        returns (uint256);
}

/// @notice A contract that asks a model and keeps what it is told, or refuses to be told.
contract Asker {
    IMarket public immutable market;
    bool public immutable refuses;
    uint256 public asked;
    bytes public answer;
    bytes32 public receiptId;

    constructor(IMarket market_, bool refuses_) {
        (market, refuses) = (market_, refuses_);
    }

    receive() external payable {}

    function ask(uint256 model, bytes calldata prompt, uint64 deadline) external payable {
        asked = market.request{value: msg.value}(model, prompt, address(0), deadline, 500_000);
    }

    function onInference(uint256 requestId, bytes calldata output, bytes32 receipt) external {
        require(msg.sender == address(market) && requestId == asked && !refuses);
        (answer, receiptId) = (output, receipt);
    }
}
