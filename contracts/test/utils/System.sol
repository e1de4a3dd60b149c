// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";
import {DatanetAccess} from "../../src/DatanetAccess.sol";
import {DatanetRegistry} from "../../src/DatanetRegistry.sol";
import {Disputes} from "../../src/Disputes.sol";
import {FeeEscrow} from "../../src/FeeEscrow.sol";
import {InferenceLedger} from "../../src/InferenceLedger.sol";
import {ModelRegistry} from "../../src/ModelRegistry.sol";
import {ReviewAppeals} from "../../src/ReviewAppeals.sol";
import {RewardsDistributor} from "../../src/RewardsDistributor.sol";
import {RuntimeParameters} from "../../src/RuntimeParameters.sol";
import {StakeManager} from "../../src/StakeManager.sol";
import {IDatanetRegistry} from "../../src/interfaces/IDatanetRegistry.sol";
import {IFeeEscrow} from "../../src/interfaces/IFeeEscrow.sol";
import {StakeRoles} from "../../src/libraries/StakeRoles.sol";
import {Test} from "./Test.sol";

/// @dev The contracts as they stand after deployment, with this test as governance, settler and guardian in one.
abstract contract System is Test {
    uint64 internal constant SLASHER = 1;
    uint64 internal constant COURT = 4;

    AccessManager internal access;
    RuntimeParameters internal parameters;
    StakeManager internal stakes;
    ReviewAppeals internal appeals;
    DatanetRegistry internal datanets;
    DatanetAccess internal licences;
    ModelRegistry internal models;
    InferenceLedger internal ledger;
    RewardsDistributor internal distributor;
    FeeEscrow internal escrow;
    Disputes internal disputes;
    address internal treasury = address(new Till());

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        vm.roll(100);
        access = new AccessManager(address(this));
        parameters = new RuntimeParameters(address(access), new bytes32[](0), new uint256[](0));
        stakes = new StakeManager(address(access), parameters);
        address registry = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1);
        appeals = new ReviewAppeals(parameters, stakes, DatanetRegistry(registry), treasury);
        datanets = new DatanetRegistry(parameters, stakes, appeals, treasury);
        licences = new DatanetAccess(datanets);
        models = new ModelRegistry(address(access), parameters, datanets, licences);
        ledger = new InferenceLedger(parameters, stakes);
        address predicted = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1);
        distributor = new RewardsDistributor(address(access), parameters, stakes, predicted);
        escrow = new FeeEscrow(parameters, distributor);
        vm.assertEq(address(escrow), predicted, "the escrow's address was foreseen");

        disputes = new Disputes(parameters, stakes, ledger, distributor, treasury);
        access.grantRole(SLASHER, address(disputes), 0);
        access.grantRole(COURT, address(disputes), 0);
        bytes4[] memory court = new bytes4[](4);
        (court[0], court[1]) = (RewardsDistributor.hold.selector, RewardsDistributor.holdRoot.selector);
        (court[2], court[3]) = (RewardsDistributor.release.selector, RewardsDistributor.strike.selector);
        access.setTargetFunctionRole(address(distributor), court, COURT);

        bytes4[] memory slash = new bytes4[](1);
        slash[0] = StakeManager.slash.selector;
        access.setTargetFunctionRole(address(stakes), slash, SLASHER);
        access.grantRole(SLASHER, address(datanets), 0);
    }

    receive() external payable {}

    function account(string memory name) internal pure returns (address) {
        return vm.addr(key(name));
    }

    function key(string memory name) internal pure returns (uint256) {
        return uint256(keccak256(bytes(name))) >> 8;
    }

    function signed(uint256 signer, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(signer, digest);
        return abi.encodePacked(r, s, v);
    }

    function stakeAs(address staker, uint8 role, uint256 amount) internal {
        vm.deal(staker, staker.balance + amount);
        vm.prank(staker);
        stakes.stake{value: amount}(role);
    }

    /// @dev Moves `amount` of fees into the distributor by a voucher of a fresh consumer.
    function collectFees(uint128 amount) internal {
        uint256 consumerKey = key("fees");
        address consumer = vm.addr(consumerKey);
        address host = address(uint160(uint256(keccak256(abi.encode(distributor.totalCollected())))));
        vm.deal(address(this), address(this).balance + amount);
        escrow.deposit{value: amount}(consumer);
        IFeeEscrow.Voucher memory voucher = IFeeEscrow.Voucher(consumer, host, amount);
        escrow.redeem(voucher, signed(consumerKey, escrow.voucherDigest(voucher)));
    }

    function threeReviewers() internal returns (address[] memory list) {
        list = new address[](3);
        for (uint256 i; i < 3; ++i) {
            list[i] = account(string.concat("reviewer", string(abi.encodePacked(uint8(48 + i)))));
            stakeAs(list[i], StakeRoles.REVIEWER, 1_000 ether);
        }
    }

    /// @dev Submits `count` records of `contributor` to a new Datanet of `owner`.
    function submitted(string memory contributor, string memory owner, uint32 count)
        internal
        returns (uint256 id)
    {
        vm.prank(account(owner));
        uint256 net = datanets.createDatanet("exploits", "schema", "policy", "ipfs://x", openTerms());
        return submittedTo(net, contributor, count);
    }

    function submittedTo(uint256 net, string memory contributor, uint32 count) internal returns (uint256 id) {
        IDatanetRegistry.ContributionInput memory input = contributionOf(net, contributor, count);
        bytes memory signature = signed(key(contributor), datanets.contributionDigest(input));
        uint256 bond = uint256(count) * 0.05 ether;
        vm.deal(address(this), address(this).balance + bond);
        return datanets.submit{value: bond}(input, signature);
    }

    function contributionOf(uint256 net, string memory contributor, uint32 count)
        internal
        view
        returns (IDatanetRegistry.ContributionInput memory)
    {
        address by = account(contributor);
        return IDatanetRegistry.ContributionInput(
            net, by, keccak256("root"), count, "CC-BY-4.0", keccak256("manifest"), datanets.nonces(by)
        );
    }

    function openTerms() internal pure returns (IDatanetRegistry.DatanetTerms memory) {
        return IDatanetRegistry.DatanetTerms(IDatanetRegistry.AccessRule.Open, 0, 0, 0, 0);
    }

    /// @dev Has every juror commit to and reveal the same verdict.
    function judge(uint256 id, bytes memory verdict) internal {
        address[] memory jurors = datanets.jury(id);
        uint256 first = jurors.length - datanets.review(id).seats;
        for (uint256 i = first; i < jurors.length; ++i) {
            commitAs(jurors[i], id, verdict);
        }
        for (uint256 i = first; i < jurors.length; ++i) {
            revealAs(jurors[i], id, verdict);
        }
    }

    /// @dev Ends the round and, if it decided, lets the challenge window pass. Nobody joins a jury that disagrees.
    function conclude(uint256 id) internal {
        datanets.endRound(id);
        if (datanets.contribution(id).state == IDatanetRegistry.State.Disagreed) {
            nextBlock();
            vm.assertTrue(!datanets.openReview(id), "nobody left to ask");
        }
        if (datanets.contribution(id).state == IDatanetRegistry.State.Decided) {
            vm.warp(datanets.review(id).challengeEnd);
            datanets.finalise(id);
        }
    }

    /// @dev Stakes `count` reviewers with the least stake.
    function reviewers(uint256 count) internal {
        for (uint256 i; i < count; ++i) {
            stakeAs(address(uint160(0xA000 + i)), StakeRoles.REVIEWER, 1_000 ether);
        }
    }

    function commitAs(address reviewer, uint256 id, bytes memory verdict) internal {
        vm.prank(reviewer);
        datanets.commitVerdict(id, keccak256(abi.encode(id, reviewer, verdict, bytes32("salt"))));
    }

    function revealAs(address reviewer, uint256 id, bytes memory verdict) internal {
        vm.prank(reviewer);
        datanets.revealVerdict(id, verdict, bytes32("salt"));
    }
}

/// @dev Takes payments.
contract Till {
    receive() external payable {}
}
