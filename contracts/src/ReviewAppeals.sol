// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDatanetRegistry} from "./interfaces/IDatanetRegistry.sol";
import {IReviewAppeals} from "./interfaces/IReviewAppeals.sol";
import {IRuntimeParameters} from "./interfaces/IRuntimeParameters.sol";
import {IStakeManager} from "./interfaces/IStakeManager.sol";
import {Bitmaps} from "./libraries/Bitmaps.sol";
import {ParameterKeys} from "./libraries/ParameterKeys.sol";
import {Payer} from "./libraries/Payer.sol";
import {StakeRoles} from "./libraries/StakeRoles.sol";
import {VerdictTally} from "./libraries/VerdictTally.sol";

/// @title Challenges of review decisions
/// @notice See {IReviewAppeals}. The contract holds exactly the bonds of challenges that are not settled, what their
/// challengers won of contributors' bonds, and what it owes to receivers that refused a payment.
contract ReviewAppeals is IReviewAppeals, Payer {
    using Bitmaps for bytes;

    /// @dev How both bonds of a challenge are divided, in wei.
    struct Shares {
        uint256 challenger;
        uint256 defender;
        uint256 jurors;
        uint256 treasury;
    }

    /// @notice The numbers that governance may change.
    IRuntimeParameters public immutable parameters;
    /// @notice The stakes that stand behind roles.
    IStakeManager public immutable stakeManager;
    /// @notice The registry whose decisions are challenged.
    IDatanetRegistry public immutable registry;
    /// @notice Receives what no side and no juror gets.
    address public immutable treasury;

    mapping(uint256 id => uint256) public challengeCount;
    mapping(uint256 id => bytes) public disputed;
    mapping(uint256 id => bytes) public overturned;
    mapping(uint256 id => mapping(uint256 number => Challenge)) private _challenges;

    constructor(
        IRuntimeParameters parameters_,
        IStakeManager stakeManager_,
        IDatanetRegistry registry_,
        address treasury_
    ) {
        require(treasury_ != address(0), ZeroAddress());
        parameters = parameters_;
        stakeManager = stakeManager_;
        registry = registry_;
        treasury = treasury_;
    }

    /// @notice Takes the part of contributors' bonds that challengers won. From the registry only.
    /// @custom:misuse OPEN sent from elsewhere is refused.
    receive() external payable {
        require(msg.sender == address(registry), NotRegistry(msg.sender));
    }

    /// @inheritdoc IReviewAppeals
    function challenge(uint256 id, bytes calldata records) external payable returns (uint256 number) {
        IDatanetRegistry.Contribution memory entry = _inState(id, IDatanetRegistry.State.Decided);
        uint256 end = registry.review(id).challengeEnd;
        require(block.timestamp < end, ChallengeWindowOver(end));
        VerdictTally.check(records, entry.count);
        bytes memory asked = records;
        uint256 count = asked.count();
        require(count > 0, EmptyChallenge(id));
        _requireParty(entry);
        uint256 bond = count * parameters.get(ParameterKeys.BOND_CHALLENGE);
        require(msg.value == bond, WrongChallengeBond(msg.value, bond));

        bytes memory before = disputed[id];
        if (before.length == 0) {
            disputed[id] = asked;
        } else {
            uint256 overlapping = before.both(asked).count();
            require(overlapping == 0, AlreadyChallenged(id, overlapping));
            disputed[id] = before.either(asked);
        }
        number = ++challengeCount[id];
        _challenges[id][number] = Challenge(msg.sender, address(0), uint32(count), false, bond, asked);
        emit DecisionChallenged(id, number, msg.sender, asked, bond);
    }

    /// @inheritdoc IReviewAppeals
    function defend(uint256 id, uint256 number) external payable {
        IDatanetRegistry.Contribution memory entry = _inState(id, IDatanetRegistry.State.Decided);
        uint256 end = registry.review(id).defendEnd;
        require(block.timestamp < end, DefenceWindowOver(end));
        Challenge storage dispute = _known(id, number);
        require(dispute.defender == address(0), AlreadyDefended(id, number));
        require(dispute.challenger != msg.sender, ChallengerCannotDefend(msg.sender));
        _requireParty(entry);
        require(msg.value == dispute.bond, WrongChallengeBond(msg.value, dispute.bond));
        dispute.defender = msg.sender;
        emit DecisionDefended(id, number, msg.sender);
    }

    /// @inheritdoc IReviewAppeals
    function judge(uint256 id, bytes calldata before, bytes calldata judged)
        external
        returns (bytes memory accepted, uint256 turnedDown)
    {
        require(msg.sender == address(registry), NotRegistry(msg.sender));
        bytes memory decided = before;
        bytes memory turned = decided.differing(judged).both(disputed[id]);
        overturned[id] = turned;
        return (decided.differing(turned), turned.both(decided).count());
    }

    /// @inheritdoc IReviewAppeals
    function settleChallenge(uint256 id, uint256 number) external nonReentrant {
        IDatanetRegistry.Contribution memory entry = _inState(id, IDatanetRegistry.State.Finalised);
        Challenge storage dispute = _known(id, number);
        require(!dispute.settled, AlreadySettled(id, number));
        dispute.settled = true;
        if (registry.review(id).lapsed) {
            bool defended = dispute.defender != address(0);
            emit ChallengeSettled(id, number, 0, dispute.bond, defended ? dispute.bond : 0);
            _pay(dispute.challenger, dispute.bond);
            if (defended) _pay(dispute.defender, dispute.bond);
            return;
        }
        bytes memory turned = dispute.records.both(overturned[id]);
        uint256 count = turned.count();
        uint256 turnedDown = count - turned.both(registry.acceptedBitmap(id)).count();
        Shares memory shares = _shares(dispute, count);
        shares.challenger += entry.bond / entry.count / 2 * turnedDown;
        emit ChallengeSettled(id, number, count, shares.challenger, shares.defender);
        _pay(dispute.challenger, shares.challenger);
        _pay(dispute.defender, shares.defender);
        _payEvenly(registry.reviewersOf(id), shares.jurors, shares.jurors + shares.treasury, treasury);
    }

    /// @inheritdoc IReviewAppeals
    function challenges(uint256 id, uint256 number) external view returns (Challenge memory) {
        return _known(id, number);
    }

    /// @dev Who wins a record gets its own bond for it and half of the other side's; jurors get the other half. Where
    /// nobody defended, the treasury stands in for the winner.
    function _shares(Challenge storage dispute, uint256 turned) private view returns (Shares memory shares) {
        uint256 won = dispute.bond / dispute.count * turned;
        uint256 lost = dispute.bond - won;
        shares.challenger = won;
        shares.jurors = lost / 2;
        if (dispute.defender == address(0)) {
            shares.treasury = lost - lost / 2;
        } else {
            shares.challenger += won - won / 2;
            shares.defender = lost + lost - lost / 2;
            shares.jurors += won / 2;
        }
    }

    /// @dev The contributor and the owner are never drawn, so they may hold reviewers' stake and take sides.
    function _requireParty(IDatanetRegistry.Contribution memory entry) private view {
        if (msg.sender == entry.contributor || msg.sender == registry.datanet(entry.datanet).owner) return;
        require(stakeManager.stakeOf(StakeRoles.REVIEWER, msg.sender) == 0, PartyIsReviewer(msg.sender));
    }

    function _inState(uint256 id, IDatanetRegistry.State needed)
        private
        view
        returns (IDatanetRegistry.Contribution memory entry)
    {
        entry = registry.contribution(id);
        require(entry.state == needed, NotInState(id, uint8(entry.state), uint8(needed)));
    }

    function _known(uint256 id, uint256 number) private view returns (Challenge storage dispute) {
        dispute = _challenges[id][number];
        require(dispute.challenger != address(0), UnknownChallenge(id, number));
    }
}
