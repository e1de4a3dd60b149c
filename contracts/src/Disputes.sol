// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputes} from "./interfaces/IDisputes.sol";
import {IInferenceLedger} from "./interfaces/IInferenceLedger.sol";
import {IRewardsDistributor} from "./interfaces/IRewardsDistributor.sol";
import {IRuntimeParameters} from "./interfaces/IRuntimeParameters.sol";
import {IStakeManager} from "./interfaces/IStakeManager.sol";
import {BlockHashes} from "./libraries/BlockHashes.sol";
import {Lists} from "./libraries/Lists.sol";
import {ParameterKeys} from "./libraries/ParameterKeys.sol";
import {Payer} from "./libraries/Payer.sol";
import {StakeRoles} from "./libraries/StakeRoles.sol";

/// @title Court of disputes
/// @notice See {IDisputes}. The contract holds exactly the bonds of open disputes and what it owes to receivers that refused
/// a payment.
contract Disputes is IDisputes, Payer {
    struct Ballot {
        bytes32 commitment;
        bool revealed;
        bool upheld;
    }

    /// @notice Juries that are drawn before a dispute without a verdict ends without one.
    uint256 public constant MAX_ROUNDS = 3;

    uint256 private constant PPM = 1_000_000;

    /// @notice The numbers that governance may change.
    IRuntimeParameters public immutable parameters;
    /// @notice The stakes that stand behind roles.
    IStakeManager public immutable stakeManager;
    /// @notice The ledger of receipts.
    IInferenceLedger public immutable ledger;
    /// @notice The distributor of fees.
    IRewardsDistributor public immutable distributor;
    /// @notice Receives what nobody else does.
    address public immutable treasury;

    uint256 public disputeCount;
    mapping(uint256 batchId => bool) public isDisabled;
    mapping(Kind kind => mapping(uint256 subject => mapping(uint256 sequence => uint256))) public openDispute;

    mapping(uint256 id => Dispute) private _disputes;
    mapping(uint256 id => address[]) private _juries;
    mapping(uint256 id => mapping(uint256 round => mapping(address juror => Ballot))) private _ballots;
    mapping(uint256 id => mapping(address validator => bool)) private _slashed;

    constructor(
        IRuntimeParameters parameters_,
        IStakeManager stakeManager_,
        IInferenceLedger ledger_,
        IRewardsDistributor distributor_,
        address treasury_
    ) {
        require(treasury_ != address(0), ZeroAddress());
        parameters = parameters_;
        stakeManager = stakeManager_;
        ledger = ledger_;
        distributor = distributor_;
        treasury = treasury_;
    }

    /// @dev Slashed stake comes back through here.
    receive() external payable {
        require(msg.sender == address(stakeManager), WrongBond(msg.value, 0));
    }

    /// @inheritdoc IDisputes
    function challengeReceipt(
        uint256 batchId,
        IInferenceLedger.Receipt calldata receipt,
        bytes32[] calldata proof,
        bytes32 claim,
        bytes32 evidence
    ) external payable returns (uint256 id) {
        require(ledger.verifyReceipt(batchId, receipt, proof), NotPosted(batchId, receipt.sequence));
        require(claim != receipt.sharesRoot, NothingToDispute(claim));
        require(!isDisabled[batchId], BatchAlreadyDisabled(batchId));
        uint256 end = ledger.batch(batchId).time + parameters.get(ParameterKeys.DISPUTE_WINDOW);
        require(block.timestamp <= end, WindowOver(end));
        id = _open(Kind.Receipt, batchId, receipt.sequence, receipt.host, claim, evidence);
        _disputes[id].holdId = distributor.hold(batchId);
    }

    /// @inheritdoc IDisputes
    function challengeRoot(uint256 rootId, bytes32 claim, bytes32 evidence)
        external
        payable
        returns (uint256 id)
    {
        IRewardsDistributor.Root memory root = distributor.rootOf(rootId);
        require(claim != root.root, NothingToDispute(claim));
        id = _open(Kind.Root, rootId, 0, root.proposer, claim, evidence);
        _disputes[id].holdId = distributor.holdRoot(rootId);
    }

    /// @inheritdoc IDisputes
    function answer(uint256 id) external payable {
        Dispute storage entry = _inState(id, State.Open);
        require(block.timestamp < entry.answerEnd, AnswerTimeOver(entry.answerEnd));
        require(msg.sender != entry.challenger, ChallengerCannotAnswer(msg.sender));
        require(msg.value == entry.bond, WrongBond(msg.value, entry.bond));
        entry.state = State.Answered;
        entry.defender = msg.sender;
        entry.drawBlock = uint64(block.number);
        emit DisputeAnswered(id, msg.sender);
    }

    /// @inheritdoc IDisputes
    function drawJury(uint256 id) external returns (bool drawn) {
        Dispute storage entry = _inState(id, State.Answered);
        require(block.number > entry.drawBlock, DrawNotReady(id, entry.drawBlock));
        address[] memory jurors = _draw(id, entry);
        if (jurors.length == 0) {
            entry.drawBlock = uint64(block.number);
            emit DisputeDrawRenewed(id, block.number);
            return false;
        }
        uint256 commitEnd = block.timestamp + parameters.get(ParameterKeys.DISPUTE_COMMIT);
        uint256 revealEnd = commitEnd + parameters.get(ParameterKeys.DISPUTE_REVEAL);
        entry.state = State.Voting;
        entry.round += 1;
        entry.commitEnd = uint64(commitEnd);
        entry.revealEnd = uint64(revealEnd);
        (entry.committed, entry.upholds, entry.rejects) = (0, 0, 0);
        _juries[id] = jurors;
        emit DisputeJuryDrawn(id, entry.round, jurors, commitEnd, revealEnd);
        return true;
    }

    /// @inheritdoc IDisputes
    function commitVerdict(uint256 id, bytes32 commitment) external {
        Dispute storage entry = _inState(id, State.Voting);
        require(block.timestamp < entry.commitEnd, CommitWindowOver(entry.commitEnd));
        require(commitment != 0, EmptyCommitment());
        uint256 size = _requireJuror(id);
        Ballot storage ballot = _ballots[id][entry.round][msg.sender];
        require(ballot.commitment == 0, AlreadyCommitted(id, msg.sender));
        ballot.commitment = commitment;
        entry.committed += 1;
        if (entry.committed == size) {
            uint64 window = entry.revealEnd - entry.commitEnd;
            entry.commitEnd = uint64(block.timestamp);
            entry.revealEnd = uint64(block.timestamp) + window;
        }
        emit DisputeVerdictCommitted(id, msg.sender, commitment);
    }

    /// @inheritdoc IDisputes
    function revealVerdict(uint256 id, bool upheld, bytes32 salt) external {
        Dispute storage entry = _inState(id, State.Voting);
        require(block.timestamp >= entry.commitEnd, CommitWindowOpen(entry.commitEnd));
        require(block.timestamp < entry.revealEnd, RevealWindowOver(entry.revealEnd));
        Ballot storage ballot = _ballots[id][entry.round][msg.sender];
        require(!ballot.revealed, AlreadyRevealed(id, msg.sender));
        bytes32 commitment = keccak256(abi.encode(id, entry.round, msg.sender, upheld, salt));
        require(ballot.commitment == commitment, CommitmentMismatch(ballot.commitment, commitment));
        ballot.revealed = true;
        ballot.upheld = upheld;
        if (upheld) entry.upholds += 1;
        else entry.rejects += 1;
        emit DisputeVerdictRevealed(id, msg.sender, upheld);
    }

    /// @inheritdoc IDisputes
    function resolve(uint256 id) external nonReentrant {
        Dispute storage entry = _known(id);
        if (entry.state == State.Open) {
            require(block.timestamp >= entry.answerEnd, AnswerTimeRunning(entry.answerEnd));
            _uphold(id, entry, new address[](0));
            return;
        }
        require(entry.state == State.Voting, WrongState(id, entry.state));
        uint256 revealed = entry.upholds + entry.rejects;
        bool commitOver = block.timestamp >= entry.commitEnd;
        require(
            block.timestamp >= entry.revealEnd || (commitOver && revealed == entry.committed),
            VotingNotOver(commitOver ? entry.revealEnd : entry.commitEnd)
        );
        address[] memory jurors = _juries[id];
        uint256 round = entry.round;
        if (revealed * 2 > jurors.length) {
            bool upheld = entry.upholds > entry.rejects;
            address[] memory majority = _voted(id, round, jurors, upheld);
            if (upheld) _uphold(id, entry, majority);
            else _reject(id, entry, majority);
        } else if (round < MAX_ROUNDS) {
            entry.state = State.Answered;
            entry.drawBlock = uint64(block.number);
            emit DisputeRoundVoided(id, round, block.number);
        } else {
            _close(id, entry, State.Void, 0);
            distributor.release(entry.holdId);
            _pay(entry.challenger, entry.bond);
            _pay(entry.defender, entry.bond);
        }
        _punishAbsent(id, round, jurors);
    }

    /// @inheritdoc IDisputes
    function strike(uint256 id) external {
        Dispute storage entry = _inState(id, State.Upheld);
        if (entry.holdId > 0 && distributor.strike(entry.holdId)) entry.holdId = 0;
    }

    /// @inheritdoc IDisputes
    function slashAttester(uint256 id, address validator) external nonReentrant {
        Dispute storage entry = _inState(id, State.Upheld);
        require(entry.defender != address(0), NoVerdict(id));
        require(_vouched(entry, validator), DidNotAttest(entry.subject, validator));
        require(!_slashed[id][validator], AlreadySlashed(id, validator));
        _slashed[id][validator] = true;
        uint256 slashed = _slash(StakeRoles.VALIDATOR, validator, "attested what was found wrong");
        emit AttesterSlashed(id, validator, slashed);
        _divide(slashed, entry.challenger, new address[](0));
    }

    /// @inheritdoc IDisputes
    function dispute(uint256 id) external view returns (Dispute memory) {
        return _known(id);
    }

    /// @inheritdoc IDisputes
    function jury(uint256 id) external view returns (address[] memory) {
        _known(id);
        return _juries[id];
    }

    function _open(
        Kind kind,
        uint256 subject,
        uint256 sequence,
        address accused,
        bytes32 claim,
        bytes32 evidence
    ) private returns (uint256 id) {
        uint256 bond = parameters.get(ParameterKeys.DISPUTE_BOND);
        require(msg.value == bond, WrongBond(msg.value, bond));
        uint256 running = openDispute[kind][subject][sequence];
        require(running == 0, AlreadyDisputed(running));
        id = ++disputeCount;
        openDispute[kind][subject][sequence] = id;
        Dispute storage entry = _disputes[id];
        entry.kind = kind;
        entry.state = State.Open;
        entry.challenger = msg.sender;
        entry.accused = accused;
        entry.bond = uint128(bond);
        entry.subject = subject;
        entry.sequence = sequence;
        entry.claim = claim;
        entry.evidence = evidence;
        entry.answerEnd = uint64(block.timestamp + parameters.get(ParameterKeys.DISPUTE_ANSWER));
        emit DisputeOpened(id, kind, subject, sequence, msg.sender, accused, claim, evidence);
    }

    /// @dev Nobody who has money in the dispute judges it: not the parties, nor who vouched for the receipt, unless too few
    /// others are there for a whole jury. Weights and seed are those of a block that was over before.
    function _draw(uint256 id, Dispute storage entry) private view returns (address[] memory jurors) {
        bytes32 hash = BlockHashes.hashOf(entry.drawBlock);
        if (hash == 0) return jurors;
        bytes32 seed = keccak256(abi.encode(block.chainid, address(this), id, entry.round, hash));
        uint256 size = parameters.get(ParameterKeys.DISPUTE_JURY);
        if (entry.kind == Kind.Receipt) {
            address[] memory vouchers = ledger.vouchersOf(entry.subject, entry.sequence);
            jurors = _drawWithout(entry, seed, size, vouchers);
            if (jurors.length == size || vouchers.length == 0) return jurors;
        }
        return _drawWithout(entry, seed, size, new address[](0));
    }

    function _drawWithout(Dispute storage entry, bytes32 seed, uint256 size, address[] memory others)
        private
        view
        returns (address[] memory)
    {
        address[] memory excluded = new address[](others.length + 3);
        (excluded[0], excluded[1], excluded[2]) = (entry.challenger, entry.accused, entry.defender);
        for (uint256 i; i < others.length; ++i) {
            excluded[i + 3] = others[i];
        }
        return stakeManager.draw(StakeRoles.VALIDATOR, seed, size, entry.drawBlock, excluded);
    }

    function _uphold(uint256 id, Dispute storage entry, address[] memory majority) private {
        uint256 lost = entry.defender == address(0) ? 0 : entry.bond;
        if (entry.kind == Kind.Receipt) {
            if (!isDisabled[entry.subject]) {
                isDisabled[entry.subject] = true;
                emit BatchDisabled(entry.subject, id);
                // One batch, one slashing: its other receipts are not paid either.
                lost += _slash(StakeRoles.HOST, entry.accused, "posted a wrong receipt");
            }
        }
        _close(id, entry, State.Upheld, lost);
        if (entry.holdId > 0 && distributor.strike(entry.holdId)) entry.holdId = 0;
        _pay(entry.challenger, entry.bond);
        _divide(lost, entry.challenger, majority);
    }

    function _reject(uint256 id, Dispute storage entry, address[] memory majority) private {
        _close(id, entry, State.Rejected, entry.bond);
        distributor.release(entry.holdId);
        _pay(entry.defender, entry.bond);
        _divide(entry.bond, entry.defender, majority);
    }

    /// @dev A validator answers for a root that it attested, and for the receipts in its sample of a batch.
    function _vouched(Dispute storage entry, address validator) private view returns (bool) {
        if (entry.kind == Kind.Root) return distributor.hasAttested(entry.subject, validator);
        address[] memory vouchers = ledger.vouchersOf(entry.subject, entry.sequence);
        return Lists.has(vouchers, vouchers.length, validator);
    }

    function _close(uint256 id, Dispute storage entry, State state, uint256 lost) private {
        entry.state = state;
        delete openDispute[entry.kind][entry.subject][entry.sequence];
        emit DisputeResolved(id, state, lost);
    }

    /// @dev The winner's and the jurors' parts are rounded down; the treasury gets the rest.
    function _divide(uint256 lost, address winner, address[] memory majority) private {
        if (lost == 0) return;
        uint256 reward = lost * parameters.get(ParameterKeys.DISPUTE_REWARD) / PPM;
        uint256 rest = lost - reward;
        if (majority.length > 0) {
            uint256 each = lost * parameters.get(ParameterKeys.DISPUTE_JURORS) / PPM / majority.length;
            rest -= each * majority.length;
            for (uint256 i; i < majority.length; ++i) {
                _pay(majority[i], each);
            }
        }
        _pay(winner, reward);
        _pay(treasury, rest);
    }

    function _slash(uint8 role, address account, string memory reason) private returns (uint256) {
        uint256 amount = parameters.get(ParameterKeys.DISPUTE_SLASH);
        return stakeManager.slash(role, account, amount, address(this), reason);
    }

    function _punishAbsent(uint256 id, uint256 round, address[] memory jurors) private {
        uint256 penalty = parameters.get(ParameterKeys.DISPUTE_NOREVEAL);
        for (uint256 i; i < jurors.length; ++i) {
            if (!_ballots[id][round][jurors[i]].revealed) {
                stakeManager.slash(StakeRoles.VALIDATOR, jurors[i], penalty, treasury, "verdict not revealed");
            }
        }
    }

    function _voted(uint256 id, uint256 round, address[] memory jurors, bool upheld)
        private
        view
        returns (address[] memory list)
    {
        list = new address[](jurors.length);
        uint256 count;
        for (uint256 i; i < jurors.length; ++i) {
            Ballot storage ballot = _ballots[id][round][jurors[i]];
            if (ballot.revealed && ballot.upheld == upheld) list[count++] = jurors[i];
        }
        assembly ("memory-safe") {
            mstore(list, count)
        }
    }

    function _requireJuror(uint256 id) private view returns (uint256 size) {
        address[] storage jurors = _juries[id];
        size = jurors.length;
        for (uint256 i; i < size; ++i) {
            if (jurors[i] == msg.sender) return size;
        }
        revert NotJuror(id, msg.sender);
    }

    function _known(uint256 id) private view returns (Dispute storage entry) {
        entry = _disputes[id];
        require(entry.state != State.None, UnknownDispute(id));
    }

    function _inState(uint256 id, State needed) private view returns (Dispute storage entry) {
        entry = _known(id);
        require(entry.state == needed, WrongState(id, entry.state));
    }
}
