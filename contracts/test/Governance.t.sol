// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {IGovernor} from "@openzeppelin/contracts/governance/IGovernor.sol";
import {IVotes} from "@openzeppelin/contracts/governance/utils/IVotes.sol";
import {GOPEN} from "../src/GOPEN.sol";
import {OpenLedgerGovernor} from "../src/OpenLedgerGovernor.sol";
import {ParameterKeys} from "../src/libraries/ParameterKeys.sol";
import {System} from "./utils/System.sol";
import {Test} from "./utils/Test.sol";

contract GovernanceTest is System {
    GOPEN private _token;
    TimelockController private _timelock;
    OpenLedgerGovernor private _governor;
    address private _holder = account("holder");

    function setUp() public override {
        super.setUp();
        _token = new GOPEN();
        address[] memory open = new address[](1);
        _timelock = new TimelockController(2 days, new address[](0), open, address(this));
        _governor = new OpenLedgerGovernor(
            IVotes(address(_token)),
            _timelock,
            OpenLedgerGovernor.Settings(1 days, 5 days, 1 days, 100 ether, 4, 1_000 ether)
        );
        _timelock.grantRole(_timelock.PROPOSER_ROLE(), address(_governor));
        access.grantRole(0, address(_timelock), 0);
        _wrap(_holder, 1_000 ether);
        vm.warp(block.timestamp + 1);
    }

    function test_AVoteChangesAParameterFromProposalToExecution() public {
        (uint256 id, bytes memory call) = _propose();
        vm.warp(block.timestamp + 1 days + 1);
        vm.prank(_holder);
        _governor.castVote(id, 1);
        vm.warp(block.timestamp + 5 days);
        (address[] memory targets, uint256[] memory values, bytes[] memory calls) = _action(call);
        _governor.queue(targets, values, calls, keccak256("why"));
        vm.expectRevert();
        _governor.execute(targets, values, calls, keccak256("why"));
        vm.warp(block.timestamp + 2 days);
        _governor.execute(targets, values, calls, keccak256("why"));
        vm.assertEq(parameters.get(ParameterKeys.FEE_HOST), 100_000, "changed");
    }

    function test_AVoteBelowTheFloorFailsHoweverLittleIsWrapped() public {
        vm.prank(_holder);
        _token.withdraw(1 ether);
        vm.warp(block.timestamp + 1);
        (uint256 id,) = _propose();
        vm.warp(block.timestamp + 1 days + 1);
        vm.prank(_holder);
        _governor.castVote(id, 1);
        vm.warp(block.timestamp + 5 days);
        vm.assertTrue(
            _governor.state(id) == IGovernor.ProposalState.Defeated, "all votes but below the floor"
        );
    }

    function test_TheQuorumGrowsWithWhatIsWrapped() public {
        vm.assertEq(_governor.quorum(block.timestamp - 1), 1_000 ether, "floor");
        _wrap(account("whale"), 999_000 ether);
        vm.warp(block.timestamp + 1);
        vm.assertEq(_governor.quorum(block.timestamp - 1), 40_000 ether, "4%");
    }

    function test_AQuorumReachedLateGivesTheOthersTimeToAnswer() public {
        (uint256 id,) = _propose();
        vm.warp(_governor.proposalDeadline(id) - 1);
        vm.prank(_holder);
        _governor.castVote(id, 1);
        vm.assertEq(_governor.proposalDeadline(id), block.timestamp + 1 days, "extended");
    }

    function test_TheFloorIsChangedByVoteOnly() public {
        vm.expectRevert(abi.encodeWithSelector(IGovernor.GovernorOnlyExecutor.selector, address(this)));
        _governor.setQuorumFloor(0);
    }

    function test_attack_GovernanceCaptureWhileFewHaveWrapped() public {
        // The attacker wraps as much as everybody together, just below the floor: all votes, no quorum.
        address attacker = account("attacker");
        vm.prank(_holder);
        _token.withdraw(500 ether);
        _wrap(attacker, 999 ether);
        vm.warp(block.timestamp + 1);
        uint256 id = _grab(attacker, "first");
        vm.warp(block.timestamp + 1 days + 1);
        vm.prank(attacker);
        _governor.castVote(id, 1);
        vm.warp(_governor.proposalDeadline(id) + 1);
        vm.assertTrue(_governor.state(id) == IGovernor.ProposalState.Defeated, "below the floor");

        // With more than the floor it must show itself a day before anybody votes: time to wrap and answer.
        _wrap(attacker, 2_000 ether);
        vm.warp(block.timestamp + 1);
        id = _grab(attacker, "second");
        vm.warp(block.timestamp + 12 hours);
        _wrap(account("defender"), 5_000 ether);
        vm.warp(block.timestamp + 12 hours + 1);
        vm.prank(attacker);
        _governor.castVote(id, 1);
        vm.prank(account("defender"));
        _governor.castVote(id, 0);
        vm.warp(_governor.proposalDeadline(id) + 1);
        vm.assertTrue(_governor.state(id) == IGovernor.ProposalState.Defeated, "outvoted");

        // Votes that come at the last moment open the vote again, so that nobody wins by surprise.
        id = _grab(attacker, "third");
        vm.warp(_governor.proposalDeadline(id));
        vm.prank(attacker);
        _governor.castVote(id, 1);
        vm.warp(block.timestamp + 1 hours);
        vm.prank(account("defender"));
        _governor.castVote(id, 0);
        vm.warp(_governor.proposalDeadline(id) + 1);
        vm.assertTrue(_governor.state(id) == IGovernor.ProposalState.Defeated, "answered in the extension");
    }

    function test_TheFloorStaysInsideItsBoundsAndCountsForLaterVotesOnly() public {
        (uint256 id,) = _propose();
        vm.warp(block.timestamp + 1 days + 1);
        uint256 snapshot = _governor.proposalSnapshot(id);
        _byVote(499 ether, true);
        _byVote(1e26 + 1, true);
        _byVote(2_000 ether, false);
        vm.warp(block.timestamp + 1);
        vm.assertEq(_governor.quorumFloor(), 2_000 ether, "raised");
        vm.assertEq(_governor.quorum(block.timestamp - 1), 2_000 ether, "for what comes");
        vm.assertEq(_governor.quorum(snapshot), 1_000 ether, "not for what is open to vote");
    }

    function test_AProposerCanTakeAProposalBackBeforeItsVote() public {
        (uint256 id, bytes memory call) = _propose();
        vm.assertTrue(_governor.proposalNeedsQueuing(id), "goes through the timelock");
        (address[] memory targets, uint256[] memory values, bytes[] memory calls) = _action(call);
        vm.prank(_holder);
        _governor.cancel(targets, values, calls, keccak256("why"));
        vm.assertTrue(_governor.state(id) == IGovernor.ProposalState.Canceled, "taken back");
        vm.prank(account("nobody"));
        vm.expectRevert();
        _governor.propose(targets, values, calls, "too few votes");
    }

    function testFuzz_VotesAreWhatIsWrapped(uint256 wrapped, uint256 unwrapped) public {
        wrapped = bound(wrapped, 0, 1e27);
        unwrapped = bound(unwrapped, 0, wrapped);
        address someone = account("someone");
        _wrap(someone, wrapped);
        vm.prank(someone);
        _token.withdraw(unwrapped);
        vm.assertEq(_token.getVotes(someone), wrapped - unwrapped, "votes");
        vm.assertEq(_token.totalSupply(), address(_token).balance, "backed");
        vm.assertEq(someone.balance, unwrapped, "returned");
    }

    function test_TheTokenAndTheGovernorKeepTheirClockAndTheirThresholdInPlainSight() public view {
        vm.assertEq(bytes(_token.CLOCK_MODE()), "mode=timestamp", "clock");
        vm.assertEq(_token.nonces(_holder), 0, "nonce");
        vm.assertEq(_governor.proposalThreshold(), 100 ether, "threshold");
    }

    function _wrap(address holder, uint256 amount) private {
        vm.deal(holder, amount);
        vm.startPrank(holder);
        _token.deposit{value: amount}();
        _token.delegate(holder);
        vm.stopPrank();
    }

    /// @dev A proposal to hand everything over.
    function _grab(address proposer, string memory why) private returns (uint256) {
        bytes memory call = abi.encodeCall(access.grantRole, (0, proposer, 0));
        (address[] memory targets, uint256[] memory values, bytes[] memory calls) = _action(call);
        targets[0] = address(access);
        vm.prank(proposer);
        return _governor.propose(targets, values, calls, why);
    }

    /// @dev Takes a new floor from proposal to execution, which refuses it where it is out of bounds.
    function _byVote(uint256 floor, bool refused) private {
        (address[] memory targets, uint256[] memory values, bytes[] memory calls) =
            _action(abi.encodeCall(_governor.setQuorumFloor, (floor)));
        targets[0] = address(_governor);
        vm.prank(_holder);
        uint256 id = _governor.propose(targets, values, calls, "floor");
        vm.warp(_governor.proposalSnapshot(id) + 1);
        vm.prank(_holder);
        _governor.castVote(id, 1);
        vm.warp(_governor.proposalDeadline(id) + 1);
        _governor.queue(targets, values, calls, keccak256("floor"));
        vm.warp(_governor.proposalEta(id));
        bytes memory out = abi.encodeWithSelector(
            OpenLedgerGovernor.QuorumFloorOutOfBounds.selector, floor, 500 ether, 1e26
        );
        if (refused) vm.expectRevert(out);
        _governor.execute(targets, values, calls, keccak256("floor"));
    }

    function _propose() private returns (uint256 id, bytes memory call) {
        call = abi.encodeCall(parameters.set, (ParameterKeys.FEE_HOST, 100_000));
        (address[] memory targets, uint256[] memory values, bytes[] memory calls) = _action(call);
        vm.prank(_holder);
        id = _governor.propose(targets, values, calls, "why");
    }

    function _action(bytes memory call)
        private
        view
        returns (address[] memory targets, uint256[] memory values, bytes[] memory calls)
    {
        (targets, values, calls) = (new address[](1), new uint256[](1), new bytes[](1));
        (targets[0], calls[0]) = (address(parameters), call);
    }
}

/// @dev Random holders of gOPEN.
contract WrapActions is Test {
    GOPEN private immutable _token;

    address[] public holders;

    constructor(GOPEN token) {
        _token = token;
        for (uint160 i = 1; i <= 4; ++i) {
            holders.push(address(0xB0B000 + i));
        }
    }

    function wrap(uint256 who, uint256 amount) external {
        address holder = holders[who % 4];
        amount = bound(amount, 0, 1_000 ether);
        vm.deal(holder, holder.balance + amount);
        vm.startPrank(holder);
        (bool sent,) = address(_token).call{value: amount}("");
        vm.assertTrue(sent, "wrapped by sending");
        vm.stopPrank();
    }

    function unwrap(uint256 who, uint256 amount) external {
        address holder = holders[who % 4];
        uint256 held = _token.balanceOf(holder);
        vm.prank(holder);
        _token.withdraw(bound(amount, 0, held + held / 8));
    }

    function send(uint256 from, uint256 to, uint256 amount) external {
        address holder = holders[from % 4];
        uint256 held = _token.balanceOf(holder);
        vm.prank(holder);
        bool moved = _token.transfer(holders[to % 4], bound(amount, 0, held));
        vm.assertTrue(moved, "moved");
    }

    function delegate(uint256 from, uint256 to) external {
        vm.prank(holders[from % 4]);
        _token.delegate(holders[to % 4]);
    }
}

contract WrapInvariants is Test {
    GOPEN private _token;
    WrapActions private _actions;

    function setUp() public {
        _token = new GOPEN();
        _actions = new WrapActions(_token);
        bytes4[] memory selectors = new bytes4[](4);
        selectors[0] = WrapActions.wrap.selector;
        selectors[1] = WrapActions.unwrap.selector;
        selectors[2] = WrapActions.send.selector;
        selectors[3] = WrapActions.delegate.selector;
        target(address(_actions), selectors);
    }

    function invariant_EveryTokenIsBackedAndVotesAreTheDelegatedTokens() public view {
        vm.assertEq(address(_token).balance, _token.totalSupply(), "backed 1:1");
        uint256 votes;
        uint256 delegated;
        for (uint256 i; i < 4; ++i) {
            address holder = _actions.holders(i);
            votes += _token.getVotes(holder);
            if (_token.delegates(holder) != address(0)) delegated += _token.balanceOf(holder);
        }
        vm.assertEq(votes, delegated, "votes");
    }
}
