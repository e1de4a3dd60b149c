// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {Disputes} from "../src/Disputes.sol";
import {RewardsDistributor} from "../src/RewardsDistributor.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {IInferenceLedger} from "../src/interfaces/IInferenceLedger.sol";
import {IRewardsDistributor} from "../src/interfaces/IRewardsDistributor.sol";
import {ParameterKeys} from "../src/libraries/ParameterKeys.sol";
import {StakeRoles} from "../src/libraries/StakeRoles.sol";
import {System} from "./utils/System.sol";
import {Test} from "./utils/Test.sol";

/// @dev One host with a posted batch of one receipt, seven validators, a challenger with OPEN.
abstract contract Court is System {
    uint256 internal constant BOND = 100 ether;

    address internal host = account("host");
    address internal challenger = account("challenger");
    address[7] internal validators;
    IInferenceLedger.Receipt internal receipt;

    function setUp() public virtual override {
        super.setUp();
        stakeAs(host, StakeRoles.HOST, 1_000 ether);
        for (uint256 i; i < 7; ++i) {
            validators[i] = account(string.concat("validator", string(abi.encodePacked(uint8(48 + i)))));
            stakeAs(validators[i], StakeRoles.VALIDATOR, 6_000 ether);
        }
        vm.deal(challenger, 10_000 ether);
        vm.deal(host, 10_000 ether);
        nextBlock();
        receipt = IInferenceLedger.Receipt({
            sequence: 0,
            model: 1,
            consumer: account("consumer"),
            host: host,
            promptHash: "prompt",
            outputHash: "output",
            promptTokens: 10,
            outputTokens: 20,
            fee: 1 ether,
            sharesRoot: "shares",
            seed: 7,
            time: uint64(block.timestamp)
        });
        bytes24 leaf = bytes24(ledger.receiptDigest(receipt));
        vm.prank(host);
        ledger.post(0, bytes.concat(leaf));
        nextBlock();
    }

    function challenge() internal returns (uint256) {
        vm.prank(challenger);
        return disputes.challengeReceipt{value: BOND}(1, receipt, new bytes32[](0), "right", "evidence");
    }

    function challengeAndAnswer() internal returns (uint256 id) {
        id = challenge();
        vm.prank(host);
        disputes.answer{value: BOND}(id);
        nextBlock();
    }

    /// @dev The first `upholds` jurors uphold, the next `rejects` reject, the others stay away.
    function vote(uint256 id, uint256 upholds, uint256 rejects) internal {
        address[] memory jurors = disputes.jury(id);
        uint256 round = disputes.dispute(id).round;
        for (uint256 i; i < upholds + rejects; ++i) {
            bytes32 sealed_ = keccak256(abi.encode(id, round, jurors[i], i < upholds, bytes32("salt")));
            vm.prank(jurors[i]);
            disputes.commitVerdict(id, sealed_);
        }
        if (upholds + rejects < jurors.length) vm.warp(disputes.dispute(id).commitEnd);
        for (uint256 i; i < upholds + rejects; ++i) {
            vm.prank(jurors[i]);
            disputes.revealVerdict(id, i < upholds, "salt");
        }
    }

    /// @dev Answers as the host and has every juror uphold.
    function upholdByJury(uint256 id) internal {
        vm.prank(host);
        disputes.answer{value: BOND}(id);
        nextBlock();
        disputes.drawJury(id);
        vote(id, 5, 0);
        disputes.resolve(id);
    }

    function attestAs(address validator, bool valid) internal {
        vm.prank(validator);
        ledger.attest(1, valid, "report");
    }

    /// @dev Posts `count` leaves behind which nothing stands.
    function postMany(uint256 count) internal {
        uint64 next = ledger.nextSequence(host);
        vm.prank(host);
        ledger.post(next, new bytes(24 * count));
        nextBlock();
    }

    function stateOf(uint256 id) internal view returns (uint256) {
        return uint256(disputes.dispute(id).state);
    }
}

contract DisputesTest is Court {
    function test_AnUpheldChallengeDisablesTheBatchSlashesTheHostAndPaysWhoWasRight() public {
        uint256 id = challengeAndAnswer();
        disputes.drawJury(id);
        address[] memory jurors = disputes.jury(id);
        vm.assertEq(jurors.length, 5, "five jurors");
        vote(id, 3, 2);
        disputes.resolve(id);
        vm.assertEq(stateOf(id), uint256(IDisputes.State.Upheld), "upheld");
        vm.assertTrue(disputes.isDisabled(1), "the batch");
        // The counter-bond and a capped half of the stake are lost: half to the challenger, a quarter to the jurors.
        vm.assertEq(stakes.stakeOf(StakeRoles.HOST, host), 500 ether, "slashed");
        vm.assertEq(challenger.balance, 10_000 ether + 300 ether, "challenger");
        for (uint256 i; i < 5; ++i) {
            vm.assertEq(jurors[i].balance, i < 3 ? 50 ether : 0, "majority");
        }
        vm.assertEq(treasury.balance, 150 ether, "treasury");
        vm.assertEq(address(disputes).balance, 0, "nothing stays");
        vm.prank(challenger);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.BatchAlreadyDisabled.selector, 1));
        disputes.challengeReceipt{value: BOND}(1, receipt, new bytes32[](0), "right", "evidence");
    }

    function test_ARejectedChallengeCostsItsBondAndTheHostNothing() public {
        uint256 id = challengeAndAnswer();
        disputes.drawJury(id);
        vote(id, 2, 3);
        disputes.resolve(id);
        vm.assertEq(stateOf(id), uint256(IDisputes.State.Rejected), "rejected");
        vm.assertTrue(!disputes.isDisabled(1), "the batch stands");
        vm.assertEq(challenger.balance, 10_000 ether - BOND, "lost");
        vm.assertEq(host.balance, 10_000 ether + BOND / 2, "won");
        vm.assertEq(stakes.stakeOf(StakeRoles.HOST, host), 1_000 ether, "untouched");
        vm.assertEq(address(disputes).balance, 0, "nothing stays");
    }

    function test_AChallengeThatNobodyAnswersIsUpheld() public {
        uint256 id = challenge();
        uint256 end = block.timestamp + 1 hours;
        vm.expectRevert(abi.encodeWithSelector(IDisputes.AnswerTimeRunning.selector, end));
        disputes.resolve(id);
        vm.warp(end);
        vm.prank(host);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.AnswerTimeOver.selector, end));
        disputes.answer{value: BOND}(id);
        disputes.resolve(id);
        vm.assertEq(stateOf(id), uint256(IDisputes.State.Upheld), "upheld");
        vm.assertEq(challenger.balance, 10_000 ether + 250 ether, "half of what was slashed");
    }

    function test_OnlyAPostedReceiptCanBeChallengedAndOnlyWithOtherShares() public {
        IInferenceLedger.Receipt memory other = receipt;
        other.fee += 1;
        vm.startPrank(challenger);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NotPosted.selector, 1, 0));
        disputes.challengeReceipt{value: BOND}(1, other, new bytes32[](0), "right", "evidence");
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NothingToDispute.selector, bytes32("shares")));
        disputes.challengeReceipt{value: BOND}(1, receipt, new bytes32[](0), "shares", "evidence");
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WrongBond.selector, 1, BOND));
        disputes.challengeReceipt{value: 1}(1, receipt, new bytes32[](0), "right", "evidence");
        uint256 id = disputes.challengeReceipt{value: BOND}(1, receipt, new bytes32[](0), "right", "evidence");
        vm.expectRevert(abi.encodeWithSelector(IDisputes.AlreadyDisputed.selector, id));
        disputes.challengeReceipt{value: BOND}(1, receipt, new bytes32[](0), "right", "evidence");
        vm.expectRevert(abi.encodeWithSelector(IDisputes.ChallengerCannotAnswer.selector, challenger));
        disputes.answer{value: BOND}(id);
        vm.stopPrank();
        vm.prank(host);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WrongBond.selector, 1, BOND));
        disputes.answer{value: 1}(id);
        uint256 end = ledger.batch(1).time + 3 days;
        vm.warp(end + 1);
        vm.prank(challenger);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WindowOver.selector, end));
        disputes.challengeReceipt{value: BOND}(1, receipt, new bytes32[](0), "right", "evidence");
    }

    function test_RootsThatCountAChallengedReceiptWaitAndAreDisabledIfItWasWrong() public {
        collectFees(10 ether);
        uint256 before = distributor.proposeRoot("older", 1 ether, 0, "data");
        uint256 with = distributor.proposeRoot("with", 1 ether, 1, "data");
        uint256 id = challengeAndAnswer();
        uint256 afterwards = distributor.proposeRoot("without", 1 ether, 1, "data");
        vm.warp(block.timestamp + 1 hours);
        vm.assertTrue(distributor.isReady(before), "does not count the batch");
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.RootIsHeld.selector, with));
        distributor.activate(with);
        vm.assertTrue(distributor.isReady(afterwards), "proposed knowing of the challenge");
        disputes.drawJury(id);
        vote(id, 5, 0);
        disputes.resolve(id);
        vm.assertTrue(distributor.rootOf(with).disabled, "disabled");
        vm.assertTrue(!distributor.rootOf(before).disabled, "left alone");
        vm.assertTrue(!distributor.rootOf(afterwards).disabled, "left alone");
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.RootIsDisabled.selector, with));
        distributor.activate(with);
        distributor.activate(afterwards);
    }

    function test_ARejectedChallengeLetsTheRootsGo() public {
        collectFees(10 ether);
        uint256 root = distributor.proposeRoot("with", 1 ether, 1, "data");
        uint256 id = challengeAndAnswer();
        disputes.drawJury(id);
        vote(id, 0, 5);
        disputes.resolve(id);
        vm.warp(block.timestamp + 1 hours);
        distributor.activate(root);
    }

    function test_ManyRootsUnderOneHoldAreDisabledStepByStep() public {
        collectFees(10 ether);
        for (uint256 i; i < 70; ++i) {
            distributor.proposeRoot("with", 1 ether, 1, "data");
        }
        uint256 id = challenge();
        vm.warp(block.timestamp + 1 hours);
        disputes.resolve(id);
        vm.assertTrue(distributor.rootOf(64).disabled, "the first 64");
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.RootIsHeld.selector, 70));
        distributor.activate(70);
        disputes.strike(id);
        vm.assertTrue(distributor.rootOf(70).disabled, "all");
    }

    function test_AWrongRootIsDisabledAndItsAttestersLoseStake() public {
        collectFees(10 ether);
        uint256 root = distributor.proposeRoot("wrong", 1 ether, 1, "data");
        nextBlock();
        vm.prank(validators[0]);
        distributor.attestRoot(root);
        vm.startPrank(challenger);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NothingToDispute.selector, bytes32("wrong")));
        disputes.challengeRoot{value: BOND}(root, "wrong", "evidence");
        uint256 id = disputes.challengeRoot{value: BOND}(root, "right", "evidence");
        vm.stopPrank();
        vm.assertTrue(distributor.isHeld(root), "held");
        upholdByJury(id);
        vm.assertTrue(distributor.rootOf(root).disabled, "disabled");
        uint256 before = challenger.balance;
        disputes.slashAttester(id, validators[0]);
        vm.assertEq(stakes.stakeOf(StakeRoles.VALIDATOR, validators[0]), 5_500 ether, "slashed");
        vm.assertEq(challenger.balance, before + 250 ether, "half of it");
        vm.expectRevert(abi.encodeWithSelector(IDisputes.AlreadySlashed.selector, id, validators[0]));
        disputes.slashAttester(id, validators[0]);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.DidNotAttest.selector, root, validators[1]));
        disputes.slashAttester(id, validators[1]);
    }

    function test_ValidatorsThatVouchedForAWrongReceiptLoseStakeAndThoseThatDidNotKeepIt() public {
        attestAs(validators[0], true);
        attestAs(validators[1], false);
        uint256 id = challenge();
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WrongState.selector, id, IDisputes.State.Open));
        disputes.slashAttester(id, validators[0]);
        upholdByJury(id);
        uint256 before = challenger.balance;
        disputes.slashAttester(id, validators[0]);
        vm.assertEq(stakes.stakeOf(StakeRoles.VALIDATOR, validators[0]), 5_500 ether, "slashed");
        vm.assertEq(challenger.balance, before + 250 ether, "half of it");
        vm.expectRevert(abi.encodeWithSelector(IDisputes.AlreadySlashed.selector, id, validators[0]));
        disputes.slashAttester(id, validators[0]);
        for (uint256 i = 1; i < 3; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IDisputes.DidNotAttest.selector, 1, validators[i]));
            disputes.slashAttester(id, validators[i]);
        }
    }

    function test_AValidatorAnswersOnlyForTheReceiptsInItsSample() public {
        postMany(64);
        uint256[] memory sample = ledger.sampleOf(2, validators[0]);
        vm.assertEq(sample.length, 0, "not drawn yet");
        vm.prank(validators[0]);
        ledger.attest(2, true, "report");
        sample = ledger.sampleOf(2, validators[0]);
        vm.assertEq(sample.length, 4, "four");
        // Later changes of the parameter do not move it.
        parameters.set(ParameterKeys.VALIDATOR_SAMPLE, 32);
        vm.assertEq(ledger.sampleOf(2, validators[0]).length, 4, "still four");
        for (uint256 sequence = 1; sequence < 65; ++sequence) {
            bool held;
            for (uint256 i; i < 4; ++i) {
                held = held || sample[i] == sequence;
            }
            vm.assertEq(ledger.vouchersOf(2, sequence).length, held ? 1 : 0, "only the sample");
        }
    }

    function test_attack_AnAccusedWhoStaysSilentCannotHaveValidatorsSlashed() public {
        attestAs(validators[0], true);
        uint256 id = challenge();
        vm.warp(block.timestamp + 1 hours);
        disputes.resolve(id);
        vm.assertEq(stateOf(id), uint256(IDisputes.State.Upheld), "nobody answered");
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NoVerdict.selector, id));
        disputes.slashAttester(id, validators[0]);
    }

    function test_WhoVouchedForAReceiptJudgesItOnlyWhereThereAreTooFewOthers() public {
        attestAs(validators[0], true);
        attestAs(validators[1], true);
        uint256 id = challengeAndAnswer();
        disputes.drawJury(id);
        address[] memory jurors = disputes.jury(id);
        vm.assertEq(jurors.length, 5, "a whole jury");
        for (uint256 i; i < 5; ++i) {
            vm.assertTrue(jurors[i] != validators[0] && jurors[i] != validators[1], "nobody that vouched");
        }
        // With a jury of six, two of seven cannot be left out.
        vote(id, 1, 1);
        vm.warp(disputes.dispute(id).revealEnd);
        disputes.resolve(id);
        nextBlock();
        parameters.set(ParameterKeys.DISPUTE_JURY, 6);
        disputes.drawJury(id);
        vm.assertEq(disputes.jury(id).length, 6, "a whole jury all the same");
    }

    function test_ARootThatIsActiveCannotBeChallenged() public {
        collectFees(10 ether);
        uint256 root = distributor.proposeRoot("root", 1 ether, 1, "data");
        vm.warp(block.timestamp + 1 hours);
        distributor.activate(root);
        vm.prank(challenger);
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.RootSuperseded.selector, root, root));
        disputes.challengeRoot{value: BOND}(root, "right", "evidence");
    }

    function test_WhoHasMoneyInTheDisputeIsNotDrawn() public {
        stakeAs(challenger, StakeRoles.VALIDATOR, 100_000 ether);
        stakeAs(host, StakeRoles.VALIDATOR, 100_000 ether);
        nextBlock();
        uint256 id = challengeAndAnswer();
        disputes.drawJury(id);
        address[] memory jurors = disputes.jury(id);
        for (uint256 i; i < jurors.length; ++i) {
            vm.assertTrue(jurors[i] != challenger && jurors[i] != host, "nobody in his own cause");
        }
    }

    function test_TheJuryIsDrawnFromTheBlockOfTheAnswerAndNotBefore() public {
        uint256 id = challenge();
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WrongState.selector, id, IDisputes.State.Open));
        disputes.drawJury(id);
        vm.prank(host);
        disputes.answer{value: BOND}(id);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.DrawNotReady.selector, id, block.number));
        disputes.drawJury(id);
        nextBlock();
        // Stake that comes once the seed is known has no weight in this draw.
        address late = account("late");
        stakeAs(late, StakeRoles.VALIDATOR, 900_000 ether);
        disputes.drawJury(id);
        address[] memory jurors = disputes.jury(id);
        for (uint256 i; i < jurors.length; ++i) {
            vm.assertTrue(jurors[i] != late, "too late");
        }
    }

    function test_AVerdictIsSealedAndACopiedCommitmentIsWorthless() public {
        uint256 id = challengeAndAnswer();
        disputes.drawJury(id);
        address[] memory jurors = disputes.jury(id);
        bytes32 sealed_ = keccak256(abi.encode(id, 1, jurors[0], true, bytes32("salt")));
        vm.prank(jurors[0]);
        disputes.commitVerdict(id, sealed_);
        vm.startPrank(jurors[1]);
        disputes.commitVerdict(id, sealed_);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.AlreadyCommitted.selector, id, jurors[1]));
        disputes.commitVerdict(id, "other");
        uint256 end = disputes.dispute(id).commitEnd;
        vm.expectRevert(abi.encodeWithSelector(IDisputes.CommitWindowOpen.selector, end));
        disputes.revealVerdict(id, true, "salt");
        vm.warp(end);
        bytes32 copied = keccak256(abi.encode(id, 1, jurors[1], true, bytes32("salt")));
        vm.expectRevert(abi.encodeWithSelector(IDisputes.CommitmentMismatch.selector, sealed_, copied));
        disputes.revealVerdict(id, true, "salt");
        vm.expectRevert(abi.encodeWithSelector(IDisputes.CommitWindowOver.selector, end));
        disputes.commitVerdict(id, "late");
        vm.warp(end - 1);
        vm.expectRevert(IDisputes.EmptyCommitment.selector);
        disputes.commitVerdict(id, 0);
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NotJuror.selector, id, address(this)));
        disputes.commitVerdict(id, "stranger");
    }

    function test_AVerdictIsRevealedOnceAndInTime() public {
        uint256 id = challengeAndAnswer();
        disputes.drawJury(id);
        address juror = disputes.jury(id)[0];
        vm.prank(juror);
        disputes.commitVerdict(id, keccak256(abi.encode(id, 1, juror, true, bytes32("salt"))));
        vm.warp(disputes.dispute(id).commitEnd);
        vm.startPrank(juror);
        disputes.revealVerdict(id, true, "salt");
        vm.expectRevert(abi.encodeWithSelector(IDisputes.AlreadyRevealed.selector, id, juror));
        disputes.revealVerdict(id, true, "salt");
        uint256 end = disputes.dispute(id).revealEnd;
        vm.warp(end);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.RevealWindowOver.selector, end));
        disputes.revealVerdict(id, true, "salt");
        vm.stopPrank();
    }

    function test_AJuryThatCannotBeDrawnIsDrawnFromALaterBlock() public {
        uint256 id = challengeAndAnswer();
        vm.roll(block.number + 10_000);
        vm.assertTrue(!disputes.drawJury(id), "the hash is forgotten");
        nextBlock();
        vm.assertTrue(disputes.drawJury(id), "from a later one");
    }

    function test_ATieRejects() public {
        parameters.set(ParameterKeys.DISPUTE_JURY, 4);
        uint256 id = challengeAndAnswer();
        disputes.drawJury(id);
        vote(id, 2, 2);
        disputes.resolve(id);
        vm.assertEq(stateOf(id), uint256(IDisputes.State.Rejected), "the challenger has to convince");
    }

    function test_JuriesThatStayAwayPayAndAfterThreeTheBondsGoBack() public {
        uint256 id = challengeAndAnswer();
        for (uint256 round = 1; round <= 3; ++round) {
            disputes.drawJury(id);
            vm.expectRevert(
                abi.encodeWithSelector(
                    IDisputes.VotingNotOver.selector, disputes.dispute(id).commitEnd
                )
            );
            disputes.resolve(id);
            vote(id, 1, 1);
            vm.warp(disputes.dispute(id).revealEnd);
            uint256 before = treasury.balance;
            disputes.resolve(id);
            vm.assertEq(treasury.balance - before, 15 ether, "three absent jurors");
            nextBlock();
        }
        vm.assertEq(stateOf(id), uint256(IDisputes.State.Void), "no verdict");
        vm.assertEq(challenger.balance, 10_000 ether, "back");
        vm.assertEq(host.balance, 10_000 ether, "back");
    }

    function test_SlashingsOfOneRoundTogetherStayUnderTheCap() public {
        access.grantRole(SLASHER, address(this), 0);
        stakes.slash(StakeRoles.HOST, host, 400 ether, treasury, "first");
        stakes.slash(StakeRoles.HOST, host, 400 ether, treasury, "second");
        vm.assertEq(stakes.stakeOf(StakeRoles.HOST, host), 500 ether, "half of the stake at the first");
        stakes.slash(StakeRoles.HOST, host, 400 ether, treasury, "third");
        vm.assertEq(stakes.stakeOf(StakeRoles.HOST, host), 500 ether, "no more in this round");
        vm.warp(block.timestamp + 1 days);
        stakes.slash(StakeRoles.HOST, host, 400 ether, treasury, "next round");
        vm.assertEq(stakes.stakeOf(StakeRoles.HOST, host), 250 ether, "half of what was left");
    }

    function test_attack_StakeThatIsLeavingIsStillSlashedForAWrongReceipt() public {
        vm.prank(host);
        stakes.requestUnstake(StakeRoles.HOST, 1_000 ether);
        uint256 id = challenge();
        vm.warp(block.timestamp + 1 hours);
        disputes.resolve(id);
        (uint256 leaving,) = stakes.unbondingOf(StakeRoles.HOST, host);
        vm.assertEq(leaving, 500 ether, "slashed while it left");
    }

    function test_AReceiverThatRefusesHoldsUpNoVerdict() public {
        Refuser refuser = new Refuser();
        vm.deal(address(refuser), BOND);
        uint256 id = refuser.challenge(disputes, receipt);
        vm.warp(block.timestamp + 1 hours);
        disputes.resolve(id);
        vm.assertEq(disputes.owed(address(refuser)), BOND + 250 ether, "waits for it");
        vm.assertEq(address(disputes).balance, BOND + 250 ether, "and is there");
    }

    function test_OnlyTheCourtHoldsRootsAndOnlyStakeIsPaidIntoIt() public {
        bytes memory refusal =
            abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, challenger);
        vm.startPrank(challenger);
        vm.expectRevert(refusal);
        distributor.hold(1);
        vm.expectRevert(refusal);
        distributor.holdRoot(1);
        vm.expectRevert(refusal);
        distributor.release(1);
        vm.expectRevert(refusal);
        distributor.strike(1);
        (bool sent,) = address(disputes).call{value: 1}("");
        vm.assertTrue(!sent, "no stray money");
        vm.expectRevert(abi.encodeWithSelector(IDisputes.UnknownDispute.selector, 9));
        disputes.resolve(9);
        vm.stopPrank();
    }
}

contract Refuser {
    function challenge(Disputes disputes, IInferenceLedger.Receipt calldata receipt)
        external
        returns (uint256)
    {
        return disputes.challengeReceipt{value: address(this).balance}(
            1, receipt, new bytes32[](0), "right", "evidence"
        );
    }
}

/// @dev Random challengers, defenders, jurors and time over one host's batches.
contract CourtActions is Test {
    Disputes private immutable _disputes;
    RewardsDistributor private immutable _distributor;
    IInferenceLedger private immutable _ledger;
    address private immutable _host;

    uint256 public put;
    /// @dev Slashings of validators that did not vouch, or without a verdict.
    uint256 public wronged;
    mapping(uint256 batch => mapping(address validator => bool)) public careless;
    address[2] public people = [address(0xD1), address(0xD2)];

    constructor(Disputes disputes, RewardsDistributor distributor, IInferenceLedger ledger, address host) {
        (_disputes, _distributor, _ledger, _host) = (disputes, distributor, ledger, host);
    }

    function post() external {
        uint64 next = _ledger.nextSequence(_host);
        bytes24 leaf = bytes24(_ledger.receiptDigest(_receipt(next)));
        vm.prank(_host);
        _ledger.post(next, bytes.concat(leaf));
        nextBlock();
    }

    function challenge(uint256 who, uint256 batch) external {
        batch = bound(batch, 1, _ledger.batchCount());
        IInferenceLedger.Receipt memory receipt = _receipt(_ledger.batch(batch).firstSequence);
        vm.deal(people[who % 2], people[who % 2].balance + 100 ether);
        vm.prank(people[who % 2]);
        try _disputes.challengeReceipt{value: 100 ether}(
            batch, receipt, new bytes32[](0), "right", "evidence"
        ) {
            put += 100 ether;
        } catch {}
    }

    function answer(uint256 id) external {
        id = bound(id, 1, _disputes.disputeCount());
        vm.deal(_host, _host.balance + 100 ether);
        vm.prank(_host);
        try _disputes.answer{value: 100 ether}(id) {
            put += 100 ether;
            nextBlock();
        } catch {}
    }

    function draw(uint256 id) external {
        _disputes.drawJury(bound(id, 1, _disputes.disputeCount()));
    }

    function vote(uint256 id, uint256 seed) external {
        id = bound(id, 1, _disputes.disputeCount());
        address[] memory jurors = _disputes.jury(id);
        uint256 round = _disputes.dispute(id).round;
        for (uint256 i; i < jurors.length; ++i) {
            bool upheld = (seed >> i) % 2 == 0;
            vm.prank(jurors[i]);
            _disputes.commitVerdict(id, keccak256(abi.encode(id, round, jurors[i], upheld, bytes32(seed))));
        }
        for (uint256 i; i < jurors.length; ++i) {
            if ((seed >> (64 + i)) % 4 == 0) continue;
            vm.prank(jurors[i]);
            _disputes.revealVerdict(id, (seed >> i) % 2 == 0, bytes32(seed));
        }
    }

    function resolve(uint256 id) external {
        _disputes.resolve(bound(id, 1, _disputes.disputeCount()));
    }

    function propose(uint256 lastBatch) external {
        _distributor.proposeRoot("root", 0, bound(lastBatch, 0, _ledger.batchCount()), "data");
    }

    function activate(uint256 id) external {
        _distributor.activate(bound(id, 1, _distributor.rootCount()));
    }

    function attest(uint256 batch, uint256 who, bool valid) external {
        batch = bound(batch, 1, _ledger.batchCount());
        address[] memory drawn = _ledger.validatorsOf(batch);
        address validator = drawn[who % drawn.length];
        vm.prank(validator);
        _ledger.attest(batch, valid, "report");
        if (valid) careless[batch][validator] = true;
    }

    function slashAttester(uint256 id, uint256 who) external {
        id = bound(id, 1, _disputes.disputeCount());
        IDisputes.Dispute memory entry = _disputes.dispute(id);
        address[] memory drawn = _ledger.validatorsOf(entry.subject);
        address validator = drawn[who % drawn.length];
        _disputes.slashAttester(id, validator);
        if (!careless[entry.subject][validator] || entry.defender == address(0)) ++wronged;
    }

    function wait_(uint256 time) external {
        vm.warp(block.timestamp + time % 3 hours);
    }

    function _receipt(uint256 sequence) private view returns (IInferenceLedger.Receipt memory) {
        return IInferenceLedger.Receipt(
            sequence, 1, address(1), _host, "p", "o", 1, 1, 1, "shares", 1, uint64(1)
        );
    }
}

contract CourtInvariants is Court {
    CourtActions private _actions;

    function setUp() public override {
        super.setUp();
        _actions = new CourtActions(disputes, distributor, ledger, host);
        stakeAs(host, StakeRoles.HOST, 900_000 ether);
        bytes4[] memory propose = new bytes4[](1);
        propose[0] = RewardsDistributor.proposeRoot.selector;
        access.setTargetFunctionRole(address(distributor), propose, 2);
        access.grantRole(2, address(_actions), 0);
        bytes4[] memory selectors = new bytes4[](11);
        selectors[0] = CourtActions.post.selector;
        selectors[1] = CourtActions.challenge.selector;
        selectors[2] = CourtActions.answer.selector;
        selectors[3] = CourtActions.draw.selector;
        selectors[4] = CourtActions.vote.selector;
        selectors[5] = CourtActions.resolve.selector;
        selectors[6] = CourtActions.propose.selector;
        selectors[7] = CourtActions.activate.selector;
        selectors[8] = CourtActions.wait_.selector;
        selectors[9] = CourtActions.attest.selector;
        selectors[10] = CourtActions.slashAttester.selector;
        target(address(_actions), selectors);
    }

    function invariant_TheCourtHoldsTheBondsOfOpenDisputesAndWhatItOwes() public view {
        uint256 bonds;
        for (uint256 id = 1; id <= disputes.disputeCount(); ++id) {
            IDisputes.Dispute memory entry = disputes.dispute(id);
            if (entry.state == IDisputes.State.Open) bonds += entry.bond;
            if (entry.state == IDisputes.State.Answered || entry.state == IDisputes.State.Voting) {
                bonds += 2 * entry.bond;
            }
        }
        vm.assertEq(address(disputes).balance, bonds, "bonds");
    }

    function invariant_NoRootUnderAnOpenDisputeIsActive() public view {
        uint256 active = distributor.activeRootId();
        for (uint256 id = 1; id <= disputes.disputeCount(); ++id) {
            IDisputes.Dispute memory entry = disputes.dispute(id);
            if (entry.state == IDisputes.State.Upheld || active == 0) continue;
            if (entry.holdId > 0 && entry.state < IDisputes.State.Upheld) {
                vm.assertTrue(!distributor.isHeld(active), "held roots do not become active");
            }
        }
    }

    function invariant_OnlyValidatorsThatVouchedForWhatAJuryFoundWrongAreSlashedForIt() public view {
        vm.assertEq(_actions.wronged(), 0, "nobody else");
    }

    function invariant_TheStakeManagerHoldsWhatIsStakedAndLeaving() public view {
        uint256 held = stakes.totalStake(StakeRoles.HOST) + stakes.totalStake(StakeRoles.VALIDATOR);
        vm.assertEq(address(stakes).balance, held, "stake less what was slashed is there");
    }
}
