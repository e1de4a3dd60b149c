// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IPayer} from "./IPayer.sol";

/// @title Datanets: contributions under bond, review by drawn jurors, challenges, anchored versions
/// @notice A contribution is `count` records under one Merkle root, signed by its contributor (EIP-712) and submitted
/// under a bond per record. A jury, drawn by stake, commits to and reveals one verdict per record; where it disagrees,
/// further jurors join. What it decides can be challenged record by record, under bonds on both sides, before a larger
/// jury. Only then is it final, bonds are paid, and the owner of the Datanet may anchor a version of accepted records.
interface IDatanetRegistry is IPayer {
    /// @dev Submitted, Disagreed and Decided (once challenged) wait for jurors; InReview and InAppeal have them.
    enum State {
        None,
        Submitted,
        InReview,
        Disagreed,
        Decided,
        InAppeal,
        Finalised,
        Withdrawn
    }

    /// @dev Who may read a Datanet's records by agreement: everybody, who pays the fee, or whom the owner lets.
    enum AccessRule {
        Open,
        Paid,
        Granted
    }

    /// @dev `accessFee` wei for access, `licenceFee` wei for each training job on a version. Of both the owner keeps
    /// `ownerPpm`; contributors share the rest by accepted records. `rowCap` is the most records that one contributor may
    /// have here, 0 for no cap.
    struct DatanetTerms {
        AccessRule access;
        uint32 ownerPpm;
        uint32 rowCap;
        uint128 accessFee;
        uint128 licenceFee;
    }

    struct Datanet {
        address owner;
        uint32 versionCount;
        uint64 createdTime;
        bytes32 schemaHash;
        bytes32 policyHash;
        DatanetTerms terms;
        string name;
        string uri;
    }

    /// @dev The signed message. `recordsRoot` is the Merkle root over keccak256(recordHash) in the contributor's order,
    /// `manifest` the hash of the published body, `nonce` the contributor's next nonce here.
    struct ContributionInput {
        uint256 datanet;
        address contributor;
        bytes32 recordsRoot;
        uint32 count;
        string licence;
        bytes32 manifest;
        uint256 nonce;
    }

    /// @dev `acceptedCount` is provisional until the state is Finalised; `removedCount` of them have a tombstone.
    struct Contribution {
        uint256 datanet;
        address contributor;
        uint32 count;
        uint32 acceptedCount;
        State state;
        uint32 removedCount;
        bytes32 recordsRoot;
        bytes32 manifest;
        uint256 bond;
    }

    /// @dev `seats` jurors act now, of whom `committed` and `revealed` have; they stand last in the round's jury.
    /// `drawBlock` gives the seed of the next draw, 0 while none is due. `commitEnd` moves forward when every juror has
    /// committed. After the decision of `decidedRound` a challenge may come until `challengeEnd`, a defence until
    /// `defendEnd`, and without an appeal's decision the first one stands from `lapseEnd` on.
    struct Review {
        uint32 round;
        uint32 decidedRound;
        uint16 seats;
        uint16 committed;
        uint16 revealed;
        bool lapsed;
        uint64 drawBlock;
        uint64 commitEnd;
        uint64 revealEnd;
        uint64 challengeEnd;
        uint64 defendEnd;
        uint64 lapseEnd;
    }

    /// @dev `acceptedRows` are the accepted records of all its contributions, less tombstones, at the time of anchoring.
    struct Version {
        bytes32 root;
        bytes32 manifest;
        uint64 recordCount;
        uint64 acceptedRows;
        uint64 anchoredTime;
    }

    event DatanetCreated(
        uint256 indexed datanet,
        address indexed owner,
        string name,
        bytes32 schemaHash,
        bytes32 policyHash,
        string uri
    );
    event DatanetTermsSet(uint256 indexed datanet, DatanetTerms terms);
    event DatanetTransferred(uint256 indexed datanet, address indexed before, address indexed afterwards);
    event ContributionSubmitted(
        uint256 indexed id,
        uint256 indexed datanet,
        address indexed contributor,
        bytes32 recordsRoot,
        uint32 count,
        bytes32 manifest
    );
    event ContributionWithdrawn(uint256 indexed id, address indexed contributor);
    /// @notice The block that seeds the next draw is now `drawBlock`.
    event DrawRenewed(uint256 indexed id, uint256 drawBlock);
    event JuryDrawn(uint256 indexed id, uint32 round, address[] jurors, uint256 commitEnd, uint256 revealEnd);
    /// @notice `jurors` join the jury of the round, whose verdicts disagree.
    event JuryExtended(
        uint256 indexed id, uint32 round, address[] jurors, uint256 commitEnd, uint256 revealEnd
    );
    event VerdictCommitted(uint256 indexed id, address indexed reviewer, bytes32 commitment);
    event VerdictRevealed(uint256 indexed id, address indexed reviewer, uint32 round, bytes verdict);
    /// @notice Too few jurors revealed: the contribution waits for a new jury.
    event RoundVoided(uint256 indexed id, uint32 round, uint256 revealed, uint256 drawBlock);
    /// @notice The verdicts differ on `contested` records: further jurors are drawn.
    event RoundDisagreed(uint256 indexed id, uint32 round, uint256 contested, uint256 drawBlock);
    /// @notice The jury decided; until `challengeEnd` its decision can be challenged.
    event RoundDecided(
        uint256 indexed id, uint32 round, bytes accepted, uint256 acceptedCount, uint256 challengeEnd
    );
    /// @notice No larger jury decided in time: the first decision stands and all challenge bonds return.
    event AppealLapsed(uint256 indexed id);
    /// @notice Final, by the jury of `round`.
    event ContributionFinalised(
        uint256 indexed id, uint32 round, bytes accepted, uint256 acceptedCount, uint256 slashed
    );
    event BondSlashed(uint256 indexed id, address indexed contributor, uint256 amount, string reason);
    /// @notice Versions from `version` on must not hold the record.
    event RecordRemoved(
        uint256 indexed datanet,
        uint256 indexed contribution,
        bytes32 indexed recordHash,
        uint256 version,
        bytes32 reason
    );
    event VersionAnchored(
        uint256 indexed datanet,
        uint256 indexed version,
        bytes32 root,
        uint256 recordCount,
        uint256[] contributionIds,
        bytes32 manifest
    );

    error UnknownDatanet(uint256 datanet);
    error UnknownContribution(uint256 id);
    error EmptyName();
    error NotDatanetOwner(address account, address owner);
    error ZeroAddress();
    /// @notice The owner asks to keep `ownerPpm` of the income, more than `datanet.owner` allows.
    error OwnerShareTooLarge(uint256 ownerPpm, uint256 maximum);
    error RecordCountOutOfBounds(uint256 count, uint256 maximum);
    /// @notice The contributor would have `rows` records in the Datanet, which takes `cap` from one contributor.
    error RowCapExceeded(uint256 rows, uint256 cap);
    error WrongBond(uint256 sent, uint256 needed);
    error WrongNonce(uint256 given, uint256 expected);
    /// @notice The signature over the contribution is not by `contributor`.
    error InvalidContributionSignature(address contributor);
    error NotContributor(address account, address contributor);
    /// @notice A jury can be drawn for the contribution, so it can no longer be taken back.
    error JuryIsKnown(uint256 id);
    error WrongState(uint256 id, State state, State needed);
    /// @notice The jury can be drawn in a block after `drawBlock`.
    error DrawNotReady(uint256 id, uint256 drawBlock);
    error NotJuror(uint256 id, address account);
    error CommitWindowOver(uint256 commitEnd);
    error AlreadyCommitted(uint256 id, address reviewer);
    error EmptyCommitment();
    error CommitWindowOpen(uint256 commitEnd);
    error RevealWindowOver(uint256 revealEnd);
    error AlreadyRevealed(uint256 id, address reviewer);
    /// @notice The revealed verdict and salt do not give the commitment.
    error CommitmentMismatch(bytes32 expected, bytes32 actual);
    /// @notice Jurors may still act until `until`.
    error ReviewNotOver(uint256 until);
    /// @notice The decision can still be challenged until `until`.
    error ChallengeWindowOpen(uint256 until);
    error DefenceWindowOpen(uint256 defendEnd);
    /// @notice Nothing of the decision is challenged.
    error NothingChallenged(uint256 id);
    /// @notice A larger jury can still decide until `lapseEnd`.
    error AppealPending(uint256 lapseEnd);
    error NotPartOfContribution(uint256 id, bytes32 recordHash);
    error RecordNotAccepted(uint256 id, uint256 index);
    error AlreadyRemoved(uint256 id, uint256 index);
    error ContributionsNotAscending(uint256 before, uint256 id);
    error ContributionOfOtherDatanet(uint256 id, uint256 datanet);
    error RecordsExceedAccepted(uint256 recordCount, uint256 accepted);
    error UnknownVersion(uint256 datanet, uint256 version);

    /// @notice Creates a Datanet owned by the caller.
    /// @param schemaHash Hash of the schema that records must fit.
    /// @param policyHash Hash of the rules for review, licence and access.
    /// @param uri Where both can be read.
    /// @param terms Access rule, fees, the owner's part of them, and the cap of records per contributor. Rule, part and
    /// cap never change.
    /// @custom:misuse Hashes of bodies that nobody publishes make a Datanet that nobody can check or contribute to.
    function createDatanet(
        string calldata name,
        bytes32 schemaHash,
        bytes32 policyHash,
        string calldata uri,
        DatanetTerms calldata terms
    ) external returns (uint256 id);

    /// @notice Changes what access and training will cost from now on. Only by the owner.
    /// @custom:misuse Raising a fee just before somebody pays makes that payment fail, since fees are paid exactly; it
    /// never takes more than the payer sent.
    function setFees(uint256 datanet, uint128 accessFee, uint128 licenceFee) external;

    /// @notice Hands a Datanet to a new owner.
    /// @custom:misuse A wrong address loses the Datanet for good; there is no second step and no recovery.
    function transferDatanet(uint256 datanet, address newOwner) external;

    /// @notice Submits a signed contribution with its bond of `count * bond.record` wei. Anyone may pay.
    /// @custom:misuse The bond returns to the contributor, not to the payer. Records that are not published under
    /// `manifest` cannot be judged and are rejected.
    function submit(ContributionInput calldata input, bytes calldata signature)
        external
        payable
        returns (uint256 id);

    /// @notice Takes back a contribution for which no jury can be drawn yet; its bond returns to the contributor.
    /// @custom:misuse Once the hash of the draw block is known so is the jury: taking back is refused then, for else a
    /// contributor could submit again and again until a jury suits.
    function withdrawContribution(uint256 id) external;

    /// @notice Draws the jurors that the contribution waits for: a first jury, further ones after a disagreement, or a
    /// larger jury for an appeal. Anyone may call it and the result is the same for all: it follows from the hash of the
    /// block `drawBlock` and the stakes at its end. If that hash is no longer known, or too few reviewers had stake
    /// then, the present block becomes the new `drawBlock`. A disagreement takes as many as there are.
    /// @custom:misuse Leaving it uncalled for 8,191 blocks makes the draw start anew; watch and call it in time.
    /// @return drawn Whether jurors were drawn.
    function openReview(uint256 id) external returns (bool drawn);

    /// @notice Commits a juror to keccak256(abi.encode(id, reviewer, verdict, salt)).
    /// @custom:misuse A salt that can be guessed gives the verdict away; a lost salt costs `review.noreveal`.
    function commitVerdict(uint256 id, bytes32 commitment) external;

    /// @notice Reveals a juror's verdict, a bitmap over the records (see {VerdictTally}).
    /// @custom:misuse Waiting for the last moment of the window risks the penalty, since a block may come too late.
    function revealVerdict(uint256 id, bytes calldata verdict, bytes32 salt) external;

    /// @notice Ends a round whose jurors can or need do no more. Absent jurors pay `review.noreveal`. If at most half of
    /// the first jurors revealed, the round is void; if they disagree on any record, further jurors are drawn; otherwise
    /// the majority decides on each record (a tie rejects). An appeal decides only on what was challenged and is final.
    /// @custom:misuse Not a decision to build on: until {finalise} it can be challenged.
    function endRound(uint256 id) external;

    /// @notice Makes an unchallenged decision final once the challenge window is over, or lets a challenged one stand that
    /// no larger jury judged until `lapseEnd`; then settles the contributor's bond.
    /// @custom:misuse It pays several receivers; with too little gas it reverts and can be called again.
    function finalise(uint256 id) external;

    /// @notice Puts a tombstone on an accepted record: no later version may hold it. By the contributor or the owner.
    /// @param index Place of the record in the contribution.
    /// @param reason Hash of the published reason, or 0.
    /// @custom:misuse What was trained on earlier versions stays trained; a tombstone does not undo it. Sorted pairs do
    /// not bind `index`: a wrong one counts another row as removed.
    function removeRecord(
        uint256 id,
        uint256 index,
        bytes32 recordHash,
        bytes32[] calldata proof,
        bytes32 reason
    ) external;

    /// @notice Anchors the next version of a Datanet. Only by its owner.
    /// @param contributionIds Final contributions that its records come from, ascending.
    /// @custom:misuse The contract bounds the number of records but cannot see them: check root and manifest against the
    /// contributions, as `verify_version` does, before training on a version.
    function anchorVersion(
        uint256 datanet,
        bytes32 root,
        uint64 recordCount,
        uint256[] calldata contributionIds,
        bytes32 manifest
    ) external returns (uint256 version);

    /// @notice Number of Datanets; ids run from 1 to it.
    /// @custom:misuse None is ever removed.
    function datanetCount() external view returns (uint256);
    /// @notice A Datanet with its terms.
    /// @custom:misuse Its owner can change both fees before a payment arrives, which then fails.
    function datanet(uint256 id) external view returns (Datanet memory);
    /// @notice Number of contributions; ids run from 1 to it, over all Datanets.
    /// @custom:misuse Withdrawn ones count too.
    function contributionCount() external view returns (uint256);
    /// @notice A contribution with its state.
    /// @custom:misuse `acceptedCount` is provisional until the state is Finalised.
    function contribution(uint256 id) external view returns (Contribution memory);
    /// @notice The review of a contribution: round, windows and counts.
    /// @custom:misuse Of the present round alone; earlier ones are in the events.
    function review(uint256 id) external view returns (Review memory);
    /// @notice Jurors of the present or last round.
    /// @custom:misuse Changes with each round: read it again after {JuryDrawn} and {JuryExtended}.
    function jury(uint256 id) external view returns (address[] memory);
    /// @notice Jurors of the present or last round that revealed, in the order drawn.
    /// @custom:misuse Of the present round alone, and only those that revealed.
    function reviewersOf(uint256 id) external view returns (address[] memory);
    /// @notice Bitmap of the accepted records; empty before a decision.
    /// @custom:misuse Provisional until the contribution's state is Finalised.
    function acceptedBitmap(uint256 id) external view returns (bytes memory);
    /// @notice Records of a contributor in a Datanet that are accepted or under review.
    /// @custom:misuse Falls when records are rejected: it is no count of accepted rows while a review runs.
    function rowsOf(uint256 datanet, address contributor) external view returns (uint256);
    /// @notice An anchored version; reverts for an unknown one.
    /// @custom:misuse A later tombstone does not change it: readers drop removed records themselves.
    function versions(uint256 datanet, uint256 version) external view returns (Version memory);
    /// @notice Accepted rows by which contribution `id` shares in the income of a version; 0 where it is no part of it.
    /// @custom:misuse 0 also for an unknown Datanet, version or contribution.
    function rowsInVersion(uint256 datanet, uint256 version, uint256 id) external view returns (uint256);
    /// @notice Next nonce of a contributor.
    /// @custom:misuse Two contributions signed with one nonce: only the first that arrives counts.
    function nonces(address contributor) external view returns (uint256);
    /// @notice EIP-712 digest that the contributor signs.
    /// @custom:misuse Signing it stakes the bond's return on these records: check count, licence and root.
    function contributionDigest(ContributionInput calldata input) external view returns (bytes32);
}
