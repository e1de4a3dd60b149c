// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {RuntimeParameters} from "../src/RuntimeParameters.sol";
import {IRuntimeParameters} from "../src/interfaces/IRuntimeParameters.sol";
import {ParameterKeys} from "../src/libraries/ParameterKeys.sol";
import {System} from "./utils/System.sol";

contract RuntimeParametersTest is System {
    function test_TheTreasuryGetsThreePercentByDefault() public view {
        (uint32[5] memory split, uint32 influence) = parameters.feeSplit();
        uint256 sum;
        for (uint256 i; i < 5; ++i) {
            sum += split[i];
        }
        vm.assertEq(sum, 970_000, "five shares");
        vm.assertEq(influence, 500_000, "influence");
    }

    function test_OnlyGovernanceSets() public {
        vm.prank(account("mallory"));
        vm.expectRevert(
            abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, account("mallory"))
        );
        parameters.set(ParameterKeys.FEE_DATA, 1);
    }

    function testFuzz_NoParameterLeavesItsBounds(uint256 which, uint256 value) public {
        bytes32[] memory keys = parameters.keys();
        bytes32 name = keys[which % keys.length];
        (uint256 minimum, uint256 maximum) = parameters.bounds(name);
        uint256 before = parameters.get(name);
        try parameters.set(name, value) {
            vm.assertTrue(value >= minimum && value <= maximum, "inside");
            vm.assertEq(parameters.get(name), value, "set");
        } catch {
            vm.assertEq(parameters.get(name), before, "kept");
        }
    }

    function testFuzz_TheFeeSharesNeverExceedTheWhole(uint256[12] calldata choices) public {
        bytes32[5] memory names = [
            ParameterKeys.FEE_DATA,
            ParameterKeys.FEE_BUILDER,
            ParameterKeys.FEE_HOST,
            ParameterKeys.FEE_CURATORS,
            ParameterKeys.FEE_VALIDATORS
        ];
        for (uint256 i; i < choices.length; ++i) {
            try parameters.set(names[choices[i] % 5], (choices[i] >> 8) % 1_000_001) {} catch {}
        }
        (uint32[5] memory split,) = parameters.feeSplit();
        uint256 sum;
        for (uint256 i; i < 5; ++i) {
            sum += split[i];
            vm.assertEq(split[i], parameters.get(names[i]), "the packed copy is the value");
        }
        vm.assertLe(sum, 1_000_000, "sum");
    }

    function test_StakeCannotLeaveBeforeAReviewEnds() public {
        parameters.set(ParameterKeys.REVIEW_COMMIT, 2 days);
        parameters.set(ParameterKeys.REVIEW_REVEAL, 3 days);
        parameters.set(ParameterKeys.STAKE_UNBONDING, 5 days);
        vm.expectRevert(
            abi.encodeWithSelector(IRuntimeParameters.UnbondingTooShort.selector, 5 days - 1, 5 days)
        );
        parameters.set(ParameterKeys.STAKE_UNBONDING, 5 days - 1);
        vm.expectRevert(abi.encodeWithSelector(IRuntimeParameters.UnbondingTooShort.selector, 5 days, 6 days));
        parameters.set(ParameterKeys.PAYOUT_DELAY, 6 days);
    }

    function test_ParametersThatBelongTogetherStayTogether() public {
        vm.expectRevert(abi.encodeWithSelector(IRuntimeParameters.AppealNotLarger.selector, 5, 5));
        parameters.set(ParameterKeys.REVIEW_APPEAL, 5);
        vm.expectRevert(
            abi.encodeWithSelector(IRuntimeParameters.CapBelowMinimum.selector, 999 ether, 1_000 ether)
        );
        parameters.set(ParameterKeys.STAKE_REVIEWER_CAP, 999 ether);
        vm.expectRevert(
            abi.encodeWithSelector(IRuntimeParameters.DisputeSharesExceedWhole.selector, 1_000_001)
        );
        parameters.set(ParameterKeys.DISPUTE_JURORS, 500_001);
        parameters.set(ParameterKeys.DISPUTE_JURORS, 500_000);
    }

    function test_EachParameterSaysWhatItCounts() public view {
        vm.assertTrue(parameters.unitOf(ParameterKeys.FEE_HOST) == IRuntimeParameters.Unit.Ppm, "ppm");
        vm.assertTrue(parameters.unitOf(ParameterKeys.BOND_RECORD) == IRuntimeParameters.Unit.Wei, "wei");
        vm.assertTrue(parameters.unitOf(ParameterKeys.VALIDATOR_DRAW) == IRuntimeParameters.Unit.Count, "count");
    }

    function test_AnUnknownNameIsRefused() public {
        vm.expectRevert(
            abi.encodeWithSelector(IRuntimeParameters.UnknownParameter.selector, bytes32("fee.me"))
        );
        parameters.get("fee.me");
        vm.expectRevert(
            abi.encodeWithSelector(IRuntimeParameters.UnknownParameter.selector, bytes32("fee.me"))
        );
        parameters.set("fee.me", 1);
    }

    function test_TheFirstValuesAreCheckedLikeAllOthers() public {
        bytes32[] memory names = new bytes32[](2);
        uint256[] memory values = new uint256[](2);
        vm.expectRevert(abi.encodeWithSelector(IRuntimeParameters.LengthMismatch.selector, 2, 1));
        new RuntimeParameters(address(access), names, new uint256[](1));
        (names[0], values[0]) = (ParameterKeys.FEE_DATA, 900_000);
        (names[1], values[1]) = (ParameterKeys.FEE_BUILDER, 50_000);
        vm.expectRevert(abi.encodeWithSelector(IRuntimeParameters.FeeSharesExceedWhole.selector, 1_170_000));
        new RuntimeParameters(address(access), names, values);
        (names[1], values[1]) = (ParameterKeys.FEE_HOST, 0);
        vm.expectRevert(abi.encodeWithSelector(IRuntimeParameters.FeeSharesExceedWhole.selector, 1_150_000));
        new RuntimeParameters(address(access), names, values);
        values[0] = 700_000;
        vm.assertEq(new RuntimeParameters(address(access), names, values).get(names[0]), 700_000, "taken");
    }
}
