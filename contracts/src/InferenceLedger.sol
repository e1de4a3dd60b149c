// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {IInferenceLedger} from "./interfaces/IInferenceLedger.sol";
import {IRuntimeParameters} from "./interfaces/IRuntimeParameters.sol";
import {IStakeManager} from "./interfaces/IStakeManager.sol";
import {BatchTree} from "./libraries/BatchTree.sol";
import {BlockHashes} from "./libraries/BlockHashes.sol";
import {Lists} from "./libraries/Lists.sol";
import {ParameterKeys} from "./libraries/ParameterKeys.sol";
import {Sample} from "./libraries/Sample.sol";
import {StakeRoles} from "./libraries/StakeRoles.sol";

/// @title Ledger of inferences
/// @notice See {IInferenceLedger}. It holds no money.
contract InferenceLedger is IInferenceLedger, EIP712 {
    /// @dev Three slots. Block numbers and times fit 48 bits. `shares` holds six lanes of 24 bits: the five fee shares and
    /// the influence part, in ppm.
    struct StoredBatch {
        bytes32 root;
        address poster;
        uint48 time;
        uint48 blockNumber;
        uint64 firstSequence;
        uint32 count;
        uint144 shares;
    }

    struct Attestations {
        uint128 valid;
        uint128 invalid;
    }

    /// @dev What fixes the validators' samples of a batch, and how many receipts each of them holds. One slot.
    struct Sampling {
        uint224 seed;
        uint32 size;
    }

    enum Finding {
        None,
        Valid,
        Invalid
    }

    /// @notice Most receipts in one batch; transaction pools cap a transaction at 128 KiB.
    uint256 public constant MAX_BATCH = 4_000;

    /// @notice Bytes of a receipt's digest that are posted. Two receipts with one leaf cost 2^96 hashes to find.
    uint256 public constant LEAF_BYTES = BatchTree.LEAF_BYTES;

    /// @notice EIP-712 type of a receipt.
    bytes32 public constant RECEIPT_TYPEHASH = keccak256(
        "Receipt(uint256 sequence,uint256 model,address consumer,address host,bytes32 promptHash,bytes32 outputHash,uint32 promptTokens,uint32 outputTokens,uint128 fee,bytes32 sharesRoot,uint256 seed,uint64 time)"
    );

    /// @notice The numbers that governance may change.
    IRuntimeParameters public immutable parameters;
    /// @notice The stakes that stand behind roles.
    IStakeManager public immutable stakeManager;

    uint256 public batchCount;
    mapping(address host => uint64) public nextSequence;
    mapping(uint256 batchId => Attestations) public attestations;

    mapping(uint256 batchId => StoredBatch) private _batches;
    mapping(uint256 batchId => address[]) private _drawn;
    mapping(uint256 batchId => Sampling) private _samplings;
    mapping(uint256 batchId => mapping(address validator => Finding)) private _findings;
    /// @dev Block whose hash draws the batch's validators, where it is not the batch's own.
    mapping(uint256 batchId => uint256) private _drawBlocks;

    constructor(IRuntimeParameters parameters_, IStakeManager stakeManager_) EIP712("OpenLedger", "1") {
        parameters = parameters_;
        stakeManager = stakeManager_;
    }

    /// @inheritdoc IInferenceLedger
    function post(uint256 firstSequence, bytes calldata leaves) external returns (uint256 batchId) {
        require(leaves.length % LEAF_BYTES == 0, BrokenLeaf(leaves.length, LEAF_BYTES));
        uint256 count = leaves.length / LEAF_BYTES;
        require(count > 0 && count <= MAX_BATCH, BatchSizeOutOfBounds(count, MAX_BATCH));
        uint64 expected = nextSequence[msg.sender];
        require(firstSequence == expected, WrongSequence(firstSequence, expected));
        require(stakeManager.isActive(StakeRoles.HOST, msg.sender), HostNotActive(msg.sender));
        (uint32[5] memory split, uint32 influencePpm) = parameters.feeSplit();
        bytes32 root = BatchTree.root(leaves);

        nextSequence[msg.sender] = expected + uint64(count);
        batchId = ++batchCount;
        StoredBatch storage entry = _batches[batchId];
        entry.root = root;
        entry.poster = msg.sender;
        entry.time = uint48(block.timestamp);
        entry.blockNumber = uint48(block.number);
        entry.firstSequence = expected;
        entry.count = uint32(count);
        entry.shares = _pack(split, influencePpm);
        emit BatchPosted(batchId, msg.sender, root, firstSequence, count, split, influencePpm);
    }

    /// @inheritdoc IInferenceLedger
    function attest(uint256 batchId, bool valid, bytes32 report) external {
        StoredBatch storage entry = _known(batchId);
        require(!hasAttested(batchId, msg.sender), AlreadyAttested(batchId, msg.sender));
        uint256 weight = stakeManager.weightAt(StakeRoles.VALIDATOR, msg.sender, entry.blockNumber);
        require(
            weight > 0 && stakeManager.isActive(StakeRoles.VALIDATOR, msg.sender),
            ValidatorNotActive(msg.sender)
        );
        address[] memory validators = _draw(batchId, entry);
        require(
            Lists.has(validators, validators.length, msg.sender), ValidatorNotDrawn(batchId, msg.sender)
        );

        _findings[batchId][msg.sender] = valid ? Finding.Valid : Finding.Invalid;
        Attestations storage sums = attestations[batchId];
        if (valid) sums.valid += uint128(weight);
        else sums.invalid += uint128(weight);
        emit BatchAttested(batchId, msg.sender, valid, report);
    }

    /// @inheritdoc IInferenceLedger
    function drawValidators(uint256 batchId) external returns (address[] memory validators) {
        StoredBatch storage entry = _known(batchId);
        validators = _draw(batchId, entry);
        if (validators.length > 0) return validators;
        uint256 drawBlock = _drawBlock(batchId, entry);
        require(block.number > drawBlock, DrawNotReady(batchId, drawBlock));
        // The hash is out of reach, or nobody had weight: from a new block, in case of the former.
        _drawBlocks[batchId] = block.number;
        emit DrawRenewed(batchId, block.number);
    }

    /// @inheritdoc IInferenceLedger
    function validatorsOf(uint256 batchId) external view returns (address[] memory) {
        StoredBatch storage entry = _known(batchId);
        return _drawn[batchId].length > 0 ? _drawn[batchId] : _preview(entry, _seed(batchId, entry));
    }

    /// @inheritdoc IInferenceLedger
    function sampleOf(uint256 batchId, address validator) external view returns (uint256[] memory sequences) {
        return _sample(batchId, _known(batchId), validator);
    }

    /// @inheritdoc IInferenceLedger
    function vouchersOf(uint256 batchId, uint256 sequence) external view returns (address[] memory vouchers) {
        StoredBatch storage entry = _known(batchId);
        address[] storage validators = _drawn[batchId];
        vouchers = new address[](validators.length);
        uint256 count;
        for (uint256 i; i < validators.length; ++i) {
            address validator = validators[i];
            if (_findings[batchId][validator] != Finding.Valid) continue;
            uint256[] memory sample = _sample(batchId, entry, validator);
            if (Lists.has(sample, sample.length, sequence)) vouchers[count++] = validator;
        }
        assembly ("memory-safe") {
            mstore(vouchers, count)
        }
    }

    /// @inheritdoc IInferenceLedger
    function isFinal(uint256 batchId) external view returns (bool) {
        StoredBatch storage entry = _known(batchId);
        address[] storage validators = _drawn[batchId];
        uint256 weight;
        for (uint256 i; i < validators.length; ++i) {
            weight += stakeManager.weightAt(StakeRoles.VALIDATOR, validators[i], entry.blockNumber);
        }
        return weight > 0 && uint256(attestations[batchId].valid) * 3 >= weight * 2;
    }

    /// @inheritdoc IInferenceLedger
    function verify(uint256 batchId, uint256 index, bytes24 leaf, bytes32[] calldata proof)
        external
        view
        returns (bool)
    {
        StoredBatch storage entry = _known(batchId);
        return BatchTree.verify(proof, leaf, index, entry.count, entry.root);
    }

    /// @inheritdoc IInferenceLedger
    function verifyReceipt(uint256 batchId, Receipt calldata receipt, bytes32[] calldata proof)
        external
        view
        returns (bool)
    {
        StoredBatch storage entry = _known(batchId);
        uint256 first = entry.firstSequence;
        if (receipt.host != entry.poster || receipt.sequence < first) return false;
        bytes24 leaf = bytes24(receiptDigest(receipt));
        return BatchTree.verify(proof, leaf, receipt.sequence - first, entry.count, entry.root);
    }

    /// @inheritdoc IInferenceLedger
    function batch(uint256 batchId) external view returns (Batch memory) {
        StoredBatch storage entry = _known(batchId);
        uint144 shares = entry.shares;
        uint32[5] memory split;
        for (uint256 i; i < 5; ++i) {
            split[i] = uint24(shares >> (24 * i));
        }
        return Batch(
            entry.root,
            entry.poster,
            entry.time,
            entry.blockNumber,
            entry.firstSequence,
            entry.count,
            split,
            uint24(shares >> 120)
        );
    }

    /// @inheritdoc IInferenceLedger
    function hasAttested(uint256 batchId, address validator) public view returns (bool) {
        return _findings[batchId][validator] != Finding.None;
    }

    /// @inheritdoc IInferenceLedger
    /// @dev Every field is one word, so the calldata of the struct is its encoding.
    function receiptDigest(Receipt calldata receipt) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(RECEIPT_TYPEHASH, receipt)));
    }

    /// @dev Draws the batch's validators if they are not drawn yet and can be.
    function _draw(uint256 batchId, StoredBatch storage entry) private returns (address[] memory validators) {
        validators = _drawn[batchId];
        if (validators.length > 0) return validators;
        bytes32 seed = _seed(batchId, entry);
        validators = _preview(entry, seed);
        if (validators.length == 0) return validators;
        _drawn[batchId] = validators;
        _samplings[batchId] =
            Sampling(uint224(uint256(seed)), uint32(parameters.get(ParameterKeys.VALIDATOR_SAMPLE)));
        emit ValidatorsDrawn(batchId, validators);
    }

    /// @dev Weights are always those of the batch's block, so that nobody can move stake once the seed is known. The host
    /// does not judge its own batch.
    function _preview(StoredBatch storage entry, bytes32 seed) private view returns (address[] memory) {
        if (seed == 0) return new address[](0);
        address[] memory excluded = new address[](1);
        excluded[0] = entry.poster;
        return stakeManager.draw(
            StakeRoles.VALIDATOR,
            seed,
            parameters.get(ParameterKeys.VALIDATOR_DRAW),
            entry.blockNumber,
            excluded
        );
    }

    /// @dev 0 while the hash of the block that draws is not known.
    function _seed(uint256 batchId, StoredBatch storage entry) private view returns (bytes32) {
        bytes32 hash = BlockHashes.hashOf(_drawBlock(batchId, entry));
        return hash == 0 ? bytes32(0) : keccak256(abi.encode(block.chainid, address(this), batchId, hash));
    }

    /// @dev Empty before the validators are drawn.
    function _sample(uint256 batchId, StoredBatch storage entry, address validator)
        private
        view
        returns (uint256[] memory sequences)
    {
        Sampling storage sampling = _samplings[batchId];
        bytes32 seed = keccak256(abi.encode(sampling.seed, validator));
        sequences = Sample.draw(seed, entry.count, sampling.size);
        for (uint256 i; i < sequences.length; ++i) {
            sequences[i] += entry.firstSequence;
        }
    }

    function _drawBlock(uint256 batchId, StoredBatch storage entry) private view returns (uint256) {
        uint256 renewed = _drawBlocks[batchId];
        return renewed > 0 ? renewed : entry.blockNumber;
    }

    function _pack(uint32[5] memory split, uint32 influencePpm) private pure returns (uint144 shares) {
        shares = uint144(influencePpm) << 120;
        for (uint256 i; i < 5; ++i) {
            shares |= uint144(split[i]) << uint144(24 * i);
        }
    }

    function _known(uint256 batchId) private view returns (StoredBatch storage entry) {
        entry = _batches[batchId];
        require(entry.count > 0, UnknownBatch(batchId));
    }
}
