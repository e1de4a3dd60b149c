// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {DatanetRegistry} from "../src/DatanetRegistry.sol";
import {IDatanetRegistry} from "../src/interfaces/IDatanetRegistry.sol";
import {IReviewAppeals} from "../src/interfaces/IReviewAppeals.sol";
import {ParameterKeys} from "../src/libraries/ParameterKeys.sol";
import {StakeRoles} from "../src/libraries/StakeRoles.sol";
import {System} from "./utils/System.sol";

/// @dev Attacks on Datanets and their reviews, each by name, each without success.
contract DatanetAttacks is System {
    bytes private constant ALL = hex"ff03";
    bytes private constant NONE = hex"0000";

    address private _mallory = account("mallory");

    function setUp() public override {
        super.setUp();
        reviewers(12);
        nextBlock();
        vm.deal(_mallory, 1_000_000 ether);
    }

    function test_attack_FrontRunOfReveal() public {
        uint256 id = _inReview();
        address[] memory jurors = datanets.jury(id);
        commitAs(jurors[0], id, ALL);
        // A copied commitment names its first maker, so that the copier can never reveal it.
        vm.prank(jurors[1]);
        datanets.commitVerdict(id, keccak256(abi.encode(id, jurors[0], ALL, bytes32("salt"))));
        commitAs(jurors[2], id, ALL);
        vm.prank(jurors[1]);
        vm.expectRevert(
            abi.encodeWithSelector(
                IDatanetRegistry.CommitmentMismatch.selector,
                keccak256(abi.encode(id, jurors[0], ALL, bytes32("salt"))),
                keccak256(abi.encode(id, jurors[1], ALL, bytes32("salt")))
            )
        );
        datanets.revealVerdict(id, ALL, "salt");
        // Nor can somebody else send the reveal that waits in the pool.
        vm.prank(_mallory);
        vm.expectRevert(
            abi.encodeWithSelector(
                IDatanetRegistry.CommitmentMismatch.selector,
                bytes32(0),
                keccak256(abi.encode(id, _mallory, ALL, bytes32("salt")))
            )
        );
        datanets.revealVerdict(id, ALL, "salt");
        revealAs(jurors[0], id, ALL);
    }

    function test_attack_GriefingByNoReveal() public {
        uint256 id = _inReview();
        address[] memory jurors = datanets.jury(id);
        for (uint256 i; i < 3; ++i) {
            commitAs(jurors[i], id, ALL);
        }
        vm.warp(datanets.review(id).revealEnd);
        datanets.endRound(id);
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(stakes.stakeOf(StakeRoles.REVIEWER, jurors[i]), 999 ether, "each pays");
        }
        nextBlock();
        vm.assertTrue(datanets.openReview(id), "the next jury, at once");
        address[] memory next = datanets.jury(id);
        for (uint256 i; i < 3; ++i) {
            for (uint256 j; j < 3; ++j) {
                vm.assertTrue(next[i] != jurors[j], "who fell below the least stake is out");
            }
        }
    }

    function test_attack_ZeroStakeDraw() public {
        // All leave in the block of the submission: nobody has weight at its end, and nobody is drawn.
        uint256 id = submitted("carol", "olivia", 10);
        for (uint160 i; i < 12; ++i) {
            vm.prank(address(0xA000 + i));
            stakes.requestUnstake(StakeRoles.REVIEWER, 1_000 ether);
        }
        nextBlock();
        vm.assertTrue(!datanets.openReview(id), "no jury");
        vm.assertEq(datanets.jury(id).length, 0, "nobody");
        nextBlock();
        vm.assertTrue(!datanets.openReview(id), "still no jury");
        // The contribution is not stuck: while no jury can be drawn it can be taken back.
        vm.prank(account("carol"));
        datanets.withdrawContribution(id);
        vm.assertEq(account("carol").balance, 0.5 ether, "bond back");
    }

    function test_attack_JuryShoppingByWithdrawal() public {
        uint256 id = submitted("carol", "olivia", 10);
        nextBlock();
        // The jury follows from the block that is over. Whoever does not like it can no longer leave.
        vm.prank(account("carol"));
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.JuryIsKnown.selector, id));
        datanets.withdrawContribution(id);
        datanets.openReview(id);
        vm.warp(datanets.review(id).revealEnd);
        datanets.endRound(id);
        vm.prank(account("carol"));
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.JuryIsKnown.selector, id));
        datanets.withdrawContribution(id);
    }

    function test_attack_SignatureReplayAcrossChainAndContract() public {
        vm.prank(account("olivia"));
        uint256 net = datanets.createDatanet("n", 0, 0, "", openTerms());
        IDatanetRegistry.ContributionInput memory input = contributionOf(net, "carol", 10);
        bytes memory signature = signed(key("carol"), datanets.contributionDigest(input));
        bytes memory refusal =
            abi.encodeWithSelector(IDatanetRegistry.InvalidContributionSignature.selector, account("carol"));
        vm.deal(address(this), 10 ether);
        DatanetRegistry other = new DatanetRegistry(parameters, stakes, appeals, treasury);
        other.createDatanet("n", 0, 0, "", openTerms());
        vm.expectRevert(refusal);
        other.submit{value: 0.5 ether}(input, signature);
        vm.chainId(1);
        vm.expectRevert(refusal);
        datanets.submit{value: 0.5 ether}(input, signature);
    }

    function test_attack_MalleableSignature() public {
        vm.prank(account("olivia"));
        uint256 net = datanets.createDatanet("n", 0, 0, "", openTerms());
        IDatanetRegistry.ContributionInput memory input = contributionOf(net, "carol", 10);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key("carol"), datanets.contributionDigest(input));
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        bytes memory mirrored = abi.encodePacked(r, order - uint256(s), v == 27 ? uint8(28) : uint8(27));
        vm.deal(address(this), 1 ether);
        vm.expectRevert(
            abi.encodeWithSelector(IDatanetRegistry.InvalidContributionSignature.selector, account("carol"))
        );
        datanets.submit{value: 0.5 ether}(input, mirrored);
    }

    function test_attack_SybilIdentitiesAgainstTheCap() public {
        // One account with 500,000 OPEN weighs as 10,000 do.
        stakeAs(_mallory, StakeRoles.REVIEWER, 500_000 ether);
        nextBlock();
        uint256 last = block.number - 1;
        vm.assertEq(stakes.weightAt(StakeRoles.REVIEWER, _mallory, last), 10_000 ether, "capped");
        // Split among many it weighs what is staked, and never more than that: names cost stake, not words.
        uint256 before = stakes.totalWeightAt(StakeRoles.REVIEWER, last);
        for (uint160 i; i < 20; ++i) {
            stakeAs(address(0xBAD000 + i), StakeRoles.REVIEWER, 1_000 ether);
        }
        nextBlock();
        uint256 gained = stakes.totalWeightAt(StakeRoles.REVIEWER, block.number - 1) - before;
        vm.assertEq(gained, 20_000 ether, "as much as was staked");
        vm.deal(address(0xBAD999), 999 ether);
        vm.prank(address(0xBAD999));
        vm.expectRevert();
        stakes.stake{value: 999 ether}(StakeRoles.REVIEWER);
    }

    function test_attack_LateStakeAgainstAKnownSeed() public {
        uint256 id = submitted("carol", "olivia", 10);
        nextBlock();
        for (uint160 i; i < 50; ++i) {
            stakeAs(address(0xBAD000 + i), StakeRoles.REVIEWER, 10_000 ether);
        }
        nextBlock();
        datanets.openReview(id);
        address[] memory jurors = datanets.jury(id);
        for (uint256 i; i < 3; ++i) {
            vm.assertTrue(jurors[i] >= address(0xA000) && jurors[i] < address(0xA00C), "staked in time");
        }
    }

    function test_attack_ChallengeGriefing() public {
        // Blocking others: a contributor challenges one record itself, so that nobody else could challenge the rest.
        uint256 id = _inReview();
        judge(id, ALL);
        datanets.endRound(id);
        vm.deal(account("carol"), 1 ether);
        vm.prank(account("carol"));
        appeals.challenge{value: 0.1 ether}(id, hex"0100");
        vm.prank(_mallory);
        uint256 second = appeals.challenge{value: 0.9 ether}(id, hex"fe03");
        vm.assertEq(second, 2, "others still can");
        // Delaying: all that a challenge can do is hold the decision up for a bounded time, at the price of its bond.
        IDatanetRegistry.Review memory times = datanets.review(id);
        vm.assertLe(times.lapseEnd, block.timestamp + 2 days + 7 days, "bounded");
        vm.warp(times.defendEnd);
        datanets.openReview(id);
        nextBlock();
        vm.assertTrue(datanets.openReview(id), "larger jury");
        judge(id, ALL);
        datanets.endRound(id);
        vm.prank(_mallory);
        vm.expectRevert(abi.encodeWithSelector(IReviewAppeals.NotInState.selector, id, 6, 4));
        appeals.challenge{value: 0.1 ether}(id, hex"0100");
        uint256 held = _mallory.balance;
        appeals.settleChallenge(id, second);
        vm.assertEq(_mallory.balance, held, "the bond is gone");
    }

    function test_attack_ReviewerAsParty() public {
        uint256 id = _inReview();
        judge(id, ALL);
        datanets.endRound(id);
        address reviewer = address(0xA005);
        vm.deal(reviewer, 1 ether);
        vm.prank(reviewer);
        vm.expectRevert(abi.encodeWithSelector(IReviewAppeals.PartyIsReviewer.selector, reviewer));
        appeals.challenge{value: 0.1 ether}(id, hex"0100");
    }

    function test_attack_ReentrancyOnPayments() public {
        Reenterer thief = new Reenterer(datanets);
        vm.prank(account("olivia"));
        uint256 net = datanets.createDatanet("n", 0, 0, "", openTerms());
        IDatanetRegistry.ContributionInput memory input =
            IDatanetRegistry.ContributionInput(net, address(thief), "root", 10, "MIT", "manifest", 0);
        vm.deal(address(this), 5 ether);
        uint256 id = datanets.submit{value: 0.5 ether}(input, "by its own rule");
        submittedTo(net, "carol", 10);
        thief.aim(id);
        nextBlock();
        datanets.openReview(id);
        judge(id, ALL);
        conclude(id);
        vm.assertTrue(thief.called(), "it tried");
        vm.assertEq(address(thief).balance, 0.5 ether, "its own bond, once");
        vm.assertEq(address(datanets).balance, 0.5 ether, "carol's bond is there");
    }

    function test_attack_PayerSendsTooLittleGas() public {
        uint256 id = _inReview();
        judge(id, ALL);
        datanets.endRound(id);
        vm.warp(datanets.review(id).challengeEnd);
        // With too little gas the payment would fail and the bond be booked as owed. It reverts until there is enough.
        bool done;
        uint256 refused;
        for (uint256 given = 40_000; !done; given += 2_000) {
            (done,) = address(datanets).call{gas: given}(abi.encodeCall(datanets.finalise, (id)));
            if (!done) ++refused;
        }
        vm.assertGe(refused, 5, "too little at first");
        vm.assertEq(datanets.owed(account("carol")), 0, "never booked as refused");
        vm.assertEq(account("carol").balance, 0.5 ether, "paid");
    }

    function test_attack_DisabledBondByParameter() public {
        // A bond keeps the price of its day: a parameter that changes during review moves nobody's money.
        uint256 id = _inReview();
        parameters.set(ParameterKeys.BOND_RECORD, 0);
        judge(id, ALL);
        conclude(id);
        vm.assertEq(account("carol").balance, 0.5 ether, "what was paid comes back");
    }

    function _inReview() private returns (uint256 id) {
        id = submitted("carol", "olivia", 10);
        nextBlock();
        vm.assertTrue(datanets.openReview(id), "drawn");
    }
}

/// @dev Signs everything (ERC-1271) and calls back while it is paid.
contract Reenterer {
    DatanetRegistry private immutable _registry;
    uint256 private _id;
    bool public called;

    constructor(DatanetRegistry registry) {
        _registry = registry;
    }

    receive() external payable {
        called = true;
        try _registry.finalise(_id) {} catch {}
        try _registry.withdrawOwed() {} catch {}
    }

    function aim(uint256 id) external {
        _id = id;
    }

    function isValidSignature(bytes32, bytes calldata) external pure returns (bytes4) {
        return this.isValidSignature.selector;
    }
}
