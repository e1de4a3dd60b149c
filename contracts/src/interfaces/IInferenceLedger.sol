// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Every inference's receipt, by hash
/// @notice A host posts the digests of its receipts in calldata; the Merkle root over them is built on chain. Receipts of
/// one host are numbered without gaps. Validators recompute samples and attest.
/// @dev A leaf is the first 24 bytes of a receipt's EIP-712 digest. Calldata is what a batch pays for (EIP-7623), and 192
/// bits leave a host that wants two receipts under one leaf with a birthday search of 2^96 hashes; to find a receipt for
/// a leaf that another has posted takes 2^192. A receipt's id, and what the host signs, stays the digest of 32 bytes.
interface IInferenceLedger {
    /// @dev Signed as EIP-712 by the host. Hashes are salted; `fee` is in wei; `time` in seconds.
    struct Receipt {
        uint256 sequence;
        uint256 model;
        address consumer;
        address host;
        bytes32 promptHash;
        bytes32 outputHash;
        uint32 promptTokens;
        uint32 outputTokens;
        uint128 fee;
        bytes32 sharesRoot;
        uint256 seed;
        uint64 time;
    }

    /// @dev `split` holds the shares of data, builder, host, curators and validators in ppm when the batch was posted, and
    /// `influencePpm` the part of the data share that measured influence decides.
    struct Batch {
        bytes32 root;
        address poster;
        uint64 time;
        uint64 blockNumber;
        uint64 firstSequence;
        uint32 count;
        uint32[5] split;
        uint32 influencePpm;
    }

    event BatchPosted(
        uint256 indexed batchId,
        address indexed poster,
        bytes32 root,
        uint256 firstSequence,
        uint256 count,
        uint32[5] split,
        uint32 influencePpm
    );
    event ValidatorsDrawn(uint256 indexed batchId, address[] validators);
    /// @notice The block that was to draw is out of reach; the hash of `drawBlock` takes its place.
    event DrawRenewed(uint256 indexed batchId, uint256 drawBlock);
    event BatchAttested(uint256 indexed batchId, address indexed validator, bool valid, bytes32 report);

    error BatchSizeOutOfBounds(uint256 size, uint256 maximum);
    /// @notice The leaves are `length` bytes, which is no whole number of leaves of `leafBytes`.
    error BrokenLeaf(uint256 length, uint256 leafBytes);
    error WrongSequence(uint256 given, uint256 expected);
    error HostNotActive(address account);
    error ValidatorNotActive(address account);
    /// @notice `account` is not among the validators that were drawn for the batch.
    error ValidatorNotDrawn(uint256 batchId, address account);
    /// @notice Validators can be drawn once block `drawBlock` is over.
    error DrawNotReady(uint256 batchId, uint256 drawBlock);
    error UnknownBatch(uint256 batchId);
    error AlreadyAttested(uint256 batchId, address validator);

    /// @notice Posts the digests of the caller's next receipts. The caller needs the stake of a host.
    /// @param firstSequence Sequence of the first receipt: the caller's {nextSequence}.
    /// @param leaves The first 24 bytes of each receipt's EIP-712 digest, one after the other, in the order of their
    /// sequences. Nothing checks here that receipts stand behind them: a leaf without a receipt is never paid.
    /// @custom:misuse A leaf without a receipt takes its sequence for ever and is never paid; posting a wrong receipt
    /// costs the host stake.
    function post(uint256 firstSequence, bytes calldata leaves) external returns (uint256 batchId);

    /// @notice Draws the validators that may attest the batch, `validator.draw` of them by their stake when it was posted,
    /// by a seed that the hash of the block fixed that posted it. Anyone may call it; {attest} draws by itself. If that hash
    /// is out of reach (8,191 blocks), it only fixes a new block, and the next call draws.
    /// @return validators Who was drawn; empty if nobody could be.
    /// @custom:misuse An empty answer is no error: the draw waits for a later block, so call it again.
    function drawValidators(uint256 batchId) external returns (address[] memory validators);

    /// @notice Who may attest the batch; empty while that is not known, or nobody had weight. Fails in the posting block.
    /// @custom:misuse Before {ValidatorsDrawn} it is a forecast that changes if the draw is renewed.
    function validatorsOf(uint256 batchId) external view returns (address[] memory);

    /// @notice Whether drawn validators with two thirds of the drawn weight have attested the batch valid.
    /// @custom:misuse Says what drawn validators attested, not that every receipt was recomputed: they sample.
    function isFinal(uint256 batchId) external view returns (bool);

    /// @notice Puts a validator's finding on record. Needs to be drawn, and the stake of a validator now and then.
    /// @param report Hash of the published report.
    /// @custom:misuse Attesting a batch valid without recomputing the sample costs stake if a jury finds a receipt of
    /// it wrong; a finding cannot be changed.
    function attest(uint256 batchId, bool valid, bytes32 report) external;

    /// @notice Whether `proof` leads from `leaf` to the batch's root in as many steps as place `index` has.
    /// @dev Pairs are sorted: this does not show that `leaf` stands at `index`, nor, by itself, that `leaf` is a leaf.
    /// Contracts must use {verifyReceipt}, which hashes the receipt and binds its place by its sequence.
    /// @custom:misuse Shows neither that `leaf` stands at `index` nor that it is a leaf; contracts use {verifyReceipt}.
    function verify(uint256 batchId, uint256 index, bytes24 leaf, bytes32[] calldata proof)
        external
        view
        returns (bool);

    /// @notice Whether `receipt` was posted in the batch, by its own host and at its own sequence.
    /// @custom:misuse True means posted, not right: a receipt may still be disputed, and its batch disabled in
    /// {IDisputes}.
    function verifyReceipt(uint256 batchId, Receipt calldata receipt, bytes32[] calldata proof)
        external
        view
        returns (bool);

    /// @notice A batch as it was posted, with the fee split of that moment.
    /// @custom:misuse Says nothing about disputes: ask {IDisputes-isDisabled} before counting on its receipts.
    function batch(uint256 batchId) external view returns (Batch memory);
    /// @notice Number of batches; ids run from 1 to it.
    /// @custom:misuse Ids are of all hosts together; sequences are counted per host.
    function batchCount() external view returns (uint256);
    /// @notice Sequence of the next receipt that `host` can post; its first is 0.
    /// @custom:misuse Two processes of one host that post at once collide: the second is refused.
    function nextSequence(address host) external view returns (uint64);
    /// @notice Sum of the attesting validators' weights (as of the batch's block) by finding, in wei.
    /// @custom:misuse Sums of all findings, which say nothing about a majority of the drawn weight: use {isFinal}.
    function attestations(uint256 batchId) external view returns (uint128 valid, uint128 invalid);
    /// @notice Whether `validator` has put a finding on record for the batch.
    /// @custom:misuse True for a finding of either kind.
    function hasAttested(uint256 batchId, address validator) external view returns (bool);
    /// @notice Sequences of the receipts that `validator` answers for if it attests the batch valid: `validator.sample` of
    /// them, fixed when the validators are drawn; empty before.
    /// @custom:misuse Empty is not an empty duty: recompute nothing and attest nothing until the validators are drawn.
    function sampleOf(uint256 batchId, address validator) external view returns (uint256[] memory sequences);
    /// @notice The validators that attested the batch valid and whose sample held the receipt `sequence`.
    /// @custom:misuse Empty also while nobody attested: no sign that the receipt is right or wrong.
    function vouchersOf(uint256 batchId, uint256 sequence) external view returns (address[] memory);
    /// @notice EIP-712 digest that the host signs; its first 24 bytes are the receipt's leaf.
    /// @custom:misuse Hosts sign the whole digest; 24 bytes of it alone prove nothing outside the ledger.
    function receiptDigest(Receipt calldata receipt) external view returns (bytes32);
}
