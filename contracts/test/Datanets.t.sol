// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDatanetRegistry} from "../src/interfaces/IDatanetRegistry.sol";
import {DatanetRegistry} from "../src/DatanetRegistry.sol";
import {Disputes} from "../src/Disputes.sol";
import {ReviewAppeals} from "../src/ReviewAppeals.sol";
import {RewardsDistributor} from "../src/RewardsDistributor.sol";
import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {IReviewAppeals} from "../src/interfaces/IReviewAppeals.sol";
import {IRewardsDistributor} from "../src/interfaces/IRewardsDistributor.sol";
import {ParameterKeys} from "../src/libraries/ParameterKeys.sol";
import {StakeRoles} from "../src/libraries/StakeRoles.sol";
import {VerdictTally} from "../src/libraries/VerdictTally.sol";
import {System} from "./utils/System.sol";

contract DatanetRegistryTest is System {
    bytes private constant ALL = hex"ff03";
    bytes private constant NONE = hex"0000";

    address[] private _reviewers;

    function setUp() public override {
        super.setUp();
        _reviewers = threeReviewers();
        nextBlock();
    }

    function test_AcceptedRecordsReturnTheirBondAndRejectedOnesLoseIt() public {
        uint256 id = _inReview();
        address[] memory jurors = datanets.jury(id);
        // Records 0 to 6 accepted by all, 7 by two, 8 by one, 9 by none.
        bytes[3] memory verdicts = [bytes(hex"ff01"), hex"ff00", hex"7f00"];
        for (uint256 i; i < 3; ++i) {
            commitAs(jurors[i], id, verdicts[i]);
        }
        for (uint256 i; i < 3; ++i) {
            revealAs(jurors[i], id, verdicts[i]);
        }
        conclude(id);

        IDatanetRegistry.Contribution memory entry = datanets.contribution(id);
        vm.assertTrue(entry.state == IDatanetRegistry.State.Finalised, "final");
        vm.assertEq(entry.acceptedCount, 8, "accepted");
        vm.assertEq(datanets.acceptedBitmap(id), hex"ff00", "bitmap");
        vm.assertEq(account("carol").balance, 0.4 ether, "8 bonds back");
        uint256 each = uint256(0.05 ether) / 3;
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(jurors[i].balance, each, "half of 2 bonds among the jurors");
        }
        vm.assertEq(treasury.balance, 0.1 ether - 3 * each, "the rest to the treasury");
        vm.assertEq(address(datanets).balance, 0, "nothing kept");
        vm.assertEq(datanets.reviewersOf(id).length, 3, "who revealed");
    }

    function testFuzz_TheBondIsPaidOutToTheLastWei(uint256 perRecord, uint256 count, bytes32 seed) public {
        parameters.set(ParameterKeys.BOND_RECORD, bound(perRecord, 0, 100 ether));
        uint32 records = uint32(bound(count, 1, 300));
        uint256 bond = records * parameters.get(ParameterKeys.BOND_RECORD);
        vm.prank(account("olivia"));
        uint256 net = datanets.createDatanet("n", 0, 0, "", openTerms());
        IDatanetRegistry.ContributionInput memory input = contributionOf(net, "carol", records);
        vm.deal(address(this), bond);
        bytes memory signature = signed(key("carol"), datanets.contributionDigest(input));
        uint256 id = datanets.submit{value: bond}(input, signature);
        nextBlock();
        datanets.openReview(id);
        address[] memory jurors = datanets.jury(id);
        bytes[3] memory verdicts;
        for (uint256 i; i < 3; ++i) {
            verdicts[i] = _randomVerdict(records, keccak256(abi.encode(seed, i)));
            commitAs(jurors[i], id, verdicts[i]);
        }
        for (uint256 i; i < 3; ++i) {
            revealAs(jurors[i], id, verdicts[i]);
        }
        conclude(id);
        uint256 paid = account("carol").balance + treasury.balance;
        for (uint256 i; i < 3; ++i) {
            paid += jurors[i].balance;
        }
        vm.assertEq(paid, bond, "all paid out");
        vm.assertEq(address(datanets).balance, 0, "nothing kept");
        uint256 slashed =
            parameters.get(ParameterKeys.BOND_RECORD) * (records - datanets.contribution(id).acceptedCount);
        vm.assertEq(account("carol").balance, bond - slashed, "each rejected record costs its bond");
    }

    function test_TheContributorAndTheOwnerAreNeverJurors() public {
        stakeAs(account("carol"), StakeRoles.REVIEWER, 900_000 ether);
        stakeAs(account("olivia"), StakeRoles.REVIEWER, 900_000 ether);
        nextBlock();
        for (uint256 i; i < 20; ++i) {
            uint256 id = submitted("carol", "olivia", 1);
            nextBlock();
            vm.assertTrue(datanets.openReview(id), "drawn");
            address[] memory jurors = datanets.jury(id);
            for (uint256 j; j < 3; ++j) {
                vm.assertTrue(jurors[j] != account("carol") && jurors[j] != account("olivia"), "not a party");
            }
        }
    }

    function test_TheJuryIsFixedWhenTheSubmissionsBlockEnds() public {
        for (uint256 i; i < 30; ++i) {
            stakeAs(address(uint160(5_000 + i)), StakeRoles.REVIEWER, 1_000 ether);
        }
        nextBlock();
        uint256 id = submitted("carol", "olivia", 1);
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.DrawNotReady.selector, id, block.number));
        datanets.openReview(id);
        nextBlock();
        // Knowing the seed, somebody stakes a lot: too late.
        stakeAs(account("mallory"), StakeRoles.REVIEWER, 500_000 ether);
        nextBlock();
        datanets.openReview(id);
        address[] memory jurors = datanets.jury(id);
        for (uint256 i; i < 3; ++i) {
            vm.assertTrue(jurors[i] != account("mallory"), "not the late staker");
        }
    }

    function test_AJuryNeedsEnoughReviewersAtTheDrawBlock() public {
        parameters.set(ParameterKeys.REVIEW_JURY, 4);
        uint256 id = submitted("carol", "olivia", 1);
        nextBlock();
        vm.assertTrue(!datanets.openReview(id), "three are not four");
        vm.assertEq(datanets.review(id).drawBlock, block.number, "renewed");
        stakeAs(account("dave"), StakeRoles.REVIEWER, 1_000 ether);
        nextBlock();
        vm.assertTrue(datanets.openReview(id), "four now");
    }

    function test_ADrawBlockThatIsForgottenIsRenewed() public {
        uint256 id = submitted("carol", "olivia", 1);
        vm.roll(block.number + 300);
        vm.assertTrue(!datanets.openReview(id), "hash unknown");
        nextBlock();
        vm.assertTrue(datanets.openReview(id), "drawn");
    }

    function test_ACopiedCommitmentCannotBeRevealedByTheCopier() public {
        uint256 id = _inReview();
        address[] memory jurors = datanets.jury(id);
        bytes32 commitment = keccak256(abi.encode(id, jurors[0], ALL, bytes32("salt")));
        for (uint256 i; i < 3; ++i) {
            vm.prank(jurors[i]);
            datanets.commitVerdict(id, commitment);
        }
        revealAs(jurors[0], id, ALL);
        bytes32 own = keccak256(abi.encode(id, jurors[1], ALL, bytes32("salt")));
        vm.prank(jurors[1]);
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.CommitmentMismatch.selector, commitment, own));
        datanets.revealVerdict(id, ALL, "salt");
    }

    function test_NobodyRevealsWhileOthersCanStillCommit() public {
        uint256 id = _inReview();
        address[] memory jurors = datanets.jury(id);
        commitAs(jurors[0], id, ALL);
        uint256 commitEnd = datanets.review(id).commitEnd;
        vm.prank(jurors[0]);
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.CommitWindowOpen.selector, commitEnd));
        datanets.revealVerdict(id, ALL, "salt");
        vm.warp(commitEnd);
        vm.prank(jurors[1]);
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.CommitWindowOver.selector, commitEnd));
        datanets.commitVerdict(id, "late");
        revealAs(jurors[0], id, ALL);
    }

    function test_AJurorCommitsOnceAndOnlyAJurorDoes() public {
        uint256 id = _inReview();
        address[] memory jurors = datanets.jury(id);
        commitAs(jurors[0], id, ALL);
        vm.startPrank(jurors[0]);
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.AlreadyCommitted.selector, id, jurors[0]));
        datanets.commitVerdict(id, "again");
        vm.stopPrank();
        vm.startPrank(jurors[1]);
        vm.expectRevert(IDatanetRegistry.EmptyCommitment.selector);
        datanets.commitVerdict(id, 0);
        vm.stopPrank();
        vm.startPrank(account("mallory"));
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.NotJuror.selector, id, account("mallory")));
        datanets.commitVerdict(id, "x");
        vm.stopPrank();
    }

    function test_AVerdictIsRevealedOnceAndWellFormed() public {
        uint256 id = _inReview();
        address[] memory jurors = datanets.jury(id);
        for (uint256 i; i < 3; ++i) {
            commitAs(jurors[i], id, i == 2 ? bytes(hex"ff04") : ALL);
        }
        revealAs(jurors[0], id, ALL);
        vm.prank(jurors[0]);
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.AlreadyRevealed.selector, id, jurors[0]));
        datanets.revealVerdict(id, ALL, "salt");
        vm.prank(jurors[2]);
        vm.expectRevert(abi.encodeWithSelector(VerdictTally.MalformedVerdict.selector, 2, 10));
        datanets.revealVerdict(id, hex"ff04", "salt");
    }

    function test_AnAbsentJurorPaysAndTheOthersDecide() public {
        uint256 id = _inReview();
        address[] memory jurors = datanets.jury(id);
        commitAs(jurors[0], id, ALL);
        commitAs(jurors[1], id, NONE);
        vm.warp(datanets.review(id).commitEnd);
        revealAs(jurors[0], id, ALL);
        vm.expectRevert(
            abi.encodeWithSelector(IDatanetRegistry.ReviewNotOver.selector, datanets.review(id).revealEnd)
        );
        datanets.endRound(id);
        revealAs(jurors[1], id, NONE);
        conclude(id);
        vm.assertEq(stakes.stakeOf(StakeRoles.REVIEWER, jurors[2]), 999 ether, "absent");
        vm.assertEq(stakes.stakeOf(StakeRoles.REVIEWER, jurors[0]), 1_000 ether, "present");
        vm.assertEq(datanets.contribution(id).acceptedCount, 0, "one against one rejects");
        vm.assertEq(datanets.reviewersOf(id).length, 2, "two revealed");
    }

    function test_ARoundWithoutMostOfTheJuryIsVoidAndANewJuryIsDrawn() public {
        uint256 id = _inReview();
        address[] memory jurors = datanets.jury(id);
        commitAs(jurors[0], id, ALL);
        vm.warp(datanets.review(id).commitEnd);
        revealAs(jurors[0], id, ALL);
        conclude(id);
        vm.assertTrue(datanets.contribution(id).state == IDatanetRegistry.State.Submitted, "waits again");
        vm.assertEq(stakes.stakeOf(StakeRoles.REVIEWER, jurors[1]), 999 ether, "absent");
        vm.assertEq(address(datanets).balance, 0.5 ether, "the bond is still there");
        nextBlock();
        parameters.set(ParameterKeys.STAKE_REVIEWER, 900 ether);
        for (uint256 i; i < 3; ++i) {
            stakes.refresh(StakeRoles.REVIEWER, jurors[i]);
        }
        vm.assertTrue(!datanets.openReview(id), "the absent had no weight when the round ended");
        nextBlock();
        vm.assertTrue(datanets.openReview(id), "second jury");
        vm.assertEq(datanets.review(id).round, 2, "round 2");
        jurors = datanets.jury(id);
        for (uint256 i; i < 3; ++i) {
            commitAs(jurors[i], id, ALL);
        }
        for (uint256 i; i < 3; ++i) {
            revealAs(jurors[i], id, ALL);
        }
        conclude(id);
        vm.assertEq(datanets.contribution(id).acceptedCount, 10, "only the second round's verdicts count");
        vm.assertEq(account("carol").balance, 0.5 ether, "bond back");
    }

    function test_AWaitingContributionCanBeTakenBackByItsContributorOnly() public {
        uint256 id = submitted("carol", "olivia", 10);
        vm.expectRevert(
            abi.encodeWithSelector(IDatanetRegistry.NotContributor.selector, address(this), account("carol"))
        );
        datanets.withdrawContribution(id);
        vm.prank(account("carol"));
        datanets.withdrawContribution(id);
        vm.assertEq(account("carol").balance, 0.5 ether, "bond back");
        nextBlock();
        vm.expectRevert(
            abi.encodeWithSelector(
                IDatanetRegistry.WrongState.selector,
                id,
                IDatanetRegistry.State.Withdrawn,
                IDatanetRegistry.State.Submitted
            )
        );
        datanets.openReview(id);
    }

    function test_ASignatureCountsOnceHereAndNowhereElse() public {
        vm.prank(account("olivia"));
        uint256 net = datanets.createDatanet("n", 0, 0, "", openTerms());
        IDatanetRegistry.ContributionInput memory input = contributionOf(net, "carol", 10);
        bytes memory signature = signed(key("carol"), datanets.contributionDigest(input));
        vm.deal(address(this), 10 ether);
        datanets.submit{value: 0.5 ether}(input, signature);
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.WrongNonce.selector, 0, 1));
        datanets.submit{value: 0.5 ether}(input, signature);

        DatanetRegistry other = new DatanetRegistry(parameters, stakes, appeals, treasury);
        other.createDatanet("n", 0, 0, "", openTerms());
        bytes memory refusal =
            abi.encodeWithSelector(IDatanetRegistry.InvalidContributionSignature.selector, account("carol"));
        vm.expectRevert(refusal);
        other.submit{value: 0.5 ether}(input, signature);

        input = contributionOf(net, "carol", 10);
        signature = signed(key("carol"), datanets.contributionDigest(input));
        vm.chainId(1);
        vm.expectRevert(refusal);
        datanets.submit{value: 0.5 ether}(input, signature);
    }

    function testFuzz_AnyChangeOfTheSignedMessageIsRefused(uint256 field, uint256 change) public {
        vm.prank(account("olivia"));
        uint256 net = datanets.createDatanet("n", 0, 0, "", openTerms());
        datanets.createDatanet("m", 0, 0, "", openTerms());
        IDatanetRegistry.ContributionInput memory input = contributionOf(net, "carol", 10);
        bytes memory signature = signed(key("carol"), datanets.contributionDigest(input));
        field %= 5;
        if (field == 0) input.datanet = 2;
        if (field == 1) input.contributor = account("mallory");
        if (field == 2) input.recordsRoot ^= bytes32(change | 1);
        if (field == 3) input.licence = "MIT";
        if (field == 4) input.manifest ^= bytes32(change | 1);
        vm.deal(address(this), 1 ether);
        vm.expectRevert(
            abi.encodeWithSelector(IDatanetRegistry.InvalidContributionSignature.selector, input.contributor)
        );
        datanets.submit{value: 0.5 ether}(input, signature);
    }

    function test_TheBondIsExact() public {
        vm.prank(account("olivia"));
        uint256 net = datanets.createDatanet("n", 0, 0, "", openTerms());
        IDatanetRegistry.ContributionInput memory input = contributionOf(net, "carol", 10);
        bytes memory signature = signed(key("carol"), datanets.contributionDigest(input));
        vm.deal(address(this), 1 ether);
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.WrongBond.selector, 0.4 ether, 0.5 ether));
        datanets.submit{value: 0.4 ether}(input, signature);
        input.count = 4_097;
        vm.expectRevert(
            abi.encodeWithSelector(IDatanetRegistry.RecordCountOutOfBounds.selector, 4_097, 4_096)
        );
        datanets.submit{value: 0.4 ether}(input, signature);
    }

    function test_AContractContributorThatRefusesMoneyCannotHoldUpTheReview() public {
        Stubborn contributor = new Stubborn();
        vm.prank(account("olivia"));
        uint256 net = datanets.createDatanet("n", 0, 0, "", openTerms());
        IDatanetRegistry.ContributionInput memory input =
            IDatanetRegistry.ContributionInput(net, address(contributor), "root", 10, "MIT", "manifest", 0);
        vm.deal(address(this), 1 ether);
        uint256 id = datanets.submit{value: 0.5 ether}(input, "by its own rule");
        nextBlock();
        datanets.openReview(id);
        address[] memory jurors = datanets.jury(id);
        for (uint256 i; i < 3; ++i) {
            commitAs(jurors[i], id, ALL);
        }
        for (uint256 i; i < 3; ++i) {
            revealAs(jurors[i], id, ALL);
        }
        conclude(id);
        vm.assertEq(datanets.owed(address(contributor)), 0.5 ether, "kept for it");
        contributor.fetch(datanets);
        vm.assertEq(address(contributor).balance, 0.5 ether, "fetched");
        vm.assertEq(datanets.owed(address(contributor)), 0, "once");
    }

    function test_AVersionHoldsNoMoreThanWasAcceptedOfItsOwnDatanet() public {
        uint256 id = _finalised();
        uint256 net = datanets.contribution(id).datanet;
        uint256[] memory ids = new uint256[](1);
        ids[0] = id;
        vm.expectRevert(
            abi.encodeWithSelector(
                IDatanetRegistry.NotDatanetOwner.selector, address(this), account("olivia")
            )
        );
        datanets.anchorVersion(net, "root", 10, ids, "manifest");
        vm.startPrank(account("olivia"));
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.RecordsExceedAccepted.selector, 11, 10));
        datanets.anchorVersion(net, "root", 11, ids, "manifest");
        uint256[] memory twice = new uint256[](2);
        (twice[0], twice[1]) = (id, id);
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.ContributionsNotAscending.selector, id, id));
        datanets.anchorVersion(net, "root", 20, twice, "manifest");
        uint256 foreign = datanets.createDatanet("foreign", 0, 0, "", openTerms());
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.ContributionOfOtherDatanet.selector, id, net));
        datanets.anchorVersion(foreign, "root", 10, ids, "manifest");
        vm.assertEq(datanets.anchorVersion(net, "root", 10, ids, "manifest"), 1, "first version");
        vm.stopPrank();
        vm.assertEq(datanets.versions(net, 1).root, "root", "anchored");
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.UnknownVersion.selector, net, 2));
        datanets.versions(net, 2);
    }

    function test_WhatIsUnknownOrNotUnderReviewIsNamed() public {
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.UnknownDatanet.selector, 9));
        datanets.datanet(9);
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.UnknownContribution.selector, 9));
        datanets.contribution(9);
        uint256 id = submitted("alice", "owner", 1);
        vm.expectRevert(
            abi.encodeWithSelector(
                IDatanetRegistry.WrongState.selector,
                id,
                IDatanetRegistry.State.Submitted,
                IDatanetRegistry.State.InReview
            )
        );
        datanets.commitVerdict(id, "sealed");
        IDatanetRegistry.ContributionInput memory input = contributionOf(1, "alice", 1);
        (input.contributor, input.nonce) = (address(0), 0);
        vm.deal(address(this), 1 ether);
        vm.expectRevert(
            abi.encodeWithSelector(IDatanetRegistry.InvalidContributionSignature.selector, address(0))
        );
        datanets.submit{value: 0.05 ether}(input, "");
        vm.prank(account("owner"));
        vm.expectRevert(IDatanetRegistry.ZeroAddress.selector);
        datanets.transferDatanet(1, address(0));
    }

    function test_NoContractPaysANamelessTreasury() public {
        vm.expectRevert(IDatanetRegistry.ZeroAddress.selector);
        new DatanetRegistry(parameters, stakes, appeals, address(0));
        vm.expectRevert(IReviewAppeals.ZeroAddress.selector);
        new ReviewAppeals(parameters, stakes, datanets, address(0));
        vm.expectRevert(IDisputes.ZeroAddress.selector);
        new Disputes(parameters, stakes, ledger, distributor, address(0));
        vm.expectRevert(IRewardsDistributor.ZeroAddress.selector);
        new RewardsDistributor(address(access), parameters, stakes, address(0));
    }

    function test_OnlyTheOwnerHandsADatanetOn() public {
        vm.prank(account("olivia"));
        uint256 net = datanets.createDatanet("n", 0, 0, "", openTerms());
        vm.expectRevert(
            abi.encodeWithSelector(
                IDatanetRegistry.NotDatanetOwner.selector, address(this), account("olivia")
            )
        );
        datanets.transferDatanet(net, address(this));
        vm.prank(account("olivia"));
        datanets.transferDatanet(net, account("nina"));
        vm.assertEq(datanets.datanet(net).owner, account("nina"), "new owner");
    }

    function _inReview() private returns (uint256 id) {
        id = submitted("carol", "olivia", 10);
        nextBlock();
        vm.assertTrue(datanets.openReview(id), "drawn");
    }

    function _finalised() private returns (uint256 id) {
        id = _inReview();
        address[] memory jurors = datanets.jury(id);
        for (uint256 i; i < 3; ++i) {
            commitAs(jurors[i], id, ALL);
        }
        for (uint256 i; i < 3; ++i) {
            revealAs(jurors[i], id, ALL);
        }
        conclude(id);
    }

    function _randomVerdict(uint256 records, bytes32 seed) private pure returns (bytes memory verdict) {
        verdict = new bytes((records + 7) / 8);
        for (uint256 i; i < verdict.length; ++i) {
            verdict[i] = keccak256(abi.encode(seed, i))[0];
        }
        if (records % 8 != 0) verdict[verdict.length - 1] &= bytes1(uint8((1 << (records % 8)) - 1));
    }
}

/// @dev Signs everything (ERC-1271) and refuses money until it fetches it.
contract Stubborn {
    bool private _fetching;

    receive() external payable {
        require(_fetching, "not now");
    }

    function fetch(DatanetRegistry registry) external {
        _fetching = true;
        registry.withdrawOwed();
    }

    function isValidSignature(bytes32, bytes calldata) external pure returns (bytes4) {
        return this.isValidSignature.selector;
    }
}
