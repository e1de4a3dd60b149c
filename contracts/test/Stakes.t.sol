// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {IStakeManager} from "../src/interfaces/IStakeManager.sol";
import {ParameterKeys} from "../src/libraries/ParameterKeys.sol";
import {StakeRoles} from "../src/libraries/StakeRoles.sol";
import {System} from "./utils/System.sol";
import {Test} from "./utils/Test.sol";

contract StakeManagerTest is System {
    address private _alice = account("alice");

    function test_StakeBelowTheMinimumIsRefused() public {
        vm.deal(_alice, 999 ether);
        vm.prank(_alice);
        vm.expectRevert(
            abi.encodeWithSelector(IStakeManager.StakeBelowMinimum.selector, 999 ether, 1_000 ether)
        );
        stakes.stake{value: 999 ether}(StakeRoles.REVIEWER);
    }

    function test_StakeCountsFromTheNextBlockOnAndLeavesAtOnce() public {
        stakeAs(_alice, StakeRoles.VALIDATOR, 5_000 ether);
        uint256 staked = block.number;
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.BlockNotOver.selector, staked));
        stakes.weightAt(StakeRoles.VALIDATOR, _alice, staked);
        nextBlock();
        vm.assertEq(stakes.weightAt(StakeRoles.VALIDATOR, _alice, staked), 5_000 ether, "weight");
        vm.assertEq(stakes.weightAt(StakeRoles.VALIDATOR, _alice, staked - 1), 0, "not before");
        vm.prank(_alice);
        stakes.requestUnstake(StakeRoles.VALIDATOR, 5_000 ether);
        nextBlock();
        vm.assertEq(stakes.totalWeightAt(StakeRoles.VALIDATOR, block.number - 1), 0, "left");
        vm.assertEq(stakes.members(StakeRoles.VALIDATOR).length, 0, "no member");
    }

    function test_UnstakingTakesTheUnbondingTimeAndLeavesNoRestBelowTheMinimum() public {
        stakeAs(_alice, StakeRoles.HOST, 1_500 ether);
        vm.startPrank(_alice);
        vm.expectRevert(
            abi.encodeWithSelector(IStakeManager.StakeBelowMinimum.selector, 999 ether, 1_000 ether)
        );
        stakes.requestUnstake(StakeRoles.HOST, 501 ether);
        stakes.requestUnstake(StakeRoles.HOST, 500 ether);
        uint256 release = block.timestamp + 7 days;
        vm.warp(release - 1);
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.StillUnbonding.selector, release));
        stakes.withdraw(StakeRoles.HOST);
        vm.warp(release);
        stakes.withdraw(StakeRoles.HOST);
        vm.expectRevert(
            abi.encodeWithSelector(IStakeManager.NothingToWithdraw.selector, StakeRoles.HOST, _alice)
        );
        stakes.withdraw(StakeRoles.HOST);
        vm.stopPrank();
        vm.assertEq(_alice.balance, 500 ether, "paid");
        vm.assertTrue(stakes.isActive(StakeRoles.HOST, _alice), "still a host");
    }

    function test_SlashingReachesLeavingStakeAndStopsAtTheCap() public {
        stakeAs(_alice, StakeRoles.REVIEWER, 1_000 ether);
        vm.prank(_alice);
        stakes.requestUnstake(StakeRoles.REVIEWER, 1_000 ether);
        access.grantRole(SLASHER, address(this), 0);
        uint256 slashed = stakes.slash(StakeRoles.REVIEWER, _alice, 5_000 ether, treasury, "test");
        vm.assertEq(slashed, 500 ether, "half at most");
        vm.assertEq(treasury.balance, 500 ether, "sent");
        (uint256 leaving,) = stakes.unbondingOf(StakeRoles.REVIEWER, _alice);
        vm.assertEq(leaving, 500 ether, "rest");
        vm.assertEq(
            stakes.slash(StakeRoles.REVIEWER, account("nobody"), 1 ether, treasury, "test"),
            0,
            "nothing there"
        );
    }

    function test_SlashingTakesNoMoreThanIsLeftWhenStakeLeftWithinTheRound() public {
        parameters.set(ParameterKeys.SLASH_ROUND, 30 days);
        parameters.set(ParameterKeys.SLASH_CAP, 1_000_000);
        stakeAs(_alice, StakeRoles.HOST, 2_000 ether);
        access.grantRole(SLASHER, address(this), 0);
        stakes.slash(StakeRoles.HOST, _alice, 1 ether, treasury, "first");
        vm.startPrank(_alice);
        stakes.requestUnstake(StakeRoles.HOST, 999 ether);
        vm.warp(block.timestamp + 7 days);
        stakes.withdraw(StakeRoles.HOST);
        vm.stopPrank();
        uint256 slashed = stakes.slash(StakeRoles.HOST, _alice, 5_000 ether, treasury, "second");
        vm.assertEq(slashed, 1_000 ether, "all that was left, though the cap was higher");
        vm.assertEq(stakes.totalStake(StakeRoles.HOST), 0, "nothing stays");
        vm.assertEq(address(stakes).balance, 0, "nothing stays");
    }

    function test_StakingNeedsMoneyAndOnlyAccountsWithStakeAreMembers() public {
        vm.expectRevert(IStakeManager.AmountIsZero.selector);
        stakes.stake(StakeRoles.HOST);
        stakeAs(_alice, StakeRoles.HOST, 1_000 ether);
        stakeAs(account("bob"), StakeRoles.HOST, 1_000 ether);
        vm.prank(_alice);
        stakes.requestUnstake(StakeRoles.HOST, 1_000 ether);
        address[] memory members = stakes.members(StakeRoles.HOST);
        vm.assertEq(members.length, 1, "who left is none");
        vm.assertEq(members[0], account("bob"), "who stayed is");
        vm.assertEq(stakes.minimumStake(StakeRoles.AGENT), 1, "any stake");
    }

    function test_OnlyASlasherSlashes() public {
        stakeAs(_alice, StakeRoles.REVIEWER, 1_000 ether);
        vm.prank(account("mallory"));
        vm.expectRevert(
            abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, account("mallory"))
        );
        stakes.slash(StakeRoles.REVIEWER, _alice, 1, account("mallory"), "theft");
    }

    function test_ARaisedMinimumTakesWeightAwayOnceRefreshed() public {
        stakeAs(_alice, StakeRoles.REVIEWER, 1_000 ether);
        parameters.set(ParameterKeys.STAKE_REVIEWER, 2_000 ether);
        stakes.refresh(StakeRoles.REVIEWER, _alice);
        nextBlock();
        vm.assertEq(stakes.weightAt(StakeRoles.REVIEWER, _alice, block.number - 1), 0, "no weight");
        vm.assertTrue(!stakes.isActive(StakeRoles.REVIEWER, _alice), "not active");
    }

    function test_AnUnknownRoleIsRefused() public {
        vm.deal(_alice, 1 ether);
        vm.startPrank(_alice);
        for (uint8 i; i < 2; ++i) {
            uint8 role = i == 0 ? 0 : StakeRoles.LAST + 1;
            vm.expectRevert(abi.encodeWithSelector(IStakeManager.UnknownRole.selector, role));
            stakes.stake{value: 1 ether}(role);
        }
        vm.stopPrank();
    }

    function test_attack_ReentrancyOnWithdrawals() public {
        Reentrant thief = new Reentrant(stakes);
        stakeAs(address(thief), StakeRoles.OPERATOR, 10 ether);
        stakeAs(_alice, StakeRoles.OPERATOR, 10 ether);
        thief.unstake();
        vm.warp(block.timestamp + 7 days);
        vm.expectRevert();
        thief.withdraw();
        vm.assertEq(address(stakes).balance, 20 ether, "nothing left");
    }
}

/// @dev Withdraws again while it is being paid.
contract Reentrant {
    StakeManager private immutable _stakes;

    constructor(StakeManager stakes) {
        _stakes = stakes;
    }

    receive() external payable {
        _stakes.withdraw(StakeRoles.OPERATOR);
    }

    function unstake() external {
        _stakes.requestUnstake(StakeRoles.OPERATOR, 10 ether);
    }

    function withdraw() external {
        _stakes.withdraw(StakeRoles.OPERATOR);
    }
}

/// @dev Random stakers and a random slasher.
contract StakeActions is Test {
    StakeManager private immutable _stakes;
    address private immutable _till;

    address[] public accounts;

    constructor(StakeManager stakes, address till) {
        _stakes = stakes;
        _till = till;
        for (uint160 i = 1; i <= 3; ++i) {
            accounts.push(address(0xA11CE000 + i));
        }
    }

    function stake(uint256 who, uint8 role, uint256 amount) external {
        amount = bound(amount, 1, 10_000 ether) + 4_000 ether;
        address account = accounts[who % 3];
        vm.deal(account, account.balance + amount);
        vm.prank(account);
        _stakes.stake{value: amount}(_role(role));
    }

    function requestUnstake(uint256 who, uint8 role, uint256 amount) external {
        address account = accounts[who % 3];
        uint256 staked = _stakes.stakeOf(_role(role), account);
        vm.prank(account);
        _stakes.requestUnstake(_role(role), amount % 2 == 0 ? staked : bound(amount, 1, staked + 1));
    }

    function withdraw(uint8 role) external {
        for (uint256 i; i < 3; ++i) {
            (uint256 leaving, uint256 releaseTime) = _stakes.unbondingOf(_role(role), accounts[i]);
            vm.prank(accounts[i]);
            try _stakes.withdraw(_role(role)) {
                vm.assertTrue(leaving > 0 && block.timestamp >= releaseTime, "only what is free");
            } catch {
                vm.assertTrue(leaving == 0 || block.timestamp < releaseTime, "all that is free");
            }
        }
    }

    function slash(uint256 who, uint8 role, uint256 amount) external {
        _stakes.slash(_role(role), accounts[who % 3], bound(amount, 0, 10_000 ether), _till, "invariant");
    }

    function pass(uint256 time) external {
        vm.warp(block.timestamp + bound(time, 1, 10 days));
        nextBlock();
    }

    function _role(uint8 role) private pure returns (uint8) {
        return role % 2 + 1;
    }
}

contract StakeInvariants is System {
    StakeActions private _actions;

    function setUp() public override {
        super.setUp();
        _actions = new StakeActions(stakes, treasury);
        access.grantRole(SLASHER, address(_actions), 0);
        bytes4[] memory selectors = new bytes4[](5);
        selectors[0] = StakeActions.stake.selector;
        selectors[1] = StakeActions.requestUnstake.selector;
        selectors[2] = StakeActions.withdraw.selector;
        selectors[3] = StakeActions.slash.selector;
        selectors[4] = StakeActions.pass.selector;
        target(address(_actions), selectors);
    }

    function invariant_TheContractHoldsExactlyWhatIsStakedAndLeaving() public view {
        uint256 sum;
        for (uint8 role = 1; role <= StakeRoles.LAST; ++role) {
            uint256 staked;
            for (uint256 i; i < 3; ++i) {
                address staker = _actions.accounts(i);
                staked += stakes.stakeOf(role, staker);
                (uint256 leaving,) = stakes.unbondingOf(role, staker);
                sum += leaving;
            }
            vm.assertEq(stakes.totalStake(role), staked, "total");
            sum += staked;
        }
        vm.assertEq(address(stakes).balance, sum, "balance");
    }

    function invariant_WeightIsTheStakeOfActiveAccountsUpToTheReviewersCap() public {
        nextBlock();
        for (uint8 role = 1; role <= StakeRoles.LAST; ++role) {
            uint256 sum;
            for (uint256 i; i < 3; ++i) {
                address staker = _actions.accounts(i);
                uint256 weight = stakes.weightAt(role, staker, block.number - 1);
                uint256 expected = stakes.isActive(role, staker) ? stakes.stakeOf(role, staker) : 0;
                if (role == StakeRoles.REVIEWER && expected > 10_000 ether) expected = 10_000 ether;
                vm.assertEq(weight, expected, "weight");
                sum += weight;
            }
            vm.assertEq(stakes.totalWeightAt(role, block.number - 1), sum, "sum of weights");
        }
    }
}
