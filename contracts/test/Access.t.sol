// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDatanetAccess} from "../src/interfaces/IDatanetAccess.sol";
import {IDatanetRegistry} from "../src/interfaces/IDatanetRegistry.sol";
import {System} from "./utils/System.sol";
import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

contract DatanetAccessTest is System {
    address private _owner = account("olivia");
    address private _reader = account("rita");

    function setUp() public override {
        super.setUp();
        reviewers(5);
        nextBlock();
        vm.deal(_reader, 100 ether);
    }

    function test_AnOwnerKeepsNoMoreThanItMay() public {
        IDatanetRegistry.DatanetTerms memory terms = openTerms();
        terms.ownerPpm = 300_001;
        vm.expectRevert(
            abi.encodeWithSelector(IDatanetRegistry.OwnerShareTooLarge.selector, 300_001, 300_000)
        );
        datanets.createDatanet("n", 0, 0, "", terms);
        vm.expectRevert(IDatanetRegistry.EmptyName.selector);
        datanets.createDatanet("", 0, 0, "", openTerms());
    }

    function test_FeesCanChangeAndTheRestCannot() public {
        uint256 net = _net(IDatanetRegistry.AccessRule.Paid, 1 ether, 2 ether);
        vm.expectRevert(
            abi.encodeWithSelector(IDatanetRegistry.NotDatanetOwner.selector, address(this), _owner)
        );
        datanets.setFees(net, 0, 0);
        vm.prank(_owner);
        datanets.setFees(net, 3 ether, 4 ether);
        IDatanetRegistry.DatanetTerms memory terms = datanets.datanet(net).terms;
        vm.assertEq(terms.accessFee, 3 ether, "access");
        vm.assertEq(terms.licenceFee, 4 ether, "licence");
        vm.assertEq(terms.ownerPpm, 100_000, "part");
        vm.assertEq(datanets.datanetCount(), 1, "one");
    }

    function test_AContributorHasNoMoreRowsThanTheCap() public {
        IDatanetRegistry.DatanetTerms memory terms = openTerms();
        terms.rowCap = 15;
        vm.prank(_owner);
        uint256 net = datanets.createDatanet("n", 0, 0, "", terms);
        uint256 id = submittedTo(net, "carol", 10);
        IDatanetRegistry.ContributionInput memory input = contributionOf(net, "carol", 6);
        bytes memory signature = signed(key("carol"), datanets.contributionDigest(input));
        vm.deal(address(this), 1 ether);
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.RowCapExceeded.selector, 16, 15));
        datanets.submit{value: 0.3 ether}(input, signature);
        // Rejected rows make room again.
        nextBlock();
        datanets.openReview(id);
        judge(id, hex"0000");
        conclude(id);
        vm.assertEq(datanets.rowsOf(net, account("carol")), 0, "all rejected");
        submittedTo(net, "carol", 6);
    }

    function test_ALicenceIsPaidWithTheJobAndSharedByAcceptedRows() public {
        uint256 net = _net(IDatanetRegistry.AccessRule.Open, 0, 10 ether);
        uint256[] memory ids = new uint256[](2);
        ids[0] = _accepted(net, "carol", 6);
        ids[1] = _accepted(net, "dora", 3);
        vm.prank(_owner);
        datanets.anchorVersion(net, "root", 9, ids, "manifest");
        vm.startPrank(_reader);
        vm.expectRevert(abi.encodeWithSelector(IDatanetAccess.WrongFee.selector, 0, 10 ether));
        models.recordTraining(net, 1, "base", "recipe");
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.UnknownVersion.selector, net, 2));
        models.recordTraining{value: 10 ether}(net, 2, "base", "recipe");
        models.recordTraining{value: 10 ether}(net, 1, "base", "recipe");
        vm.stopPrank();
        vm.assertEq(_owner.balance, 1 ether, "a tenth");
        vm.assertEq(licences.incomeOf(net, 1), 9 ether, "the rest");
        (uint256 carol, uint256 dora) = (account("carol").balance, account("dora").balance);
        licences.claimIncome(net, 1, ids[0]);
        licences.claimIncome(net, 1, ids[1]);
        vm.assertEq(account("carol").balance - carol, 6 ether, "six rows of nine");
        vm.assertEq(account("dora").balance - dora, 3 ether, "three rows of nine");
        vm.expectRevert(abi.encodeWithSelector(IDatanetAccess.NothingToClaim.selector, net, 1, ids[0]));
        licences.claimIncome(net, 1, ids[0]);
        vm.expectRevert(abi.encodeWithSelector(IDatanetAccess.NothingToClaim.selector, net, 1, 99));
        licences.claimIncome(net, 1, 99);
        vm.assertEq(address(licences).balance, 0, "nothing kept");
    }

    function testFuzz_IncomeIsClaimedOnceWhateverTheOrder(uint96[4] memory fees, uint32 one, uint32 two)
        public
    {
        uint256 net = _net(IDatanetRegistry.AccessRule.Open, 0, 0);
        uint256[] memory ids = new uint256[](2);
        ids[0] = _accepted(net, "carol", uint32(bound(one, 1, 8)));
        ids[1] = _accepted(net, "dora", uint32(bound(two, 1, 8)));
        vm.prank(_owner);
        datanets.anchorVersion(net, "root", 1, ids, "manifest");
        uint256 before = account("carol").balance + account("dora").balance;
        uint256 income;
        for (uint256 i; i < 4; ++i) {
            vm.prank(_owner);
            datanets.setFees(net, 0, fees[i]);
            vm.deal(address(this), fees[i]);
            licences.payLicence{value: fees[i]}(net, 1, address(this));
            income += fees[i] - uint256(fees[i]) / 10;
            if (licences.claimable(net, 1, ids[i % 2]) > 0) licences.claimIncome(net, 1, ids[i % 2]);
        }
        for (uint256 i; i < 2; ++i) {
            if (licences.claimable(net, 1, ids[i]) > 0) licences.claimIncome(net, 1, ids[i]);
        }
        uint256 paid = account("carol").balance + account("dora").balance - before;
        vm.assertTrue(paid <= income && income - paid <= 1, "all but what rounding leaves");
        vm.assertEq(address(licences).balance, income - paid, "which stays");
    }

    function test_PaidAccessIsGrantedAtOnceAndNotTakenBack() public {
        uint256 net = _net(IDatanetRegistry.AccessRule.Paid, 1 ether, 0);
        vm.assertTrue(!licences.hasAccess(net, _reader), "not yet");
        vm.assertTrue(licences.hasAccess(net, _owner), "the owner reads");
        vm.prank(_reader);
        vm.expectRevert(abi.encodeWithSelector(IDatanetAccess.WrongFee.selector, 0, 1 ether));
        licences.requestAccess(net, "why");
        vm.expectRevert(abi.encodeWithSelector(IDatanetAccess.NoAccess.selector, net, _reader));
        licences.payLicence(net, 1, _reader);
        vm.prank(_reader);
        licences.requestAccess{value: 1 ether}(net, "why");
        vm.assertTrue(licences.hasAccess(net, _reader), "granted");
        vm.assertEq(_owner.balance, 1 ether, "no version: all is the owner's");
        (uint64 until, bool paid) = licences.grantOf(net, _reader);
        vm.assertTrue(paid && until == block.timestamp + 365 days, "for a year");
        vm.startPrank(_owner);
        bytes memory refusal =
            abi.encodeWithSelector(IDatanetAccess.GrantIsPaid.selector, net, _reader, until);
        vm.expectRevert(refusal);
        licences.revokeAccess(net, _reader);
        vm.expectRevert(refusal);
        licences.grantAccess(net, _reader, uint64(block.timestamp) + 1);
        licences.grantAccess(net, _reader, until + 1);
        vm.warp(until + 1);
        vm.assertTrue(!licences.hasAccess(net, _reader), "over");
        vm.expectRevert(abi.encodeWithSelector(IDatanetAccess.NoAccess.selector, net, _reader));
        licences.revokeAccess(net, _reader);
        vm.expectRevert(
            abi.encodeWithSelector(
                IDatanetAccess.GrantEndsInThePast.selector, block.timestamp, block.timestamp
            )
        );
        licences.grantAccess(net, _reader, uint64(block.timestamp));
        licences.grantAccess(net, _reader, uint64(block.timestamp) + 1);
        licences.revokeAccess(net, _reader);
        vm.stopPrank();
        vm.assertTrue(!licences.hasAccess(net, _reader), "taken back");
    }

    function test_ARequestWaitsForTheOwnerAndItsFeeWithIt() public {
        uint256 net = _net(IDatanetRegistry.AccessRule.Granted, 1 ether, 0);
        vm.startPrank(_reader);
        uint256 first = licences.requestAccess{value: 1 ether}(net, "why");
        uint256 second = licences.requestAccess{value: 1 ether}(net, "why");
        uint256 third = licences.requestAccess{value: 1 ether}(net, "why");
        vm.expectRevert(abi.encodeWithSelector(IDatanetAccess.NotOwner.selector, _reader, _owner));
        licences.grantRequest(first, uint64(block.timestamp) + 1);
        licences.withdrawRequest(second);
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(IDatanetAccess.NotRequester.selector, address(this), _reader));
        licences.withdrawRequest(first);
        vm.startPrank(_owner);
        licences.denyRequest(third);
        vm.expectRevert(
            abi.encodeWithSelector(
                IDatanetAccess.RequestNotOpen.selector, third, IDatanetAccess.RequestState.Denied
            )
        );
        licences.grantRequest(third, uint64(block.timestamp) + 1);
        licences.grantRequest(first, uint64(block.timestamp) + 1);
        vm.stopPrank();
        vm.assertEq(_reader.balance, 99 ether, "two of three returned");
        vm.assertTrue(licences.requests(first).state == IDatanetAccess.RequestState.Granted, "granted");
        vm.assertEq(address(licences).balance, 0, "nothing kept");
        vm.expectRevert(abi.encodeWithSelector(IDatanetAccess.UnknownRequest.selector, 4));
        licences.requests(4);
        uint256 open = _net(IDatanetRegistry.AccessRule.Open, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IDatanetAccess.AccessIsOpen.selector, open));
        licences.requestAccess(open, "why");
    }

    function test_ATombstoneNeedsTheRecordAndCountsOnce() public {
        bytes32[2] memory records = [keccak256("one"), keccak256("two")];
        bytes32[2] memory leaves = [keccak256(abi.encode(records[0])), keccak256(abi.encode(records[1]))];
        vm.prank(_owner);
        uint256 net = datanets.createDatanet("n", 0, 0, "", openTerms());
        IDatanetRegistry.ContributionInput memory input = contributionOf(net, "carol", 2);
        input.recordsRoot = Hashes.commutativeKeccak256(leaves[0], leaves[1]);
        vm.deal(address(this), 0.1 ether);
        bytes memory signature = signed(key("carol"), datanets.contributionDigest(input));
        uint256 id = datanets.submit{value: 0.1 ether}(input, signature);
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = leaves[1];
        nextBlock();
        datanets.openReview(id);
        judge(id, hex"01");
        conclude(id);
        vm.expectRevert(
            abi.encodeWithSelector(IDatanetRegistry.NotContributor.selector, address(this), account("carol"))
        );
        datanets.removeRecord(id, 0, records[0], proof, 0);
        vm.startPrank(_owner);
        vm.expectRevert(
            abi.encodeWithSelector(IDatanetRegistry.NotPartOfContribution.selector, id, records[1])
        );
        datanets.removeRecord(id, 0, records[1], proof, 0);
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.RecordNotAccepted.selector, id, 1));
        datanets.removeRecord(id, 1, records[0], proof, 0);
        datanets.removeRecord(id, 0, records[0], proof, "withdrawn");
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.AlreadyRemoved.selector, id, 0));
        datanets.removeRecord(id, 0, records[0], proof, 0);
        uint256[] memory ids = new uint256[](1);
        ids[0] = id;
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.RecordsExceedAccepted.selector, 1, 0));
        datanets.anchorVersion(net, "root", 1, ids, "manifest");
        vm.stopPrank();
        vm.assertEq(datanets.contribution(id).removedCount, 1, "once");
    }

    function _net(IDatanetRegistry.AccessRule rule, uint128 accessFee, uint128 licenceFee)
        private
        returns (uint256)
    {
        vm.prank(_owner);
        return datanets.createDatanet(
            "n", 0, 0, "", IDatanetRegistry.DatanetTerms(rule, 100_000, 0, accessFee, licenceFee)
        );
    }

    function _accepted(uint256 net, string memory contributor, uint32 count) private returns (uint256 id) {
        id = submittedTo(net, contributor, count);
        nextBlock();
        vm.assertTrue(datanets.openReview(id), "drawn");
        judge(id, abi.encodePacked(uint8((1 << count) - 1)));
        conclude(id);
    }
}
