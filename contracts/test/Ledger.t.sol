// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IInferenceLedger} from "../src/interfaces/IInferenceLedger.sol";
import {ParameterKeys} from "../src/libraries/ParameterKeys.sol";
import {StakeRoles} from "../src/libraries/StakeRoles.sol";
import {System} from "./utils/System.sol";

contract InferenceLedgerTest is System {
    address private _host = account("host");
    address private _validator = account("validator");

    function setUp() public override {
        super.setUp();
        stakeAs(_host, StakeRoles.HOST, 1_000 ether);
        stakeAs(_validator, StakeRoles.VALIDATOR, 5_000 ether);
        nextBlock();
    }

    function test_ABatchKeepsTheSplitThatWasValidWhenItWasPosted() public {
        _post(2);
        parameters.set(ParameterKeys.FEE_HOST, 100_000);
        parameters.set(ParameterKeys.ATTRIBUTION_INFLUENCE, 250_000);
        _post(1);
        IInferenceLedger.Batch memory first = ledger.batch(1);
        IInferenceLedger.Batch memory second = ledger.batch(2);
        vm.assertEq(first.split[2], 120_000, "before");
        vm.assertEq(first.influencePpm, 500_000, "before");
        vm.assertEq(second.split[2], 100_000, "afterwards");
        vm.assertEq(second.influencePpm, 250_000, "afterwards");
        vm.assertEq(second.firstSequence, 2, "no gap");
        vm.assertEq(second.blockNumber, block.number, "block");
    }

    function test_AHostsSequencesHaveNoGapAndNobodyElseCanTakeThem() public {
        _post(3);
        address other = account("host2");
        stakeAs(other, StakeRoles.HOST, 1_000 ether);
        bytes memory leaves = new bytes(24);
        vm.startPrank(other);
        vm.expectRevert(abi.encodeWithSelector(IInferenceLedger.WrongSequence.selector, 3, 0));
        ledger.post(3, leaves);
        ledger.post(0, leaves);
        vm.stopPrank();
        vm.assertEq(ledger.nextSequence(_host), 3, "the first host's own count");
    }

    function test_OnlyAHostWithStakePosts() public {
        vm.expectRevert(abi.encodeWithSelector(IInferenceLedger.HostNotActive.selector, address(this)));
        ledger.post(0, new bytes(24));
        vm.prank(_host);
        vm.expectRevert(abi.encodeWithSelector(IInferenceLedger.BatchSizeOutOfBounds.selector, 0, 4_000));
        ledger.post(0, "");
        vm.prank(_host);
        vm.expectRevert(abi.encodeWithSelector(IInferenceLedger.BatchSizeOutOfBounds.selector, 4_001, 4_000));
        ledger.post(0, new bytes(4_001 * 24));
        vm.prank(_host);
        vm.expectRevert(abi.encodeWithSelector(IInferenceLedger.BrokenLeaf.selector, 25, 24));
        ledger.post(0, new bytes(25));
    }

    function test_AReceiptIsProvedAtItsOwnPlaceAndForItsOwnHostOnly() public {
        IInferenceLedger.Receipt[] memory receipts = new IInferenceLedger.Receipt[](3);
        bytes32[] memory leaves = new bytes32[](3);
        for (uint256 i; i < 3; ++i) {
            receipts[i] = _receipt(i);
            leaves[i] = bytes24(ledger.receiptDigest(receipts[i]));
        }
        vm.prank(_host);
        ledger.post(0, _packed(leaves));
        // Of three leaves in order, the first two are paired, then joined with the third.
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = leaves[0] < leaves[1]
            ? keccak256(abi.encode(leaves[0], leaves[1]))
            : keccak256(abi.encode(leaves[1], leaves[0]));
        vm.assertTrue(ledger.verifyReceipt(1, receipts[2], proof), "third");
        vm.assertTrue(ledger.verify(1, 2, bytes24(leaves[2]), proof), "by its leaf");
        receipts[2].fee += 1;
        vm.assertTrue(!ledger.verifyReceipt(1, receipts[2], proof), "changed");
        receipts[2].fee -= 1;
        receipts[2].sequence = 1;
        vm.assertTrue(!ledger.verifyReceipt(1, receipts[2], proof), "elsewhere");
        receipts[2].sequence = 2;
        receipts[2].host = account("host2");
        vm.assertTrue(!ledger.verifyReceipt(1, receipts[2], proof), "not this host's");

        // An inner node is a hash of 32 bytes; it fits no leaf.
        bytes32[] memory other = new bytes32[](1);
        other[0] = leaves[2];
        vm.assertTrue(!ledger.verify(1, 2, bytes24(proof[0]), other), "an inner node is no leaf");
    }

    function test_AReceiptPostedByAnotherThanItsHostIsNotProved() public {
        address other = account("host2");
        stakeAs(other, StakeRoles.HOST, 1_000 ether);
        IInferenceLedger.Receipt memory receipt = _receipt(0);
        bytes24 leaf = bytes24(ledger.receiptDigest(receipt));
        vm.prank(other);
        ledger.post(0, bytes.concat(leaf));
        vm.assertTrue(ledger.verify(1, 0, leaf, new bytes32[](0)), "the leaf is there");
        vm.assertTrue(!ledger.verifyReceipt(1, receipt, new bytes32[](0)), "but its host did not post it");
    }

    function test_AValidatorAttestsOnceAndOnlyToBatchesThatItCouldSample() public {
        _post(1);
        nextBlock();
        vm.startPrank(_validator);
        ledger.attest(1, true, "report");
        vm.expectRevert(abi.encodeWithSelector(IInferenceLedger.AlreadyAttested.selector, 1, _validator));
        ledger.attest(1, false, "report");
        vm.expectRevert(abi.encodeWithSelector(IInferenceLedger.UnknownBatch.selector, 2));
        ledger.attest(2, true, "report");
        vm.stopPrank();
        vm.assertTrue(ledger.hasAttested(1, _validator) && !ledger.hasAttested(1, _host), "who did");
        (uint128 valid, uint128 invalid) = ledger.attestations(1);
        vm.assertEq(valid, 5_000 ether, "weight");
        vm.assertEq(invalid, 0, "none");
        address late = account("late");
        stakeAs(late, StakeRoles.VALIDATOR, 5_000 ether);
        nextBlock();
        vm.prank(late);
        vm.expectRevert(abi.encodeWithSelector(IInferenceLedger.ValidatorNotActive.selector, late));
        ledger.attest(1, false, "report");
    }

    function test_OnlyDrawnValidatorsAttestAndTheHostIsNeverDrawn() public {
        parameters.set(ParameterKeys.VALIDATOR_DRAW, 2);
        stakeAs(_host, StakeRoles.VALIDATOR, 1_000_000 ether);
        address[4] memory others = [account("v1"), account("v2"), account("v3"), _validator];
        for (uint256 i; i < 3; ++i) {
            stakeAs(others[i], StakeRoles.VALIDATOR, 5_000 ether);
        }
        nextBlock();
        _post(1);
        nextBlock();
        address[] memory drawn = ledger.validatorsOf(1);
        vm.assertEq(drawn.length, 2, "two");
        uint256 refused;
        for (uint256 i; i < 4; ++i) {
            bool isDrawn = drawn[0] == others[i] || drawn[1] == others[i];
            if (!isDrawn) {
                ++refused;
                vm.expectRevert(
                    abi.encodeWithSelector(IInferenceLedger.ValidatorNotDrawn.selector, 1, others[i])
                );
            }
            vm.prank(others[i]);
            ledger.attest(1, true, "report");
            if (isDrawn) vm.assertTrue(ledger.validatorsOf(1)[0] == drawn[0], "as foreseen");
        }
        vm.assertEq(refused, 2, "the others");
        vm.assertTrue(ledger.isFinal(1), "both drawn attested");
        vm.prank(_host);
        vm.expectRevert(abi.encodeWithSelector(IInferenceLedger.ValidatorNotDrawn.selector, 1, _host));
        ledger.attest(1, true, "report");
    }

    function test_ADrawWhoseBlockIsOutOfReachTakesALaterHashAndTheSameWeights() public {
        _post(1);
        vm.expectRevert(
            abi.encodeWithSelector(IInferenceLedger.DrawNotReady.selector, 1, block.number)
        );
        ledger.drawValidators(1);
        // Nobody knows the hash of the posting block any more.
        vm.roll(block.number + 10_000);
        address late = account("late");
        stakeAs(late, StakeRoles.VALIDATOR, 1_000_000 ether);
        vm.assertEq(ledger.drawValidators(1).length, 0, "renewed");
        nextBlock();
        address[] memory drawn = ledger.drawValidators(1);
        vm.assertEq(drawn.length, 1, "one had weight");
        vm.assertEq(drawn[0], _validator, "whoever had weight then");
        vm.assertTrue(!ledger.isFinal(1), "not attested");
    }

    function test_TwoThousandReceiptsCostNoMoreThanTheirCalldata() public {
        bytes32[] memory leaves = new bytes32[](2_000);
        for (uint256 i; i < 2_000; ++i) {
            leaves[i] = keccak256(abi.encode(i));
        }
        bytes memory packed = _packed(leaves);
        vm.prank(_host);
        uint256 before = gasleft();
        ledger.post(0, packed);
        // EIP-7623: the floor is 40 gas a byte against 16 otherwise, so execution below 24 * 24 a leaf is free.
        vm.assertLe(before - gasleft(), 2_000 * 24 * 24, "execution hides under the floor");
    }

    function _post(uint256 count) private {
        bytes32[] memory leaves = new bytes32[](count);
        for (uint256 i; i < count; ++i) {
            leaves[i] = keccak256(abi.encode(i, ledger.batchCount()));
        }
        uint64 next = ledger.nextSequence(_host);
        vm.prank(_host);
        ledger.post(next, _packed(leaves));
    }

    /// @dev The first 24 bytes of each.
    function _packed(bytes32[] memory leaves) private pure returns (bytes memory packed) {
        packed = new bytes(24 * leaves.length + 8);
        for (uint256 i; i < leaves.length; ++i) {
            bytes32 leaf = leaves[i];
            assembly ("memory-safe") {
                mstore(add(add(packed, 0x20), mul(i, 24)), leaf)
            }
        }
        assembly ("memory-safe") {
            mstore(packed, sub(mload(packed), 8))
        }
    }

    function _receipt(uint256 sequence) private view returns (IInferenceLedger.Receipt memory) {
        return IInferenceLedger.Receipt({
            sequence: sequence,
            model: 1,
            consumer: account("consumer"),
            host: _host,
            promptHash: "prompt",
            outputHash: "output",
            promptTokens: 10,
            outputTokens: 20,
            fee: 1 ether,
            sharesRoot: "shares",
            seed: 7,
            time: uint64(block.timestamp)
        });
    }
}
