// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Vesting} from "../src/Vesting.sol";
import {Test} from "./utils/Test.sol";

/// @dev One bucket of the allocation file, amounts in wei, times in seconds.
struct Bucket {
    string name;
    uint256 atLaunch;
    uint256 vesting;
    uint64 cliff;
    uint64 linear;
}

/// @dev The wallets that the shipped allocation file makes, as deployment makes them.
abstract contract Allocated is Test {
    string internal constant FILE = "../src/openledger/tokenomics/allocation.json";
    uint256 internal constant SUPPLY = 1_000_000_000 ether;
    uint256 internal constant BUCKETS = 5;

    uint64 internal launch = 1_800_000_000;
    mapping(uint256 index => Vesting) internal wallets;
    mapping(uint256 index => Bucket) internal buckets;

    function setUp() public virtual {
        vm.warp(launch);
        string memory file = vm.readFile(FILE);
        uint256 month = vm.parseJsonUint(file, ".month_seconds");
        vm.deal(address(this), SUPPLY);
        for (uint256 i; i < BUCKETS; ++i) {
            string memory at = string.concat(".buckets[", string(abi.encodePacked(uint8(48 + i))), "].");
            uint256 atLaunch = vm.parseJsonUint(file, string.concat(at, "circulating_ppm_at_tge"));
            uint256 whole = vm.parseJsonUint(file, string.concat(at, "ppm"));
            buckets[i] = Bucket(
                vm.parseJsonString(file, string.concat(at, "name")),
                SUPPLY / 1_000_000 * atLaunch,
                SUPPLY / 1_000_000 * (whole - atLaunch),
                uint64(month * vm.parseJsonUint(file, string.concat(at, "cliff_months"))),
                uint64(month * vm.parseJsonUint(file, string.concat(at, "linear_months")))
            );
            Bucket memory bucket = buckets[i];
            wallets[i] = new Vesting{value: bucket.vesting}(
                bucket.name, beneficiary(i), launch, bucket.cliff, bucket.linear
            );
        }
    }

    function beneficiary(uint256 index) internal pure returns (address) {
        return address(uint160(0xBE0 + index));
    }

    function indexOf(string memory name) internal view returns (uint256) {
        for (uint256 i; i < BUCKETS; ++i) {
            if (keccak256(bytes(buckets[i].name)) == keccak256(bytes(name))) return i;
        }
        revert();
    }
}

contract VestingTest is Allocated {
    function test_TheFilesBucketsAreTheWholeSupplyAnd2155BasisPointsCirculateAtLaunch() public view {
        uint256 sum;
        uint256 circulating;
        for (uint256 i; i < BUCKETS; ++i) {
            sum += buckets[i].atLaunch + buckets[i].vesting;
            circulating += buckets[i].atLaunch + wallets[i].vestedAmount(launch);
        }
        vm.assertEq(sum, SUPPLY, "all of it");
        vm.assertEq(circulating, SUPPLY * 2_155 / 10_000, "21.55%");
    }

    function test_TeamAndInvestorsWaitTwelveMonthsAndThenVestOverThirtySix() public view {
        string[2] memory names = ["team", "investors"];
        for (uint256 i; i < 2; ++i) {
            uint256 index = indexOf(names[i]);
            (Vesting wallet, uint256 amount) = (wallets[index], buckets[index].vesting);
            uint64 month = 2_629_746;
            vm.assertEq(wallet.cliff(), 12 * month, "cliff");
            vm.assertEq(wallet.vestedAmount(launch + 12 * month), 0, "nothing at the cliff");
            vm.assertEq(wallet.vestedAmount(launch + 13 * month), amount / 36, "a month later");
            vm.assertEq(wallet.vestedAmount(launch + 30 * month), amount / 2, "half");
            vm.assertEq(wallet.vestedAmount(launch + 48 * month - 1) < amount ? 1 : 0, 1, "not before");
            vm.assertEq(wallet.vestedAmount(launch + 48 * month), amount, "all");
        }
    }

    function test_CommunityAndEcosystemVestFromTheLaunchOnOverFortyEightMonths() public view {
        string[2] memory names = ["community", "ecosystem"];
        for (uint256 i; i < 2; ++i) {
            uint256 index = indexOf(names[i]);
            (Vesting wallet, uint256 amount) = (wallets[index], buckets[index].vesting);
            uint64 month = 2_629_746;
            vm.assertEq(wallet.cliff(), 0, "no cliff");
            vm.assertEq(wallet.vestedAmount(launch), 0, "nothing at once");
            vm.assertEq(wallet.vestedAmount(launch + month), amount / 48, "a month later");
            vm.assertEq(wallet.vestedAmount(launch + 24 * month), amount / 2, "half");
            vm.assertEq(wallet.vestedAmount(launch + 48 * month), amount, "all");
        }
    }

    function testFuzz_WhatHasVestedIsLinearAfterTheCliffToTheWei(uint256 which, uint64 time) public view {
        Bucket memory bucket = buckets[which % BUCKETS];
        time = uint64(bound(time, 0, launch + 100 * 365 days));
        uint256 start = launch + bucket.cliff;
        uint256 expected;
        if (time >= start + bucket.linear) expected = bucket.vesting;
        else if (time > start) expected = bucket.vesting * (time - start) / bucket.linear;
        vm.assertEq(wallets[which % BUCKETS].vestedAmount(time), expected, "linear");
    }

    function test_AnyoneReleasesAndTheOwnerIsPaidWhoCannotGiveTheWalletUp() public {
        uint256 index = indexOf("team");
        Vesting wallet = wallets[index];
        vm.assertEq(bytes(wallet.bucket()), "team", "named");
        wallet.release();
        vm.assertEq(beneficiary(index).balance, 0, "nothing yet");
        vm.warp(launch + 30 * 2_629_746);
        wallet.release();
        vm.assertEq(beneficiary(index).balance, buckets[index].vesting / 2, "half");
        wallet.release();
        vm.assertEq(beneficiary(index).balance, buckets[index].vesting / 2, "once");
        vm.startPrank(beneficiary(index));
        vm.expectRevert(Vesting.CannotRenounce.selector);
        wallet.renounceOwnership();
        wallet.transferOwnership(address(0xABC));
        vm.stopPrank();
        vm.warp(launch + 48 * 2_629_746);
        wallet.release();
        vm.assertEq(address(0xABC).balance, buckets[index].vesting / 2, "the new owner");
    }
}

/// @dev Anybody releases, owners hand on, time passes.
contract VestingActions is Test {
    Vesting private immutable _wallet;

    constructor(Vesting wallet) {
        _wallet = wallet;
    }

    function release() external {
        _wallet.release();
    }

    function handOn(uint8 to) external {
        vm.prank(_wallet.owner());
        _wallet.transferOwnership(address(uint160(0xBE0) + to % 3));
    }

    function wait_(uint32 time) external {
        vm.warp(block.timestamp + time % 90 days);
    }
}

contract VestingInvariants is Allocated {
    function setUp() public override {
        super.setUp();
        bytes4[] memory selectors = new bytes4[](3);
        selectors[0] = VestingActions.release.selector;
        selectors[1] = VestingActions.handOn.selector;
        selectors[2] = VestingActions.wait_.selector;
        target(address(new VestingActions(wallets[indexOf("team")])), selectors);
    }

    function invariant_NoMoreIsReleasedThanHasVestedAndTheRestIsThere() public view {
        uint256 index = indexOf("team");
        Vesting wallet = wallets[index];
        vm.assertLe(wallet.released(), wallet.vestedAmount(uint64(block.timestamp)), "never early");
        vm.assertEq(address(wallet).balance + wallet.released(), buckets[index].vesting, "nothing is lost");
    }
}
