// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CommunityDistributor} from "../src/CommunityDistributor.sol";
import {ICommunityDistributor} from "../src/interfaces/ICommunityDistributor.sol";
import {Test} from "./utils/Test.sol";

contract CommunityDistributorTest is Test {
    address private constant ALICE = address(0xA11CE);
    address private constant BOB = address(0xB0B);
    address private constant TREASURY = address(0x7EA5);

    CommunityDistributor private _distributor;

    function setUp() public {
        vm.warp(1_800_000_000);
        vm.deal(address(this), 10 ether);
        _distributor =
            new CommunityDistributor{value: 10 ether}(_root(), uint64(block.timestamp + 30 days), TREASURY);
    }

    function test_EachAccountIsPaidOnceWhoeverCalls() public {
        _distributor.claim(ALICE, 6 ether, _proof(BOB, 4 ether));
        vm.assertEq(ALICE.balance, 6 ether, "paid");
        vm.expectRevert(abi.encodeWithSelector(ICommunityDistributor.AlreadyClaimed.selector, ALICE));
        _distributor.claim(ALICE, 6 ether, _proof(BOB, 4 ether));
        _distributor.claim(BOB, 4 ether, _proof(ALICE, 6 ether));
        vm.assertEq(_distributor.totalClaimed(), 10 ether, "all");
    }

    function testFuzz_NobodyIsPaidAnotherAmountThanTheListSays(address account, uint256 amount) public {
        vm.assume(!(account == ALICE && amount == 6 ether) && !(account == BOB && amount == 4 ether));
        vm.expectRevert(abi.encodeWithSelector(ICommunityDistributor.InvalidProof.selector, account, amount));
        _distributor.claim(account, amount, _proof(BOB, 4 ether));
    }

    function test_AnInnerNodeOfSixtyFourBytesIsNoLeaf() public {
        (bytes32 a, bytes32 b) = (_leaf(ALICE, 6 ether), _leaf(BOB, 4 ether));
        (bytes32 left, bytes32 right) = a < b ? (a, b) : (b, a);
        address forged = address(uint160(uint256(left)));
        vm.expectRevert(
            abi.encodeWithSelector(ICommunityDistributor.InvalidProof.selector, forged, uint256(right))
        );
        _distributor.claim(forged, uint256(right), new bytes32[](0));
    }

    function test_TheRemainderGoesBackAfterTheDeadlineOnly() public {
        uint64 deadline = _distributor.deadline();
        vm.expectRevert(abi.encodeWithSelector(ICommunityDistributor.DistributionRunning.selector, deadline));
        _distributor.returnRemainder();
        vm.warp(deadline);
        _distributor.claim(BOB, 4 ether, _proof(ALICE, 6 ether));
        vm.warp(deadline + 1);
        vm.expectRevert(abi.encodeWithSelector(ICommunityDistributor.DistributionOver.selector, deadline));
        _distributor.claim(ALICE, 6 ether, _proof(BOB, 4 ether));
        vm.assertEq(_distributor.returnRemainder(), 6 ether, "unclaimed");
        vm.assertEq(TREASURY.balance, 6 ether, "returned");
        vm.expectRevert(ICommunityDistributor.NothingLeft.selector);
        _distributor.returnRemainder();
    }

    function test_ADistributionNeedsTimeAndAReceiverOfItsRemainder() public {
        vm.expectRevert(
            abi.encodeWithSelector(ICommunityDistributor.DeadlineInPast.selector, uint64(block.timestamp))
        );
        new CommunityDistributor(_root(), uint64(block.timestamp), TREASURY);
        vm.expectRevert(ICommunityDistributor.ZeroAddress.selector);
        new CommunityDistributor(_root(), uint64(block.timestamp + 1), address(0));
    }

    function _leaf(address earner, uint256 amount) private pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(earner, amount))));
    }

    function _root() private pure returns (bytes32) {
        (bytes32 a, bytes32 b) = (_leaf(ALICE, 6 ether), _leaf(BOB, 4 ether));
        return a < b ? keccak256(abi.encode(a, b)) : keccak256(abi.encode(b, a));
    }

    function _proof(address other, uint256 amount) private pure returns (bytes32[] memory proof) {
        proof = new bytes32[](1);
        proof[0] = _leaf(other, amount);
    }
}
