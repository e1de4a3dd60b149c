// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {ICommunityDistributor} from "./interfaces/ICommunityDistributor.sol";

/// @title One distribution of OPEN to a list of accounts
/// @notice See {ICommunityDistributor}. Nobody has a right over it: root, deadline and the remainder's receiver never change.
contract CommunityDistributor is ICommunityDistributor {
    bytes32 public immutable root;
    uint64 public immutable deadline;
    address public immutable remainderTo;

    uint256 public totalClaimed;
    mapping(address account => bool) public hasClaimed;

    /// @dev Send with the sum of all amounts, or pay it in before claims.
    constructor(bytes32 root_, uint64 deadline_, address remainderTo_) payable {
        require(remainderTo_ != address(0), ZeroAddress());
        require(deadline_ > block.timestamp, DeadlineInPast(deadline_));
        root = root_;
        deadline = deadline_;
        remainderTo = remainderTo_;
        if (msg.value > 0) emit Funded(msg.sender, msg.value);
    }

    receive() external payable {
        emit Funded(msg.sender, msg.value);
    }

    /// @inheritdoc ICommunityDistributor
    function claim(address account, uint256 amount, bytes32[] calldata proof) external {
        require(block.timestamp <= deadline, DistributionOver(deadline));
        require(!hasClaimed[account], AlreadyClaimed(account));
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(account, amount))));
        require(MerkleProof.verifyCalldata(proof, root, leaf), InvalidProof(account, amount));

        hasClaimed[account] = true;
        totalClaimed += amount;
        emit Claimed(account, amount);
        Address.sendValue(payable(account), amount);
    }

    /// @inheritdoc ICommunityDistributor
    function returnRemainder() external returns (uint256 amount) {
        require(block.timestamp > deadline, DistributionRunning(deadline));
        amount = address(this).balance;
        require(amount > 0, NothingLeft());
        emit RemainderReturned(remainderTo, amount);
        Address.sendValue(payable(remainderTo), amount);
    }
}
