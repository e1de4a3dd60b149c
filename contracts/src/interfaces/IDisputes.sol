// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IInferenceLedger} from "./IInferenceLedger.sol";

/// @title Challenges of receipts and payout roots, decided by a jury of validators
/// @notice Whoever recomputes another result than the one on chain names it and bonds OPEN behind it. Somebody must answer
/// with as much, or the challenge is upheld. Then validators are drawn by stake, from the block of the answer, commit to a
/// verdict and reveal it. The loser's bond, and stake of who was wrong, go to the winner, to the jurors of the majority and
/// to the treasury. Payout roots that count the receipt cannot be activated meanwhile, and never if the challenge is upheld.
/// @dev A tie rejects: the challenger has to convince. Without a verdict of more than half of a jury, another is drawn; after
/// three, both bonds go back.
interface IDisputes {
    enum Kind {
        Receipt,
        Root
    }

    enum State {
        None,
        Open,
        Answered,
        Voting,
        Upheld,
        Rejected,
        Void
    }

    /// @dev `subject` is the batch or the payout root, `sequence` the receipt's. `accused` posted the receipt or proposed
    /// the root. `claim` is the shares root, or the payout root, that the challenger gets; 0 says that it cannot be
    /// recomputed at all. `evidence` is the hash of what the challenger publishes. Times in seconds.
    struct Dispute {
        Kind kind;
        State state;
        uint8 round;
        address challenger;
        address accused;
        address defender;
        uint128 bond;
        uint256 subject;
        uint256 sequence;
        bytes32 claim;
        bytes32 evidence;
        uint64 answerEnd;
        uint64 drawBlock;
        uint64 commitEnd;
        uint64 revealEnd;
        uint32 committed;
        uint32 upholds;
        uint32 rejects;
        uint256 holdId;
    }

    event DisputeOpened(
        uint256 indexed id,
        Kind indexed kind,
        uint256 indexed subject,
        uint256 sequence,
        address challenger,
        address accused,
        bytes32 claim,
        bytes32 evidence
    );
    event DisputeAnswered(uint256 indexed id, address indexed defender);
    /// @notice Nobody could be drawn; the hash of block `drawBlock` takes the place of the one before.
    event DisputeDrawRenewed(uint256 indexed id, uint256 drawBlock);
    event DisputeJuryDrawn(
        uint256 indexed id, uint256 round, address[] jurors, uint256 commitEnd, uint256 revealEnd
    );
    event DisputeVerdictCommitted(uint256 indexed id, address indexed juror, bytes32 commitment);
    event DisputeVerdictRevealed(uint256 indexed id, address indexed juror, bool upheld);
    /// @notice Too few revealed; another jury is drawn from block `drawBlock`.
    event DisputeRoundVoided(uint256 indexed id, uint256 round, uint256 drawBlock);
    /// @notice `lost` wei of bond and stake were divided.
    event DisputeResolved(uint256 indexed id, State state, uint256 lost);
    /// @notice No receipt of the batch is paid any more.
    event BatchDisabled(uint256 indexed batchId, uint256 indexed disputeId);
    event AttesterSlashed(uint256 indexed id, address indexed validator, uint256 slashed);

    error ZeroAddress();
    error WrongBond(uint256 given, uint256 needed);
    error NotPosted(uint256 batchId, uint256 sequence);
    /// @notice The challenger gets what is on chain: there is nothing to dispute.
    error NothingToDispute(bytes32 claim);
    error BatchAlreadyDisabled(uint256 batchId);
    /// @notice The batch could be challenged until `end`.
    error WindowOver(uint256 end);
    /// @notice The same receipt or root is disputed already.
    error AlreadyDisputed(uint256 id);
    error UnknownDispute(uint256 id);
    error WrongState(uint256 id, State state);
    error AnswerTimeOver(uint256 answerEnd);
    error AnswerTimeRunning(uint256 answerEnd);
    error ChallengerCannotAnswer(address challenger);
    error DrawNotReady(uint256 id, uint256 drawBlock);
    error NotJuror(uint256 id, address account);
    error EmptyCommitment();
    error CommitWindowOver(uint256 commitEnd);
    error CommitWindowOpen(uint256 commitEnd);
    error RevealWindowOver(uint256 revealEnd);
    error AlreadyCommitted(uint256 id, address juror);
    error AlreadyRevealed(uint256 id, address juror);
    error CommitmentMismatch(bytes32 committed, bytes32 revealed);
    error VotingNotOver(uint256 end);
    /// @notice Nobody answered the challenge, so no jury found anything: that convicts no validator.
    error NoVerdict(uint256 id);
    /// @notice `validator` did not attest the root, or did not vouch for the receipt, under dispute.
    error DidNotAttest(uint256 subject, address validator);
    error AlreadySlashed(uint256 id, address validator);

    /// @notice Challenges one posted receipt. Send the bond, `dispute.bond`.
    /// @param proof Leads from the receipt to the batch's root.
    /// @param claim Shares root that the challenger gets; 0 if the answer cannot be recomputed from what the host shows.
    /// @param evidence Hash of what the challenger publishes: the shares, and what is wrong.
    /// @custom:misuse A claim that cannot be shown to jurors loses the bond: publish the evidence before voting begins.
    function challengeReceipt(
        uint256 batchId,
        IInferenceLedger.Receipt calldata receipt,
        bytes32[] calldata proof,
        bytes32 claim,
        bytes32 evidence
    ) external payable returns (uint256 id);

    /// @notice Challenges a payout root that is not active yet. Send the bond.
    /// @param claim Payout root that the challenger gets; 0 if it cannot be recomputed from what is published.
    /// @custom:misuse Too late once the root is active: watch proposals, not activations.
    function challengeRoot(uint256 rootId, bytes32 claim, bytes32 evidence)
        external
        payable
        returns (uint256 id);

    /// @notice Stands up for what was challenged, with the same bond. Anyone but the challenger, until `answerEnd`.
    /// @custom:misuse Who answers for a wrong receipt or root loses the bond, and opens the way to slash validators
    /// that vouched.
    function answer(uint256 id) external payable;

    /// @notice Draws the jury once the block of the answer is over. Anyone may call it.
    /// @return drawn False if nobody could be drawn; then another block was fixed.
    /// @custom:misuse Leaving it uncalled for 8,191 blocks makes the draw start anew from a later block.
    function drawJury(uint256 id) external returns (bool drawn);

    /// @notice Commits to a verdict: keccak256(abi.encode(id, round, juror, upheld, salt)).
    /// @custom:misuse A salt that can be guessed gives the verdict away; a lost one costs `dispute.noreveal`.
    function commitVerdict(uint256 id, bytes32 commitment) external;

    /// @notice Reveals a verdict, once all have committed or the time is over.
    /// @custom:misuse Waiting for the last moment of the window risks the penalty, since a block may come too late.
    function revealVerdict(uint256 id, bool upheld, bytes32 salt) external;

    /// @notice Ends what can be ended: a challenge without an answer, or a round. Anyone may call it.
    /// @custom:misuse Pays several receivers: with too little gas it reverts and can be called again.
    function resolve(uint256 id) external;

    /// @notice Goes on disabling the payout roots under an upheld challenge, where there were very many.
    /// @custom:misuse Until it has gone through, roots under the hold stay held but are not disabled.
    function strike(uint256 id) external;

    /// @notice Takes stake of a validator that vouched for what a jury found wrong: attested the payout root, or attested the
    /// batch valid though its sample held the receipt. Anyone may call it; the reward goes to the challenger.
    /// @dev A challenge that nobody answered has no verdict: else an accused who stays silent could have honest validators
    /// slashed, and share the reward.
    /// @custom:misuse Works only after a jury's verdict, and for validators that vouched for this very receipt or root.
    function slashAttester(uint256 id, address validator) external;

    /// @notice A dispute with its parties, state and times.
    /// @custom:misuse `claim` is what the challenger says, not what the jury computed.
    function dispute(uint256 id) external view returns (Dispute memory);
    /// @notice Number of disputes; ids run from 1 to it.
    /// @custom:misuse Closed ones count too.
    function disputeCount() external view returns (uint256);
    /// @notice Jurors of the present round; empty before the first is drawn.
    /// @custom:misuse A further round has other jurors: read it again after {DisputeRoundVoided}.
    function jury(uint256 id) external view returns (address[] memory);
    /// @notice Whether a jury found a receipt of the batch wrong; none of its receipts is paid from then on.
    /// @custom:misuse False for a batch that nobody has challenged: no finding that it is right.
    function isDisabled(uint256 batchId) external view returns (bool);
    /// @notice The open dispute about a receipt, or about a root (sequence 0); 0 if there is none.
    /// @custom:misuse 0 also once a dispute is over: read its outcome from {dispute}.
    function openDispute(Kind kind, uint256 subject, uint256 sequence) external view returns (uint256);
}
