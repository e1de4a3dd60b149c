// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {DatanetAccess} from "../src/DatanetAccess.sol";
import {DatanetRegistry} from "../src/DatanetRegistry.sol";
import {ReviewAppeals} from "../src/ReviewAppeals.sol";
import {IDatanetRegistry} from "../src/interfaces/IDatanetRegistry.sol";
import {IReviewAppeals} from "../src/interfaces/IReviewAppeals.sol";
import {System} from "./utils/System.sol";
import {Test} from "./utils/Test.sol";

/// @dev Contributions of four records that go wherever random callers take them.
contract DatanetActions is Test {
    DatanetRegistry private immutable _registry;
    ReviewAppeals private immutable _appeals;
    DatanetAccess private immutable _access;

    uint256 public paidIn;
    uint256 public licenceIncome;
    uint256 public challengeBonds;

    constructor(DatanetRegistry registry, ReviewAppeals appeals, DatanetAccess access) {
        _registry = registry;
        _appeals = appeals;
        _access = access;
        _registry.createDatanet(
            "n",
            0,
            0,
            "",
            IDatanetRegistry.DatanetTerms(IDatanetRegistry.AccessRule.Open, 123_457, 100, 0, 7 ether + 3)
        );
    }

    receive() external payable {}

    function submit(uint256 who) external {
        uint256 secret = 0xC0FFEE + who % 3;
        address by = vm.addr(secret);
        IDatanetRegistry.ContributionInput memory input =
            IDatanetRegistry.ContributionInput(1, by, "root", 4, "MIT", "manifest", _registry.nonces(by));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, _registry.contributionDigest(input));
        vm.deal(address(this), address(this).balance + 0.2 ether);
        try _registry.submit{value: 0.2 ether}(input, abi.encodePacked(r, s, v)) {
            paidIn += 0.2 ether;
        } catch {}
    }

    function advance(uint256 which, uint256 bits) external {
        uint256 id = _pick(which);
        if (id == 0) return;
        IDatanetRegistry.State state = _registry.contribution(id).state;
        nextBlock();
        if (state == IDatanetRegistry.State.InReview || state == IDatanetRegistry.State.InAppeal) {
            _vote(id, bits);
            try _registry.endRound(id) {} catch {}
        } else {
            try _registry.openReview(id) {} catch {}
            try _registry.finalise(id) {} catch {}
        }
    }

    function withdraw(uint256 which) external {
        uint256 id = _pick(which);
        if (id == 0) return;
        vm.prank(_registry.contribution(id).contributor);
        try _registry.withdrawContribution(id) {} catch {}
    }

    function challenge(uint256 which, uint256 bits) external {
        uint256 id = _pick(which);
        if (id == 0) return;
        bytes memory records = abi.encodePacked(uint8(bits % 16));
        uint256 bond;
        for (uint256 i; i < 4; ++i) {
            if ((bits >> i) & 1 == 1) bond += 0.1 ether;
        }
        vm.deal(address(this), address(this).balance + bond);
        try _appeals.challenge{value: bond}(id, records) {
            challengeBonds += bond;
        } catch {}
    }

    function defend(uint256 which, uint256 number) external {
        uint256 id = _pick(which);
        if (id == 0 || _appeals.challengeCount(id) == 0) return;
        number = bound(number, 1, _appeals.challengeCount(id));
        uint256 bond = _appeals.challenges(id, number).bond;
        address defender = address(0xDEF);
        vm.deal(defender, defender.balance + bond);
        vm.prank(defender);
        try _appeals.defend{value: bond}(id, number) {
            challengeBonds += bond;
        } catch {}
    }

    function settle(uint256 which, uint256 number) external {
        uint256 id = _pick(which);
        if (id == 0 || _appeals.challengeCount(id) == 0) return;
        try _appeals.settleChallenge(id, bound(number, 1, _appeals.challengeCount(id))) {} catch {}
    }

    function anchor(uint256 which) external {
        uint256[] memory ids = new uint256[](1);
        ids[0] = _pick(which);
        if (ids[0] == 0) return;
        try _registry.anchorVersion(1, "root", 1, ids, "manifest") {} catch {}
    }

    function licence() external {
        uint256 version = _registry.datanet(1).versionCount;
        if (version == 0) return;
        vm.deal(address(this), address(this).balance + 7 ether + 3);
        uint256 before = _access.incomeOf(1, version);
        _access.payLicence{value: 7 ether + 3}(1, version, address(this));
        licenceIncome += _access.incomeOf(1, version) - before;
    }

    function claim(uint256 which, uint256 version) external {
        uint256 id = _pick(which);
        uint256 count = _registry.datanet(1).versionCount;
        if (id == 0 || count == 0) return;
        uint256 before = address(_access).balance;
        try _access.claimIncome(1, bound(version, 1, count), id) {
            licenceIncome -= before - address(_access).balance;
        } catch {}
    }

    function pass(uint256 time) external {
        vm.warp(block.timestamp + bound(time, 1 hours, 3 days));
        nextBlock();
    }

    function _vote(uint256 id, uint256 bits) private {
        address[] memory jurors = _registry.jury(id);
        uint256 first = jurors.length - _registry.review(id).seats;
        for (uint256 i = first; i < jurors.length; ++i) {
            bytes memory verdict = abi.encodePacked(uint8((bits >> (4 * i)) % 16));
            vm.prank(jurors[i]);
            try _registry.commitVerdict(id, keccak256(abi.encode(id, jurors[i], verdict, bytes32(0)))) {}
                catch {}
        }
        for (uint256 i = first; i < jurors.length; ++i) {
            if ((bits >> (60 + 4 * i)) % 16 == 0) continue; // one in sixteen stays away
            vm.prank(jurors[i]);
            bytes memory verdict = abi.encodePacked(uint8((bits >> (4 * i)) % 16));
            try _registry.revealVerdict(id, verdict, bytes32(0)) {} catch {}
        }
    }

    function _pick(uint256 which) private view returns (uint256) {
        uint256 count = _registry.contributionCount();
        return count == 0 ? 0 : bound(which, 1, count);
    }
}

contract DatanetInvariants is System {
    DatanetActions private _actions;

    function setUp() public override {
        super.setUp();
        reviewers(13);
        nextBlock();
        _actions = new DatanetActions(datanets, appeals, licences);
        bytes4[] memory selectors = new bytes4[](10);
        selectors[0] = DatanetActions.submit.selector;
        selectors[1] = DatanetActions.advance.selector;
        selectors[2] = DatanetActions.withdraw.selector;
        selectors[3] = DatanetActions.challenge.selector;
        selectors[4] = DatanetActions.defend.selector;
        selectors[5] = DatanetActions.settle.selector;
        selectors[6] = DatanetActions.anchor.selector;
        selectors[7] = DatanetActions.licence.selector;
        selectors[8] = DatanetActions.claim.selector;
        selectors[9] = DatanetActions.pass.selector;
        target(address(_actions), selectors);
    }

    function invariant_TheRegistryHoldsExactlyTheBondsOfContributionsThatAreNotFinal() public view {
        uint256 open;
        for (uint256 id = 1; id <= datanets.contributionCount(); ++id) {
            IDatanetRegistry.Contribution memory entry = datanets.contribution(id);
            bool closed = entry.state == IDatanetRegistry.State.Finalised
                || entry.state == IDatanetRegistry.State.Withdrawn;
            if (!closed) open += entry.bond;
        }
        vm.assertEq(address(datanets).balance, open, "bonds");
    }

    function invariant_TheAppealsHoldExactlyTheBondsAndRewardsOfOpenChallenges() public view {
        uint256 open;
        for (uint256 id = 1; id <= datanets.contributionCount(); ++id) {
            IDatanetRegistry.Contribution memory entry = datanets.contribution(id);
            for (uint256 number = 1; number <= appeals.challengeCount(id); ++number) {
                IReviewAppeals.Challenge memory dispute = appeals.challenges(id, number);
                if (dispute.settled) continue;
                open += dispute.defender == address(0) ? dispute.bond : 2 * dispute.bond;
                bytes memory turned = appeals.overturned(id);
                if (turned.length == 0) continue;
                uint8 down = uint8(turned[0] & dispute.records[0]) & ~uint8(datanets.acceptedBitmap(id)[0]);
                for (; down > 0; down &= down - 1) {
                    open += entry.bond / entry.count / 2;
                }
            }
        }
        vm.assertEq(address(appeals).balance, open, "bonds and rewards");
    }

    function invariant_AcceptedRowsAreNeverMoreThanWereSubmittedAndNeverAboveTheCap() public view {
        for (uint160 i; i < 3; ++i) {
            address by = vm.addr(0xC0FFEE + i);
            uint256 rows;
            for (uint256 id = 1; id <= datanets.contributionCount(); ++id) {
                IDatanetRegistry.Contribution memory entry = datanets.contribution(id);
                vm.assertLe(entry.acceptedCount, entry.count, "accepted");
                if (entry.contributor != by || entry.state == IDatanetRegistry.State.Withdrawn) continue;
                rows += entry.state == IDatanetRegistry.State.Finalised ? entry.acceptedCount : entry.count;
            }
            vm.assertEq(datanets.rowsOf(1, by), rows, "rows");
            vm.assertLe(rows, 100, "cap");
        }
    }

    function invariant_OnlyFinalContributionsAreInAVersion() public view {
        for (uint256 version = 1; version <= datanets.datanet(1).versionCount; ++version) {
            uint256 rows;
            for (uint256 id = 1; id <= datanets.contributionCount(); ++id) {
                uint256 part = datanets.rowsInVersion(1, version, id);
                if (part == 0) continue;
                rows += part;
                vm.assertTrue(
                    datanets.contribution(id).state == IDatanetRegistry.State.Finalised,
                    "final before anchored"
                );
            }
            vm.assertEq(rows, datanets.versions(1, version).acceptedRows, "rows of a version");
        }
    }

    function invariant_LicenceIncomeIsHeldUntilItIsClaimedAndNeverClaimedTwice() public view {
        vm.assertEq(address(licences).balance, _actions.licenceIncome(), "income less claims");
    }
}
