// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Datanets: contributions under bond, review by drawn jurors, anchored versions
/// @notice A contribution is `count` records under one Merkle root, signed by its contributor (EIP-712) and submitted
/// under a bond per record. A jury, drawn by stake, commits to and reveals one verdict per record. The bond of rejected
/// records is lost. The owner of the Datanet anchors versions made of accepted records.
interface IDatanetRegistry {
    enum State {
        None,
        Submitted,
        InReview,
        Finalised,
        Withdrawn
    }

    struct Datanet {
        address owner;
        uint32 versionCount;
        uint64 createdTime;
        bytes32 schemaHash;
        bytes32 policyHash;
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

    struct Contribution {
        uint256 datanet;
        address contributor;
        uint32 count;
        uint32 acceptedCount;
        State state;
        bytes32 recordsRoot;
        bytes32 manifest;
        uint256 bond;
        string licence;
    }

    /// @dev `drawBlock` gives the seed of the next jury. `commitEnd` and `revealEnd` are set when a jury is drawn;
    /// `commitEnd` moves forward when every juror has committed.
    struct Review {
        uint32 round;
        uint32 committed;
        uint32 revealed;
        uint64 drawBlock;
        uint64 commitEnd;
        uint64 revealEnd;
    }

    struct Version {
        bytes32 root;
        bytes32 manifest;
        uint64 recordCount;
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
    event VerdictCommitted(uint256 indexed id, address indexed reviewer, bytes32 commitment);
    event VerdictRevealed(uint256 indexed id, address indexed reviewer, bytes verdict);
    /// @notice Too few jurors revealed: the contribution waits for a new jury.
    event RoundVoided(uint256 indexed id, uint32 round, uint256 revealed, uint256 drawBlock);
    event ContributionFinalised(uint256 indexed id, bytes accepted, uint256 acceptedCount, uint256 slashed);
    event BondSlashed(uint256 indexed id, address indexed contributor, uint256 amount, string reason);
    event VersionAnchored(
        uint256 indexed datanet,
        uint256 indexed version,
        bytes32 root,
        uint256 recordCount,
        uint256[] contributionIds,
        bytes32 manifest
    );
    /// @notice A receiver refused `amount`; it waits in {owed}.
    event PaymentOwed(address indexed account, uint256 amount);

    error UnknownDatanet(uint256 datanet);
    error UnknownContribution(uint256 id);
    error EmptyName();
    error NotDatanetOwner(address account, address owner);
    error ZeroAddress();
    error RecordCountOutOfBounds(uint256 count, uint256 maximum);
    error WrongBond(uint256 sent, uint256 needed);
    error WrongNonce(uint256 given, uint256 expected);
    /// @notice The signature over the contribution is not by `contributor`.
    error InvalidContributionSignature(address contributor);
    error NotContributor(address account, address contributor);
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
    error ContributionsNotAscending(uint256 before, uint256 id);
    error ContributionOfOtherDatanet(uint256 id, uint256 datanet);
    error RecordsExceedAccepted(uint256 recordCount, uint256 accepted);
    error UnknownVersion(uint256 datanet, uint256 version);
    error NothingOwed(address account);

    /// @notice Creates a Datanet owned by the caller.
    /// @param schemaHash Hash of the schema that records must fit.
    /// @param policyHash Hash of the rules for review, licence and access.
    /// @param uri Where both can be read.
    function createDatanet(string calldata name, bytes32 schemaHash, bytes32 policyHash, string calldata uri)
        external
        returns (uint256 id);

    /// @notice Hands a Datanet to a new owner.
    function transferDatanet(uint256 datanet, address newOwner) external;

    /// @notice Submits a signed contribution with its bond of `count * bond.record` wei. Anyone may pay.
    function submit(ContributionInput calldata input, bytes calldata signature)
        external
        payable
        returns (uint256 id);

    /// @notice Takes back a contribution that waits for a jury; its bond returns to the contributor.
    function withdrawContribution(uint256 id) external;

    /// @notice Draws the jury. Anyone may call it and the result is the same for all: it follows from the hash of the
    /// block `drawBlock` and the stakes at its end. If that hash is no longer known, or too few reviewers had stake
    /// then, the present block becomes the new `drawBlock`.
    /// @return drawn Whether a jury was drawn.
    function openReview(uint256 id) external returns (bool drawn);

    /// @notice Commits a juror to keccak256(abi.encode(id, reviewer, verdict, salt)).
    function commitVerdict(uint256 id, bytes32 commitment) external;

    /// @notice Reveals a juror's verdict, a bitmap over the records (see {VerdictTally}).
    function revealVerdict(uint256 id, bytes calldata verdict, bytes32 salt) external;

    /// @notice Ends a round whose jurors can or need do no more. Absent jurors pay `review.noreveal`. If more than half
    /// of the jury revealed, the majority decides on each record (a tie rejects) and the bond is settled; otherwise the
    /// round is void.
    function finalise(uint256 id) external;

    /// @notice Anchors the next version of a Datanet. Only by its owner.
    /// @param contributionIds Finalised contributions that its records come from, ascending.
    function anchorVersion(
        uint256 datanet,
        bytes32 root,
        uint64 recordCount,
        uint256[] calldata contributionIds,
        bytes32 manifest
    ) external returns (uint256 version);

    /// @notice Pays what could not be delivered before.
    function withdrawOwed() external;

    function datanetCount() external view returns (uint256);
    function datanet(uint256 id) external view returns (Datanet memory);
    function contributionCount() external view returns (uint256);
    function contribution(uint256 id) external view returns (Contribution memory);
    function review(uint256 id) external view returns (Review memory);
    /// @notice Jurors of the present or last round.
    function jury(uint256 id) external view returns (address[] memory);
    /// @notice Jurors of the present or last round that revealed, in the order drawn.
    function reviewersOf(uint256 id) external view returns (address[] memory);
    /// @notice Bitmap of the accepted records; empty before the contribution is final.
    function acceptedBitmap(uint256 id) external view returns (bytes memory);
    function versions(uint256 datanet, uint256 version) external view returns (Version memory);
    /// @notice Next nonce of a contributor.
    function nonces(address contributor) external view returns (uint256);
    function owed(address account) external view returns (uint256);
    /// @notice EIP-712 digest that the contributor signs.
    function contributionDigest(ContributionInput calldata input) external view returns (bytes32);
}
