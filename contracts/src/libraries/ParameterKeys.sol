// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Names of the runtime parameters
/// @notice Each key is its short ASCII name, left-aligned in 32 bytes. Units are given beside each name.
library ParameterKeys {
    /// @dev Shares of a receipt's fee, in ppm. The treasury receives what these five leave over.
    bytes32 internal constant FEE_DATA = "fee.data";
    bytes32 internal constant FEE_BUILDER = "fee.builder";
    bytes32 internal constant FEE_HOST = "fee.host";
    bytes32 internal constant FEE_CURATORS = "fee.curators";
    bytes32 internal constant FEE_VALIDATORS = "fee.validators";

    /// @dev Part of the data share that is paid by measured influence, in ppm; the rest is paid by accepted rows.
    bytes32 internal constant ATTRIBUTION_INFLUENCE = "attribution.influence";

    /// @dev Bond for each submitted record, and bond of each side for each challenged record, in wei.
    bytes32 internal constant BOND_RECORD = "bond.record";
    bytes32 internal constant BOND_CHALLENGE = "bond.challenge";

    /// @dev Jurors of a first round, further jurors where those disagree, jurors of an appeal; length of the commit and
    /// of the reveal window in seconds; penalty for a missing verdict in wei; seconds to challenge a decision (and then
    /// as many to defend it), and seconds after which an appeal without a jury lapses.
    bytes32 internal constant REVIEW_JURY = "review.jury";
    bytes32 internal constant REVIEW_EXTRA = "review.extra";
    bytes32 internal constant REVIEW_APPEAL = "review.appeal";
    bytes32 internal constant REVIEW_COMMIT = "review.commit";
    bytes32 internal constant REVIEW_REVEAL = "review.reveal";
    bytes32 internal constant REVIEW_NOREVEAL = "review.noreveal";
    bytes32 internal constant REVIEW_CHALLENGE = "review.challenge";
    bytes32 internal constant REVIEW_LAPSE = "review.lapse";

    /// @dev Least stake that makes an account active in its role, in wei; the most of one reviewer's stake that counts
    /// when juries are drawn, in wei; time until an unstaked amount is free, in seconds.
    bytes32 internal constant STAKE_REVIEWER = "stake.reviewer";
    bytes32 internal constant STAKE_REVIEWER_CAP = "stake.reviewer.cap";
    bytes32 internal constant STAKE_VALIDATOR = "stake.validator";
    bytes32 internal constant STAKE_HOST = "stake.host";
    bytes32 internal constant STAKE_UNBONDING = "stake.unbonding";

    /// @dev Seconds between the proposal of a payout root and its activation, and between the request of a
    /// withdrawal from the escrow and its payment.
    bytes32 internal constant PAYOUT_DELAY = "payout.delay";
    bytes32 internal constant WITHDRAWAL_DELAY = "withdrawal.delay";

    /// @dev 1 when a model must be approved by governance before it may serve, 0 otherwise.
    bytes32 internal constant MODEL_APPROVAL = "model.approval";

    /// @dev Largest part of the builder's share that a model may ask of those that build on it, in ppm.
    bytes32 internal constant MODEL_LINEAGE = "model.lineage";

    /// @dev Largest part of a Datanet's own income that its owner may keep, in ppm.
    bytes32 internal constant DATANET_OWNER = "datanet.owner";

    /// @dev Largest part of an account's stake that one slashing may take, in ppm.
    bytes32 internal constant SLASH_CAP = "slash.cap";

    /// @dev Seconds over which slashings of one account add up under the cap.
    bytes32 internal constant SLASH_ROUND = "slash.round";

    /// @dev Validators drawn for each batch, and receipts of it that each of them answers for.
    bytes32 internal constant VALIDATOR_DRAW = "validator.draw";
    bytes32 internal constant VALIDATOR_SAMPLE = "validator.sample";

    /// @dev Disputes: bond of each side in wei; seconds after posting in which a receipt can be challenged; seconds to
    /// answer, to commit, to reveal; jurors; wei taken from the stake of who was wrong; penalty of a juror without a
    /// verdict in wei; parts in ppm of what the loser loses that go to the winner and to the jurors of the majority.
    bytes32 internal constant DISPUTE_BOND = "dispute.bond";
    bytes32 internal constant DISPUTE_WINDOW = "dispute.window";
    bytes32 internal constant DISPUTE_ANSWER = "dispute.answer";
    bytes32 internal constant DISPUTE_COMMIT = "dispute.commit";
    bytes32 internal constant DISPUTE_REVEAL = "dispute.reveal";
    bytes32 internal constant DISPUTE_JURY = "dispute.jury";
    bytes32 internal constant DISPUTE_SLASH = "dispute.slash";
    bytes32 internal constant DISPUTE_NOREVEAL = "dispute.noreveal";
    bytes32 internal constant DISPUTE_REWARD = "dispute.reward";
    bytes32 internal constant DISPUTE_JURORS = "dispute.jurors";
}
