// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CommunityDistributor} from "../src/CommunityDistributor.sol";
import {ICommunityDistributor} from "../src/interfaces/ICommunityDistributor.sol";
import {Test} from "./utils/Test.sol";

abstract contract Distributed is Test {
    address internal constant ALICE = address(0xA11CE);
    address internal constant BOB = address(0xB0B);
    address internal constant TREASURY = address(0x7EA5);

    CommunityDistributor internal _distributor;

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        vm.deal(address(this), 10 ether);
        _distributor =
            new CommunityDistributor{value: 10 ether}(_root(), uint64(block.timestamp + 30 days), TREASURY);
    }

    function _leaf(address earner, uint256 amount) internal pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(earner, amount))));
    }

    function _root() internal pure returns (bytes32) {
        (bytes32 a, bytes32 b) = (_leaf(ALICE, 6 ether), _leaf(BOB, 4 ether));
        return a < b ? keccak256(abi.encode(a, b)) : keccak256(abi.encode(b, a));
    }

    function _proof(address other, uint256 amount) internal pure returns (bytes32[] memory proof) {
        proof = new bytes32[](1);
        proof[0] = _leaf(other, amount);
    }
}

contract CommunityDistributorTest is Distributed {
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

    function test_attack_SecondPreimageByALeafOf64Bytes() public {
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

    function test_MorePaidInLaterIsThereForClaims() public {
        CommunityDistributor empty =
            new CommunityDistributor(_root(), uint64(block.timestamp + 30 days), TREASURY);
        vm.deal(address(this), 6 ether);
        (bool sent,) = address(empty).call{value: 6 ether}("");
        vm.assertTrue(sent, "taken");
        empty.claim(ALICE, 6 ether, _proof(BOB, 4 ether));
        vm.assertEq(ALICE.balance, 6 ether, "paid");
    }

    function test_ADistributionNeedsTimeAndAReceiverOfItsRemainder() public {
        vm.expectRevert(
            abi.encodeWithSelector(ICommunityDistributor.DeadlineInPast.selector, uint64(block.timestamp))
        );
        new CommunityDistributor(_root(), uint64(block.timestamp), TREASURY);
        vm.expectRevert(ICommunityDistributor.ZeroAddress.selector);
        new CommunityDistributor(_root(), uint64(block.timestamp + 1), address(0));
    }
}

/// @dev Claims with right and wrong amounts, money paid in, time, and the return of the remainder.
contract CommunityActions is Test {
    CommunityDistributor private immutable _distributor;
    address[2] private _accounts;
    uint256[2] private _amounts;
    bytes32[][2] private _proofs;

    uint256 public paidIn = 10 ether;
    uint256 public returned;

    constructor(
        CommunityDistributor distributor,
        address[2] memory accounts,
        uint256[2] memory amounts,
        bytes32[][2] memory proofs
    ) {
        (_distributor, _accounts, _amounts, _proofs) = (distributor, accounts, amounts, proofs);
    }

    function claim(uint8 who, uint8 other, uint256 amount) external {
        (uint256 i, uint256 j) = (who % 2, other % 2);
        _distributor.claim(_accounts[i], amount % 2 == 0 ? amount : _amounts[i], _proofs[j]);
    }

    function payIn(uint64 amount) external {
        vm.deal(address(this), amount);
        (bool sent,) = address(_distributor).call{value: amount}("");
        if (sent) paidIn += amount;
    }

    function giveBack() external {
        returned += _distributor.returnRemainder();
    }

    function wait_(uint32 time) external {
        vm.warp(block.timestamp + time % 10 days);
    }
}

contract CommunityInvariants is Distributed {
    CommunityActions private _actions;

    function setUp() public override {
        super.setUp();
        bytes32[][2] memory proofs = [_proof(BOB, 4 ether), _proof(ALICE, 6 ether)];
        _actions = new CommunityActions(
            _distributor, [ALICE, BOB], [uint256(6 ether), uint256(4 ether)], proofs
        );
        bytes4[] memory selectors = new bytes4[](4);
        selectors[0] = CommunityActions.claim.selector;
        selectors[1] = CommunityActions.payIn.selector;
        selectors[2] = CommunityActions.giveBack.selector;
        selectors[3] = CommunityActions.wait_.selector;
        target(address(_actions), selectors);
    }

    function invariant_EachIsPaidWhatTheListSaysOrNothingAndTheRestIsThereOrReturned() public view {
        uint256 claimed = _distributor.totalClaimed();
        vm.assertTrue(ALICE.balance == 0 || ALICE.balance == 6 ether, "six or nothing");
        vm.assertTrue(BOB.balance == 0 || BOB.balance == 4 ether, "four or nothing");
        vm.assertEq(ALICE.balance + BOB.balance, claimed, "claimed");
        vm.assertEq(TREASURY.balance, _actions.returned(), "returned");
        vm.assertEq(
            address(_distributor).balance + claimed + _actions.returned(), _actions.paidIn(), "conserved"
        );
    }
}
