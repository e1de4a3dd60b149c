// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Governor} from "@openzeppelin/contracts/governance/Governor.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {
    GovernorCountingSimple
} from "@openzeppelin/contracts/governance/extensions/GovernorCountingSimple.sol";
import {
    GovernorPreventLateQuorum
} from "@openzeppelin/contracts/governance/extensions/GovernorPreventLateQuorum.sol";
import {GovernorSettings} from "@openzeppelin/contracts/governance/extensions/GovernorSettings.sol";
import {
    GovernorTimelockControl
} from "@openzeppelin/contracts/governance/extensions/GovernorTimelockControl.sol";
import {GovernorVotes} from "@openzeppelin/contracts/governance/extensions/GovernorVotes.sol";
import {
    GovernorVotesQuorumFraction
} from "@openzeppelin/contracts/governance/extensions/GovernorVotesQuorumFraction.sol";
import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";
import {IVotes} from "@openzeppelin/contracts/governance/utils/IVotes.sol";

/// @title Governor of OpenLedger
/// @notice Holders of gOPEN vote; what passes waits in the timelock and is then executed by anyone. A vote that reaches
/// its quorum late is extended, so that the other side can answer.
/// @dev The quorum is the larger of a fraction of all gOPEN and a fixed floor: it does not become cheap while few have
/// wrapped their OPEN. A vote can move the floor, but only inside fixed bounds, and a change counts for proposals whose
/// vote opens after it.
contract OpenLedgerGovernor is
    Governor,
    GovernorSettings,
    GovernorCountingSimple,
    GovernorVotes,
    GovernorVotesQuorumFraction,
    GovernorPreventLateQuorum,
    GovernorTimelockControl
{
    /// @dev Times in seconds, `proposalThreshold` and `quorumFloor` in wei of gOPEN, `quorumPercent` in percent.
    struct Settings {
        uint48 votingDelay;
        uint32 votingPeriod;
        uint48 lateExtension;
        uint256 proposalThreshold;
        uint256 quorumPercent;
        uint256 quorumFloor;
    }

    using Checkpoints for Checkpoints.Trace208;

    event QuorumFloorSet(uint256 before, uint256 afterwards);

    /// @notice The floor would be `floor` wei of gOPEN, outside [`minimum`, `maximum`].
    error QuorumFloorOutOfBounds(uint256 floor, uint256 minimum, uint256 maximum);

    /// @notice Bounds of the floor that no vote can leave: the least is fixed at deployment, the most is a tenth of all
    /// OPEN, so that votes cannot lock themselves out.
    uint256 public constant MAX_QUORUM_FLOOR = 100_000_000 ether;
    /// @notice Least floor that a vote can set, in wei of gOPEN.
    uint256 public immutable minQuorumFloor;

    Checkpoints.Trace208 private _floors;

    constructor(IVotes token, TimelockController timelock, Settings memory settings)
        Governor("OpenLedger")
        GovernorSettings(settings.votingDelay, settings.votingPeriod, settings.proposalThreshold)
        GovernorVotes(token)
        GovernorVotesQuorumFraction(settings.quorumPercent)
        GovernorPreventLateQuorum(settings.lateExtension)
        GovernorTimelockControl(timelock)
    {
        minQuorumFloor = settings.quorumFloor / 2;
        _setQuorumFloor(settings.quorumFloor);
    }

    /// @notice Changes the floor of the quorum. Only by a vote.
    /// @custom:misuse Lowering it makes capture cheaper; it can never fall below half of what it was at deployment.
    function setQuorumFloor(uint256 floor) external onlyGovernance {
        _setQuorumFloor(floor);
    }

    /// @notice The present floor of the quorum, in wei of gOPEN.
    /// @custom:misuse Proposals that are open to vote keep the floor of their time; ask {quorum} for them.
    function quorumFloor() external view returns (uint256) {
        return _floors.latest();
    }

    /// @notice Votes for and abstaining that a proposal needs which was open to vote at `timepoint`.
    /// @custom:misuse Known for times that are over only.
    function quorum(uint256 timepoint)
        public
        view
        override(Governor, GovernorVotesQuorumFraction)
        returns (uint256)
    {
        uint256 fraction = super.quorum(timepoint);
        uint256 floor = _floors.upperLookupRecent(uint48(timepoint));
        return fraction > floor ? fraction : floor;
    }

    /// @notice Where a proposal stands.
    /// @custom:misuse Succeeded is not executed: queue it, wait for the timelock, execute it.
    function state(uint256 proposalId)
        public
        view
        override(Governor, GovernorTimelockControl)
        returns (ProposalState)
    {
        return super.state(proposalId);
    }

    /// @notice Always true: what passes waits in the timelock.
    /// @custom:misuse Executing a proposal that was not queued fails.
    function proposalNeedsQueuing(uint256 proposalId)
        public
        view
        override(Governor, GovernorTimelockControl)
        returns (bool)
    {
        return super.proposalNeedsQueuing(proposalId);
    }

    /// @notice When the vote ends, in seconds.
    /// @custom:misuse May move once: a quorum that is reached late extends it.
    function proposalDeadline(uint256 proposalId)
        public
        view
        override(Governor, GovernorPreventLateQuorum)
        returns (uint256)
    {
        return super.proposalDeadline(proposalId);
    }

    /// @notice Votes that a proposer needs, in wei of gOPEN.
    /// @custom:misuse Counted as of the moment before the proposal: wrap and delegate first.
    function proposalThreshold() public view override(Governor, GovernorSettings) returns (uint256) {
        return super.proposalThreshold();
    }

    function _setQuorumFloor(uint256 floor) private {
        require(
            floor >= minQuorumFloor && floor <= MAX_QUORUM_FLOOR,
            QuorumFloorOutOfBounds(floor, minQuorumFloor, MAX_QUORUM_FLOOR)
        );
        emit QuorumFloorSet(_floors.latest(), floor);
        _floors.push(clock(), uint208(floor));
    }

    function _tallyUpdated(uint256 proposalId) internal override(Governor, GovernorPreventLateQuorum) {
        super._tallyUpdated(proposalId);
    }

    function _queueOperations(
        uint256 proposalId,
        address[] memory targets,
        uint256[] memory values,
        bytes[] memory calldatas,
        bytes32 descriptionHash
    ) internal override(Governor, GovernorTimelockControl) returns (uint48) {
        return super._queueOperations(proposalId, targets, values, calldatas, descriptionHash);
    }

    function _executeOperations(
        uint256 proposalId,
        address[] memory targets,
        uint256[] memory values,
        bytes[] memory calldatas,
        bytes32 descriptionHash
    ) internal override(Governor, GovernorTimelockControl) {
        super._executeOperations(proposalId, targets, values, calldatas, descriptionHash);
    }

    function _cancel(
        address[] memory targets,
        uint256[] memory values,
        bytes[] memory calldatas,
        bytes32 descriptionHash
    ) internal override(Governor, GovernorTimelockControl) returns (uint256) {
        return super._cancel(targets, values, calldatas, descriptionHash);
    }

    function _executor() internal view override(Governor, GovernorTimelockControl) returns (address) {
        return super._executor();
    }
}
