// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title The usual ways to put an inference on chain and to pay its contributors, to compare with
contract Peers is ERC20 {
    event Inference(address indexed host, bytes32 indexed receipt);

    mapping(address contributor => uint256) public credits;
    mapping(uint256 batch => bytes32) public roots;
    uint256 public batches;

    constructor() ERC20("Peer", "PEER") {
        _mint(msg.sender, 1e27);
    }

    /// @dev Each contributor is paid in tokens at each inference.
    function payEach(address[] calldata contributors, uint256 amount) external {
        for (uint256 i; i < contributors.length; ++i) _transfer(msg.sender, contributors[i], amount);
    }

    /// @dev Each contributor's balance in the contract rises at each inference.
    function creditEach(address[] calldata contributors, uint256 amount) external {
        for (uint256 i; i < contributors.length; ++i) credits[contributors[i]] += amount;
    }

    /// @dev One event for each inference.
    function record(bytes32[] calldata receipts) external {
        for (uint256 i; i < receipts.length; ++i) emit Inference(msg.sender, receipts[i]);
    }

    /// @dev All receipts in calldata, one hash over them: no short proof of a single receipt.
    function hashAll(bytes32[] calldata receipts) external {
        roots[++batches] = keccak256(abi.encodePacked(receipts));
    }

    /// @dev The root alone: the receipts must be had from somewhere else.
    function rootOnly(bytes32 root) external {
        roots[++batches] = root;
    }
}
