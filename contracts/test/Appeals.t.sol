// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDatanetRegistry} from "../src/interfaces/IDatanetRegistry.sol";
import {IReviewAppeals} from "../src/interfaces/IReviewAppeals.sol";
import {ParameterKeys} from "../src/libraries/ParameterKeys.sol";
import {StakeRoles} from "../src/libraries/StakeRoles.sol";
import {VerdictTally} from "../src/libraries/VerdictTally.sol";
import {System} from "./utils/System.sol";

contract AppealsTest is System {
    bytes private constant ALL = hex"ff03";
    bytes private constant NONE = hex"0000";

    address private _challenger = account("chloe");
    address private _defender = account("derek");

    function setUp() public override {
        super.setUp();
        reviewers(14);
        nextBlock();
        vm.deal(_challenger, 100 ether);
        vm.deal(_defender, 100 ether);
    }

    function test_WhereThreeDisagreeTwoMoreJoinAndAllFiveDecide() public {
        uint256 id = _inReview();
        address[] memory jurors = datanets.jury(id);
        // Record 0: two to one for it. The two that join are against it.
        bytes[3] memory verdicts = [bytes(hex"ff03"), hex"ff03", hex"fe03"];
        for (uint256 i; i < 3; ++i) {
            commitAs(jurors[i], id, verdicts[i]);
        }
        for (uint256 i; i < 3; ++i) {
            revealAs(jurors[i], id, verdicts[i]);
        }
        datanets.endRound(id);
        vm.assertTrue(_state(id) == IDatanetRegistry.State.Disagreed, "no decision yet");
        nextBlock();
        vm.assertTrue(datanets.openReview(id), "two more");
        vm.assertEq(datanets.jury(id).length, 5, "three and two");
        vm.prank(jurors[0]);
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.NotJuror.selector, id, jurors[0]));
        datanets.commitVerdict(id, "again");
        judge(id, hex"fe03");
        datanets.endRound(id);
        vm.assertEq(datanets.acceptedBitmap(id), hex"fe03", "three to two against record 0");
        vm.assertEq(datanets.review(id).decidedRound, 1, "one round, two phases");
        vm.assertEq(datanets.reviewersOf(id).length, 5, "all five judged");
    }

    function test_AnAbsentExtraJurorPaysAndTheOthersDecide() public {
        uint256 id = _disagreed();
        address[] memory jurors = datanets.jury(id);
        commitAs(jurors[3], id, ALL);
        vm.warp(datanets.review(id).commitEnd);
        revealAs(jurors[3], id, ALL);
        datanets.endRound(id);
        vm.assertTrue(_state(id) == IDatanetRegistry.State.Decided, "decided");
        vm.assertEq(stakes.stakeOf(StakeRoles.REVIEWER, jurors[4]), 999 ether, "absent");
        vm.assertEq(datanets.acceptedBitmap(id), ALL, "three of four accept");
    }

    function test_WithoutExtraJurorsTheFirstThreeDecide() public {
        parameters.set(ParameterKeys.REVIEW_EXTRA, 0);
        uint256 id = _inReview();
        _split(id);
        datanets.endRound(id);
        vm.assertTrue(_state(id) == IDatanetRegistry.State.Decided, "decided");
    }

    function test_ADecisionIsFinalOnlyWhenItsChallengeWindowIsOver() public {
        uint256 id = _decided(ALL);
        uint256 end = datanets.review(id).challengeEnd;
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.ChallengeWindowOpen.selector, end));
        datanets.finalise(id);
        vm.assertEq(address(datanets).balance, 0.5 ether, "the bond waits");
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.NothingChallenged.selector, id));
        datanets.openReview(id);
        uint256[] memory ids = new uint256[](1);
        ids[0] = id;
        uint256 net = datanets.contribution(id).datanet;
        vm.prank(account("olivia"));
        vm.expectRevert(
            abi.encodeWithSelector(
                IDatanetRegistry.WrongState.selector,
                id,
                IDatanetRegistry.State.Decided,
                IDatanetRegistry.State.Finalised
            )
        );
        datanets.anchorVersion(net, "root", 10, ids, "manifest");
        vm.warp(end);
        vm.prank(_challenger);
        vm.expectRevert(abi.encodeWithSelector(IReviewAppeals.ChallengeWindowOver.selector, end));
        appeals.challenge{value: 0.1 ether}(id, hex"0100");
        datanets.finalise(id);
        vm.assertEq(account("carol").balance, 0.5 ether, "bond back");
    }

    function test_ALargerJuryTurnsAWrongAcceptanceDownAndBothBondsMove() public {
        uint256 id = _decided(ALL);
        uint256 number = _challenge(id, hex"0300");
        _defend(id, number, 0.2 ether);
        address[] memory first = datanets.jury(id);
        _openAppeal(id);
        address[] memory jurors = datanets.jury(id);
        vm.assertEq(jurors.length, 7, "larger");
        for (uint256 i; i < 7; ++i) {
            for (uint256 j; j < 3; ++j) {
                vm.assertTrue(jurors[i] != first[j], "nobody who decided before");
            }
        }
        // Record 0 is turned down, record 1 upheld; what the appeal thinks of record 2 does not matter.
        judge(id, hex"fa03");
        datanets.endRound(id);
        vm.assertEq(datanets.acceptedBitmap(id), hex"fe03", "only what was challenged");
        vm.assertEq(datanets.contribution(id).acceptedCount, 9, "one less");
        vm.assertEq(appeals.overturned(id), hex"0100", "turned around");
        vm.assertEq(account("carol").balance, 0.45 ether, "one bond lost");
        appeals.settleChallenge(id, number);
        // Each side lost 0.1: half to the other, half to the jurors; and half of record 0's bond to the challenger.
        vm.assertEq(_challenger.balance, 100 ether + 0.025 ether - 0.05 ether, "challenger");
        vm.assertEq(_defender.balance, 100 ether - 0.05 ether, "defender");
        uint256 each = uint256(0.1 ether) / 7 + uint256(0.025 ether) / 7;
        for (uint256 i; i < 7; ++i) {
            vm.assertEq(jurors[i].balance, each, "jurors of the appeal");
        }
        vm.assertEq(address(appeals).balance, 0, "nothing kept");
        vm.assertEq(address(datanets).balance, 0, "nothing kept");
        vm.expectRevert(abi.encodeWithSelector(IReviewAppeals.AlreadySettled.selector, id, number));
        appeals.settleChallenge(id, number);
    }

    function test_AnUndefendedChallengeThatFailsPaysTheJurorsAndTheTreasury() public {
        uint256 id = _decided(NONE);
        uint256 number = _challenge(id, hex"0100");
        _openAppeal(id);
        judge(id, NONE);
        uint256 before = treasury.balance;
        datanets.endRound(id);
        uint256 slashing = treasury.balance - before;
        appeals.settleChallenge(id, number);
        uint256 each = uint256(0.05 ether) / 7;
        vm.assertEq(_challenger.balance, 99.9 ether, "bond lost");
        vm.assertEq(treasury.balance, before + slashing + 0.1 ether - 7 * each, "half and the dust");
        vm.assertEq(address(appeals).balance, 0, "nothing kept");
    }

    function test_AContributorWinsItsRejectedRecordBack() public {
        uint256 id = _decided(NONE);
        vm.deal(account("carol"), 1 ether);
        vm.prank(account("carol"));
        uint256 number = appeals.challenge{value: 1 ether}(id, ALL);
        _openAppeal(id);
        judge(id, ALL);
        datanets.endRound(id);
        appeals.settleChallenge(id, number);
        vm.assertEq(account("carol").balance, 1.5 ether, "both bonds back");
        vm.assertEq(datanets.contribution(id).acceptedCount, 10, "all accepted");
    }

    function test_WithoutALargerJuryTheDecisionStandsAndBothBondsReturn() public {
        parameters.set(ParameterKeys.REVIEW_APPEAL, 12);
        uint256 id = _decided(ALL);
        uint256 number = _challenge(id, hex"0100");
        _defend(id, number, 0.1 ether);
        uint256 undefended = _challenge(id, hex"0200");
        vm.warp(datanets.review(id).defendEnd);
        vm.assertTrue(!datanets.openReview(id), "the draw begins");
        nextBlock();
        vm.assertTrue(!datanets.openReview(id), "eleven are not twelve");
        uint256 lapse = datanets.review(id).lapseEnd;
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.AppealPending.selector, lapse));
        datanets.finalise(id);
        vm.warp(lapse);
        datanets.finalise(id);
        appeals.settleChallenge(id, number);
        appeals.settleChallenge(id, undefended);
        vm.assertEq(_challenger.balance, 100 ether, "challenger");
        vm.assertEq(_defender.balance, 100 ether, "defender");
        vm.assertEq(datanets.acceptedBitmap(id), ALL, "stands");
    }

    function test_AnAppealInWhichTheJuryStaysAwayIsDrawnAgain() public {
        uint256 id = _decided(ALL);
        _challenge(id, hex"0100");
        _openAppeal(id);
        vm.warp(datanets.review(id).revealEnd);
        datanets.endRound(id);
        vm.assertTrue(_state(id) == IDatanetRegistry.State.Decided, "waits again");
        reviewers(14);
        nextBlock();
        vm.assertTrue(datanets.openReview(id), "another jury");
        judge(id, ALL);
        datanets.endRound(id);
        vm.assertTrue(_state(id) == IDatanetRegistry.State.Finalised, "final");
    }

    function test_WhatAChallengeNeeds() public {
        uint256 id = _decided(ALL);
        vm.startPrank(_challenger);
        vm.expectRevert(abi.encodeWithSelector(IReviewAppeals.EmptyChallenge.selector, id));
        appeals.challenge(id, NONE);
        vm.expectRevert(abi.encodeWithSelector(VerdictTally.MalformedVerdict.selector, 1, 10));
        appeals.challenge(id, hex"01");
        vm.expectRevert(
            abi.encodeWithSelector(IReviewAppeals.WrongChallengeBond.selector, 0.1 ether, 0.2 ether)
        );
        appeals.challenge{value: 0.1 ether}(id, hex"0300");
        appeals.challenge{value: 0.2 ether}(id, hex"0300");
        vm.expectRevert(abi.encodeWithSelector(IReviewAppeals.AlreadyChallenged.selector, id, 1));
        appeals.challenge{value: 0.2 ether}(id, hex"0600");
        vm.assertEq(appeals.challenge{value: 0.1 ether}(id, hex"0400"), 2, "another record");
        vm.assertEq(appeals.disputed(id), hex"0700", "together");
        vm.assertEq(appeals.challenges(id, 1).bond, 0.2 ether, "bond");
        vm.expectRevert(abi.encodeWithSelector(IReviewAppeals.ChallengerCannotDefend.selector, _challenger));
        appeals.defend{value: 0.2 ether}(id, 1);
        vm.stopPrank();
        vm.startPrank(_defender);
        vm.expectRevert(
            abi.encodeWithSelector(IReviewAppeals.WrongChallengeBond.selector, 0.1 ether, 0.2 ether)
        );
        appeals.defend{value: 0.1 ether}(id, 1);
        vm.expectRevert(abi.encodeWithSelector(IReviewAppeals.UnknownChallenge.selector, id, 3));
        appeals.defend(id, 3);
        appeals.defend{value: 0.2 ether}(id, 1);
        vm.expectRevert(abi.encodeWithSelector(IReviewAppeals.AlreadyDefended.selector, id, 1));
        appeals.defend{value: 0.2 ether}(id, 1);
        uint256 end = datanets.review(id).defendEnd;
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.DefenceWindowOpen.selector, end));
        datanets.openReview(id);
        vm.warp(end);
        vm.expectRevert(abi.encodeWithSelector(IReviewAppeals.DefenceWindowOver.selector, end));
        appeals.defend{value: 0.1 ether}(id, 2);
        vm.expectRevert(abi.encodeWithSelector(IReviewAppeals.NotInState.selector, id, 4, 6));
        appeals.settleChallenge(id, 1);
        vm.stopPrank();
    }

    function test_OnlyTheRegistryJudgesAndPaysIn() public {
        vm.expectRevert(abi.encodeWithSelector(IReviewAppeals.NotRegistry.selector, address(this)));
        appeals.judge(1, ALL, NONE);
        vm.deal(address(this), 1);
        (bool sent,) = address(appeals).call{value: 1}("");
        vm.assertTrue(!sent, "refused");
    }

    function testFuzz_BondsOfBothSidesArePaidOutToTheLastWei(
        uint256 perRecord,
        bool defended,
        uint256 first,
        uint256 judged,
        uint256 asked
    ) public {
        parameters.set(ParameterKeys.BOND_CHALLENGE, bound(perRecord, 0.001 ether, 1_000 ether));
        uint256 id = _decided(_bits(first));
        bytes memory records = _bits(asked | 1);
        uint256 bond = _count(records) * parameters.get(ParameterKeys.BOND_CHALLENGE);
        vm.deal(_challenger, bond);
        vm.prank(_challenger);
        uint256 number = appeals.challenge{value: bond}(id, records);
        vm.deal(_defender, bond);
        if (defended) _defend(id, number, bond);
        _openAppeal(id);
        judge(id, _bits(judged));
        datanets.endRound(id);
        appeals.settleChallenge(id, number);
        vm.assertEq(address(appeals).balance, 0, "nothing kept");
        vm.assertEq(address(datanets).balance, 0, "nothing kept");
        uint256 paid = _challenger.balance + _defender.balance + account("carol").balance + treasury.balance;
        for (uint160 i; i < 14; ++i) {
            paid += address(0xA000 + i).balance;
        }
        vm.assertEq(paid, 2 * bond + 0.5 ether, "bonds in, bonds out");
    }

    function _state(uint256 id) private view returns (IDatanetRegistry.State) {
        return datanets.contribution(id).state;
    }

    function _bits(uint256 seed) private pure returns (bytes memory) {
        return abi.encodePacked(uint8(seed), uint8(seed >> 8) & 3);
    }

    function _count(bytes memory bits) private pure returns (uint256 count) {
        for (uint256 i; i < 16; ++i) {
            count += (uint8(bits[i / 8]) >> (i % 8)) & 1;
        }
    }

    function _inReview() private returns (uint256 id) {
        id = submitted("carol", "olivia", 10);
        nextBlock();
        vm.assertTrue(datanets.openReview(id), "drawn");
    }

    function _split(uint256 id) private {
        address[] memory jurors = datanets.jury(id);
        for (uint256 i; i < 3; ++i) {
            commitAs(jurors[i], id, i == 2 ? NONE : ALL);
        }
        for (uint256 i; i < 3; ++i) {
            revealAs(jurors[i], id, i == 2 ? NONE : ALL);
        }
    }

    function _disagreed() private returns (uint256 id) {
        id = _inReview();
        _split(id);
        datanets.endRound(id);
        nextBlock();
        datanets.openReview(id);
    }

    function _decided(bytes memory verdict) private returns (uint256 id) {
        id = _inReview();
        judge(id, verdict);
        datanets.endRound(id);
    }

    function _challenge(uint256 id, bytes memory records) private returns (uint256) {
        vm.prank(_challenger);
        return appeals.challenge{value: _count(records) * 0.1 ether}(id, records);
    }

    function _defend(uint256 id, uint256 number, uint256 bond) private {
        vm.prank(_defender);
        appeals.defend{value: bond}(id, number);
    }

    function _openAppeal(uint256 id) private {
        vm.warp(datanets.review(id).defendEnd);
        vm.assertTrue(!datanets.openReview(id), "the draw begins when the sides are known");
        nextBlock();
        vm.assertTrue(datanets.openReview(id), "a larger jury");
    }
}
