// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {RewardsDistributor} from "../src/RewardsDistributor.sol";
import {IRewardsDistributor} from "../src/interfaces/IRewardsDistributor.sol";
import {StakeRoles} from "../src/libraries/StakeRoles.sol";
import {System} from "./utils/System.sol";

contract RewardsDistributorTest is System {
    address private _alice = account("alice");
    address private _bob = account("bob");

    function setUp() public override {
        super.setUp();
        collectFees(10 ether);
    }

    function test_ClaimsArePaidOnceAndByIncrease() public {
        _activate(_root(6 ether, 4 ether), 10 ether);
        vm.assertEq(distributor.claim(_alice, 6 ether, _proof(_bob, 4 ether)), 6 ether, "alice");
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.NothingToClaim.selector, _alice, 6 ether));
        distributor.claim(_alice, 6 ether, _proof(_bob, 4 ether));
        collectFees(10 ether);
        _activate(_root(13 ether, 7 ether), 20 ether);
        vm.assertEq(distributor.claim(_alice, 13 ether, _proof(_bob, 7 ether)), 7 ether, "the increase");
        vm.assertEq(distributor.claim(_bob, 7 ether, _proof(_alice, 13 ether)), 7 ether, "all of it");
        vm.assertEq(address(distributor).balance, 0, "paid out");
    }

    function test_AnOldRootsProofIsWorthNothing() public {
        _activate(_root(6 ether, 4 ether), 10 ether);
        _activate(_root(5 ether, 5 ether), 10 ether);
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.InvalidProof.selector, _alice, 6 ether));
        distributor.claim(_alice, 6 ether, _proof(_bob, 4 ether));
    }

    function test_NoRootPromisesMoreThanWasCollectedOrLessThanTheActiveOne() public {
        vm.expectRevert(
            abi.encodeWithSelector(IRewardsDistributor.TotalOutOfBounds.selector, 10 ether + 1, 0, 10 ether)
        );
        distributor.proposeRoot("root", 10 ether + 1, 1, "data");
        _activate(_root(6 ether, 4 ether), 10 ether);
        vm.expectRevert(
            abi.encodeWithSelector(IRewardsDistributor.TotalOutOfBounds.selector, 9 ether, 10 ether, 10 ether)
        );
        distributor.proposeRoot("root", 9 ether, 1, "data");
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.LastBatchDecreases.selector, 0, 1));
        distributor.proposeRoot("root", 10 ether, 0, "data");
    }

    function test_LeavesThatAddUpToMoreThanTheTotalAreNotPaidBeyondIt() public {
        collectFees(90 ether);
        _activate(_root(8 ether, 8 ether), 10 ether);
        distributor.claim(_alice, 8 ether, _proof(_bob, 8 ether));
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.RootOverdrawn.selector, 8 ether, 2 ether));
        distributor.claim(_bob, 8 ether, _proof(_alice, 8 ether));
    }

    function test_ARootWaitsForItsDelay() public {
        uint256 id = distributor.proposeRoot(_root(6 ether, 4 ether), 10 ether, 1, "data");
        uint256 ready = block.timestamp + 1 hours;
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.RootNotReady.selector, id, ready));
        distributor.activate(id);
        vm.expectRevert(IRewardsDistributor.NoActiveRoot.selector);
        distributor.claim(_alice, 6 ether, _proof(_bob, 4 ether));
        vm.warp(ready);
        vm.assertTrue(distributor.isReady(id), "ready");
        distributor.activate(id);
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.RootSuperseded.selector, id, id));
        distributor.activate(id);
    }

    function test_TwoThirdsOfTheValidatorsActivateEarly() public {
        address[3] memory validators = [account("v1"), account("v2"), account("v3")];
        for (uint256 i; i < 3; ++i) {
            stakeAs(validators[i], StakeRoles.VALIDATOR, 5_000 ether);
        }
        nextBlock();
        uint256 id = distributor.proposeRoot(_root(6 ether, 4 ether), 10 ether, 1, "data");
        nextBlock();
        vm.prank(validators[0]);
        distributor.attestRoot(id);
        vm.assertTrue(!distributor.isReady(id), "one third");
        vm.prank(validators[0]);
        vm.expectRevert(
            abi.encodeWithSelector(IRewardsDistributor.AlreadyAttested.selector, id, validators[0])
        );
        distributor.attestRoot(id);
        vm.prank(validators[1]);
        distributor.attestRoot(id);
        distributor.activate(id);
        vm.assertEq(distributor.activeRootId(), id, "active");
    }

    function test_attack_StakeThatMovesAttestsTwice() public {
        address first = account("v1");
        stakeAs(first, StakeRoles.VALIDATOR, 5_000 ether);
        stakeAs(account("v2"), StakeRoles.VALIDATOR, 10_000 ether);
        nextBlock();
        uint256 id = distributor.proposeRoot(_root(6 ether, 4 ether), 10 ether, 1, "data");
        nextBlock();
        address late = account("late");
        stakeAs(late, StakeRoles.VALIDATOR, 5_000 ether);
        nextBlock();
        vm.prank(late);
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.ValidatorNotActive.selector, late));
        distributor.attestRoot(id);
        vm.startPrank(first);
        stakes.requestUnstake(StakeRoles.VALIDATOR, 5_000 ether);
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.ValidatorNotActive.selector, first));
        distributor.attestRoot(id);
        vm.stopPrank();
    }

    function test_WithoutValidatorsOnlyTheDelayCounts() public {
        nextBlock();
        uint256 id = distributor.proposeRoot(_root(6 ether, 4 ether), 10 ether, 1, "data");
        nextBlock();
        vm.assertTrue(!distributor.isReady(id), "nobody attested");
    }

    function test_ADisabledRootStopsClaimsAndCanBeReplaced() public {
        uint256 id = _activate(_root(10 ether, 0), 10 ether);
        distributor.disable(id);
        vm.expectRevert(IRewardsDistributor.NoActiveRoot.selector);
        distributor.claim(_alice, 10 ether, _proof(_bob, 0));
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.RootIsDisabled.selector, id));
        distributor.activate(id);
        _activate(_root(2 ether, 7 ether), 9 ether);
        vm.assertEq(distributor.claim(_alice, 2 ether, _proof(_bob, 7 ether)), 2 ether, "right root");
    }

    function test_OnlyTheRightRolesProposeDisableAndCollect() public {
        vm.startPrank(account("mallory"));
        bytes memory refusal =
            abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, account("mallory"));
        vm.expectRevert(refusal);
        distributor.proposeRoot("root", 1, 1, "data");
        vm.expectRevert(refusal);
        distributor.disable(1);
        vm.deal(account("mallory"), 1 ether);
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.NotEscrow.selector, account("mallory")));
        distributor.collect{value: 1 ether}();
        vm.stopPrank();
    }

    function test_attack_SecondPreimageByALeafOf64Bytes() public {
        // The root over the leaves of alice and bob is the hash of 64 bytes. If leaves were hashed once, whoever finds an
        // account and amount that are these 64 bytes could claim an inner node. They are hashed twice, so none counts.
        bytes32 a = _leaf(_alice, 6 ether);
        bytes32 b = _leaf(_bob, 4 ether);
        bytes32 inner = a < b ? keccak256(abi.encode(a, b)) : keccak256(abi.encode(b, a));
        (bytes32 left, bytes32 right) = a < b ? (a, b) : (b, a);
        _activate(inner, 10 ether);
        address forged = address(uint160(uint256(left)));
        vm.expectRevert(
            abi.encodeWithSelector(IRewardsDistributor.InvalidProof.selector, forged, uint256(right))
        );
        distributor.claim(forged, uint256(right), new bytes32[](0));
    }

    function test_attack_ReentrancyOnClaims() public {
        Greedy greedy = new Greedy(distributor);
        bytes32 root = _leaf(address(greedy), 3 ether);
        _activate(root, 10 ether);
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.NothingToClaim.selector, greedy, 3 ether));
        distributor.claim(address(greedy), 3 ether, new bytes32[](0));
        greedy.behave();
        distributor.claim(address(greedy), 3 ether, new bytes32[](0));
        vm.assertEq(address(greedy).balance, 3 ether, "once");
    }

    function test_ARotatedAccountsEarningsGoToItsSuccessorAndAreCountedOnce() public {
        _activate(_root(6 ether, 4 ether), 10 ether);
        distributor.claim(_alice, 6 ether, _proof(_bob, 4 ether));
        _rotate("alice", "alice2");
        vm.assertEq(distributor.holderOf(_alice), account("alice2"), "holder");
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.NothingToClaim.selector, _alice, 6 ether));
        distributor.claim(_alice, 6 ether, _proof(_bob, 4 ether));
        collectFees(10 ether);
        _activate(_root(13 ether, 7 ether), 20 ether);
        distributor.claim(_alice, 13 ether, _proof(_bob, 7 ether));
        vm.assertEq(account("alice2").balance, 7 ether, "what came after");
        vm.assertEq(_alice.balance, 6 ether, "what came before");
        _rotate("alice2", "alice3");
        vm.assertEq(distributor.holderOf(_alice), account("alice3"), "along the chain");
    }

    function test_attack_WalletRotationTheft() public {
        uint64 deadline = uint64(block.timestamp + 1 days);
        address mallory = account("mallory");
        address safe = account("safe");
        bytes memory link = _link("alice", safe, deadline);

        // A link to another wallet is worth nothing to whoever sees it.
        vm.startPrank(mallory);
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.InvalidLinkSignature.selector, _alice));
        distributor.rotate(_alice, deadline, link);
        // Nor can one be made without the account's key.
        bytes memory forged = signed(
            key("mallory"), distributor.linkDigest(_alice, mallory, distributor.linkNonces(_alice), deadline)
        );
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.InvalidLinkSignature.selector, _alice));
        distributor.rotate(_alice, deadline, forged);
        vm.stopPrank();

        // An old link to a wallet that got into wrong hands is cancelled.
        bytes memory phished = _link("alice", mallory, deadline);
        vm.prank(_alice);
        distributor.cancelLinks();
        vm.prank(mallory);
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.InvalidLinkSignature.selector, _alice));
        distributor.rotate(_alice, deadline, phished);

        // After the rotation the old key, even if stolen, decides nothing any more.
        _rotate("alice", "safe");
        bytes memory stolen = _link("alice", mallory, deadline);
        vm.prank(mallory);
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.AlreadyRotated.selector, _alice, safe));
        distributor.rotate(_alice, deadline, stolen);
        vm.startPrank(_alice);
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.NotHolder.selector, _alice, safe));
        distributor.setClaimer(_alice, mallory);
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.NotClaimer.selector, _alice, _alice));
        distributor.claimTo(_alice, mallory, 6 ether, _proof(_bob, 4 ether));
        vm.stopPrank();
    }

    function test_attack_ALinkReplayedOnAnotherChainOrContractOrAfterItsDeadline() public {
        uint64 deadline = uint64(block.timestamp + 1 days);
        address safe = account("safe");
        bytes memory link = _link("alice", safe, deadline);
        RewardsDistributor other =
            new RewardsDistributor(address(access), parameters, stakes, address(escrow));
        vm.startPrank(safe);
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.InvalidLinkSignature.selector, _alice));
        other.rotate(_alice, deadline, link);
        vm.chainId(10);
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.InvalidLinkSignature.selector, _alice));
        distributor.rotate(_alice, deadline, link);
        vm.chainId(31_337);
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.InvalidLinkSignature.selector, _alice));
        distributor.rotate(_alice, deadline + 1, link);
        vm.warp(deadline + 1);
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.LinkExpired.selector, deadline));
        distributor.rotate(_alice, deadline, link);
        vm.stopPrank();
    }

    function test_WalletsCannotFollowEachOtherInACircle() public {
        uint64 deadline = uint64(block.timestamp + 1 days);
        bytes memory self = _link("alice", _alice, deadline);
        vm.prank(_alice);
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.InvalidSuccessor.selector, _alice));
        distributor.rotate(_alice, deadline, self);
        _rotate("alice", "safe");
        bytes memory back = _link("safe", _alice, deadline);
        vm.prank(_alice);
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.InvalidSuccessor.selector, _alice));
        distributor.rotate(account("safe"), deadline, back);
    }

    function test_AClaimerClaimsToWhereItLikesAndStrangersNoMore() public {
        _activate(_root(6 ether, 4 ether), 10 ether);
        address claimer = account("claimer");
        vm.prank(account("mallory"));
        vm.expectRevert(
            abi.encodeWithSelector(IRewardsDistributor.NotHolder.selector, account("mallory"), _alice)
        );
        distributor.setClaimer(_alice, account("mallory"));
        vm.prank(_alice);
        distributor.setClaimer(_alice, claimer);
        vm.expectRevert(
            abi.encodeWithSelector(IRewardsDistributor.NotClaimer.selector, address(this), _alice)
        );
        distributor.claim(_alice, 6 ether, _proof(_bob, 4 ether));
        vm.expectRevert(
            abi.encodeWithSelector(IRewardsDistributor.NotClaimer.selector, address(this), _alice)
        );
        distributor.claimTo(_alice, address(this), 6 ether, _proof(_bob, 4 ether));
        vm.startPrank(claimer);
        vm.expectRevert(IRewardsDistributor.ZeroAddress.selector);
        distributor.claimTo(_alice, address(0), 6 ether, _proof(_bob, 4 ether));
        distributor.claimTo(_alice, account("cold"), 6 ether, _proof(_bob, 4 ether));
        vm.stopPrank();
        vm.assertEq(account("cold").balance, 6 ether, "paid");
        // The claimer of the old wallet is not the new one's.
        _rotate("alice", "safe");
        vm.assertEq(distributor.claimerOf(_alice), address(0), "none");
    }

    function _rotate(string memory from, string memory to) private {
        uint64 deadline = uint64(block.timestamp + 1 days);
        bytes memory link = _link(from, account(to), deadline);
        vm.prank(account(to));
        distributor.rotate(account(from), deadline, link);
    }

    function _link(string memory from, address to, uint64 deadline) private view returns (bytes memory) {
        address by = account(from);
        return signed(key(from), distributor.linkDigest(by, to, distributor.linkNonces(by), deadline));
    }

    function _activate(bytes32 root, uint256 total) private returns (uint256 id) {
        id = distributor.proposeRoot(root, total, 1, "data");
        vm.warp(block.timestamp + 1 hours);
        distributor.activate(id);
    }

    function _leaf(address earner, uint256 amount) private pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(earner, amount))));
    }

    function _root(uint256 forAlice, uint256 forBob) private view returns (bytes32) {
        (bytes32 a, bytes32 b) = (_leaf(_alice, forAlice), _leaf(_bob, forBob));
        return a < b ? keccak256(abi.encode(a, b)) : keccak256(abi.encode(b, a));
    }

    function _proof(address other, uint256 amount) private pure returns (bytes32[] memory proof) {
        proof = new bytes32[](1);
        proof[0] = _leaf(other, amount);
    }
}

/// @dev Claims again while it is being paid, until told to behave.
contract Greedy {
    RewardsDistributor private immutable _distributor;
    bool private _behaves;

    constructor(RewardsDistributor distributor) {
        _distributor = distributor;
    }

    receive() external payable {
        if (!_behaves) _distributor.claim(address(this), 3 ether, new bytes32[](0));
    }

    function behave() external {
        _behaves = true;
    }
}
