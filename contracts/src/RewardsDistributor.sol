// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {IRewardsDistributor} from "./interfaces/IRewardsDistributor.sol";
import {IRuntimeParameters} from "./interfaces/IRuntimeParameters.sol";
import {IStakeManager} from "./interfaces/IStakeManager.sol";
import {ParameterKeys} from "./libraries/ParameterKeys.sol";
import {Signatures} from "./libraries/Signatures.sol";
import {StakeRoles} from "./libraries/StakeRoles.sol";

/// @title Distributor of inference fees
/// @notice See {IRewardsDistributor}. The contract holds exactly what was collected and not yet claimed.
contract RewardsDistributor is IRewardsDistributor, AccessManaged, EIP712 {
    /// @dev Keeps the roots `fromRoot` to `throughRoot` from activation that count in batch `batchId`.
    struct Hold {
        uint64 fromRoot;
        uint64 throughRoot;
        uint64 batchId;
    }

    /// @notice Most roots that one {strike} looks at.
    uint256 public constant STRIKE = 64;

    /// @notice EIP-712 type of a link from one wallet to the next.
    bytes32 public constant WALLET_LINK_TYPEHASH =
        keccak256("WalletLink(address account,address successor,uint256 nonce,uint64 deadline)");

    /// @notice The numbers that governance may change.
    IRuntimeParameters public immutable parameters;
    /// @notice The stakes that stand behind roles.
    IStakeManager public immutable stakeManager;
    /// @notice The escrow of fees.
    address public immutable escrow;

    uint256 public totalCollected;
    uint256 public totalClaimed;
    uint256 public rootCount;
    uint256 public activeRootId;
    mapping(address account => uint256) public claimed;
    mapping(uint256 rootId => mapping(address validator => bool)) public hasAttested;
    mapping(address account => address) public successorOf;
    mapping(address account => address) public claimerOf;
    mapping(address account => uint256) public linkNonces;

    /// @inheritdoc IRewardsDistributor
    uint256 public lastActivated;
    /// @notice Number of holds; ids run from 1 to it.
    uint256 public holdCount;

    /// @dev Totals of the last activated root; they stay when that root is disabled.
    uint256 private _settledTotal;
    uint256 private _settledBatch;
    mapping(uint256 rootId => Root) private _roots;
    uint256[] private _openHolds;
    mapping(uint256 holdId => Hold) private _holds;

    /// @param escrow_ The fee escrow, which may be deployed after this contract, at an address known before.
    constructor(
        address authority,
        IRuntimeParameters parameters_,
        IStakeManager stakeManager_,
        address escrow_
    ) AccessManaged(authority) EIP712("OpenLedger", "1") {
        require(escrow_ != address(0), ZeroAddress());
        parameters = parameters_;
        stakeManager = stakeManager_;
        escrow = escrow_;
    }

    /// @inheritdoc IRewardsDistributor
    function collect() external payable {
        require(msg.sender == escrow, NotEscrow(msg.sender));
        totalCollected += msg.value;
        emit FeesCollected(msg.value, totalCollected);
    }

    /// @inheritdoc IRewardsDistributor
    function proposeRoot(bytes32 root, uint256 total, uint256 lastBatch, bytes32 dataHash)
        external
        restricted
        returns (uint256 rootId)
    {
        _checkTotals(total, lastBatch);
        rootId = ++rootCount;
        uint256 activationTime = block.timestamp + parameters.get(ParameterKeys.PAYOUT_DELAY);
        _roots[rootId] = Root(
            root,
            dataHash,
            total,
            lastBatch,
            uint64(block.timestamp),
            uint64(activationTime),
            uint64(block.number),
            false,
            0,
            msg.sender
        );
        emit RootProposed(rootId, root, total, lastBatch, dataHash, activationTime);
    }

    /// @inheritdoc IRewardsDistributor
    function attestRoot(uint256 rootId) external {
        Root storage entry = _enabled(rootId);
        require(!hasAttested[rootId][msg.sender], AlreadyAttested(rootId, msg.sender));
        uint256 weight = stakeManager.weightAt(StakeRoles.VALIDATOR, msg.sender, entry.proposedBlock);
        require(
            weight > 0 && stakeManager.isActive(StakeRoles.VALIDATOR, msg.sender),
            ValidatorNotActive(msg.sender)
        );
        hasAttested[rootId][msg.sender] = true;
        entry.attestedWeight += weight;
        emit RootAttested(rootId, msg.sender, weight);
    }

    /// @inheritdoc IRewardsDistributor
    function activate(uint256 rootId) external {
        Root storage entry = _enabled(rootId);
        require(rootId > lastActivated, RootSuperseded(rootId, lastActivated));
        require(_matured(entry), RootNotReady(rootId, entry.activationTime));
        require(!isHeld(rootId), RootIsHeld(rootId));
        _checkTotals(entry.total, entry.lastBatch);
        lastActivated = rootId;
        _settledTotal = entry.total;
        _settledBatch = entry.lastBatch;
        activeRootId = rootId;
        emit RootActivated(rootId, entry.root, entry.total);
    }

    /// @inheritdoc IRewardsDistributor
    function disable(uint256 rootId) external restricted {
        Root storage entry = _enabled(rootId);
        entry.disabled = true;
        if (rootId == activeRootId) {
            activeRootId = 0;
            _settledTotal = totalClaimed;
            _settledBatch = 0;
        }
        emit RootDisabled(rootId);
    }

    /// @inheritdoc IRewardsDistributor
    function claim(address account, uint256 cumulative, bytes32[] calldata proof)
        external
        returns (uint256 amount)
    {
        address holder = holderOf(account);
        address claimer = claimerOf[account];
        require(
            claimer == address(0) || msg.sender == claimer || msg.sender == holder,
            NotClaimer(msg.sender, account)
        );
        return _claim(account, holder, cumulative, proof);
    }

    /// @inheritdoc IRewardsDistributor
    function claimTo(address account, address to, uint256 cumulative, bytes32[] calldata proof)
        external
        returns (uint256 amount)
    {
        require(
            msg.sender == holderOf(account) || msg.sender == claimerOf[account],
            NotClaimer(msg.sender, account)
        );
        require(to != address(0), ZeroAddress());
        return _claim(account, to, cumulative, proof);
    }

    /// @inheritdoc IRewardsDistributor
    function setClaimer(address account, address claimer) external {
        address holder = holderOf(account);
        require(msg.sender == holder, NotHolder(msg.sender, holder));
        claimerOf[account] = claimer;
        emit ClaimerSet(account, claimer);
    }

    /// @inheritdoc IRewardsDistributor
    function rotate(address account, uint64 deadline, bytes calldata signature) external {
        require(block.timestamp <= deadline, LinkExpired(deadline));
        require(successorOf[account] == address(0), AlreadyRotated(account, successorOf[account]));
        // A successor that was itself left behind would make a circle, or pay a wallet that nobody trusts any more.
        require(
            msg.sender != account && successorOf[msg.sender] == address(0), InvalidSuccessor(msg.sender)
        );
        bytes32 digest = linkDigest(account, msg.sender, linkNonces[account], deadline);
        require(Signatures.isBy(account, digest, signature), InvalidLinkSignature(account));

        linkNonces[account] += 1;
        successorOf[account] = msg.sender;
        delete claimerOf[account];
        emit WalletRotated(account, msg.sender);
    }

    /// @inheritdoc IRewardsDistributor
    function cancelLinks() external {
        emit LinksCancelled(msg.sender, ++linkNonces[msg.sender]);
    }

    /// @inheritdoc IRewardsDistributor
    function hold(uint256 batchId) external restricted returns (uint256 holdId) {
        return _hold(lastActivated + 1, rootCount, batchId);
    }

    /// @inheritdoc IRewardsDistributor
    function holdRoot(uint256 rootId) external restricted returns (uint256 holdId) {
        _enabled(rootId);
        require(rootId > lastActivated, RootSuperseded(rootId, lastActivated));
        return _hold(rootId, rootId, 0);
    }

    /// @inheritdoc IRewardsDistributor
    function release(uint256 holdId) external restricted {
        _release(holdId);
    }

    /// @inheritdoc IRewardsDistributor
    function strike(uint256 holdId) external restricted returns (bool done) {
        Hold storage entry = _holds[holdId];
        uint256 id = entry.fromRoot;
        uint256 through = entry.throughRoot;
        uint256 end = through - id < STRIKE ? through + 1 : id + STRIKE;
        for (; id < end; ++id) {
            Root storage root = _roots[id];
            if (root.disabled || root.lastBatch < entry.batchId) continue;
            root.disabled = true;
            emit RootDisabled(id);
        }
        entry.fromRoot = uint64(id);
        done = id > through;
        if (done) _release(holdId);
    }

    /// @inheritdoc IRewardsDistributor
    function holderOf(address account) public view returns (address holder) {
        holder = account;
        for (address next = successorOf[account]; next != address(0); next = successorOf[next]) {
            holder = next;
        }
    }

    /// @inheritdoc IRewardsDistributor
    function linkDigest(address account, address successor, uint256 nonce, uint64 deadline)
        public
        view
        returns (bytes32)
    {
        return _hashTypedDataV4(
            keccak256(abi.encode(WALLET_LINK_TYPEHASH, account, successor, nonce, deadline))
        );
    }

    /// @inheritdoc IRewardsDistributor
    function isHeld(uint256 rootId) public view returns (bool) {
        uint256 lastBatch = _known(rootId).lastBatch;
        for (uint256 i; i < _openHolds.length; ++i) {
            Hold storage entry = _holds[_openHolds[i]];
            if (rootId >= entry.fromRoot && rootId <= entry.throughRoot && lastBatch >= entry.batchId) {
                return true;
            }
        }
        return false;
    }

    function _claim(address account, address to, uint256 cumulative, bytes32[] calldata proof)
        private
        returns (uint256 amount)
    {
        require(activeRootId != 0, NoActiveRoot());
        Root storage entry = _roots[activeRootId];
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(account, cumulative))));
        require(MerkleProof.verifyCalldata(proof, entry.root, leaf), InvalidProof(account, cumulative));
        uint256 before = claimed[account];
        require(cumulative > before, NothingToClaim(account, before));
        amount = cumulative - before;
        uint256 left = entry.total - totalClaimed;
        require(amount <= left, RootOverdrawn(amount, left));

        claimed[account] = cumulative;
        totalClaimed += amount;
        emit Claimed(account, to, amount, cumulative);
        Address.sendValue(payable(to), amount);
    }

    /// @inheritdoc IRewardsDistributor
    function rootOf(uint256 rootId) external view returns (Root memory) {
        return _known(rootId);
    }

    /// @inheritdoc IRewardsDistributor
    function isReady(uint256 rootId) external view returns (bool) {
        Root storage entry = _known(rootId);
        return !entry.disabled && rootId > lastActivated && _matured(entry) && entry.total >= _least()
            && entry.lastBatch >= _settledBatch && !isHeld(rootId);
    }

    function _release(uint256 holdId) private {
        for (uint256 i; i < _openHolds.length; ++i) {
            if (_openHolds[i] != holdId) continue;
            _openHolds[i] = _openHolds[_openHolds.length - 1];
            _openHolds.pop();
            emit HoldReleased(holdId);
            return;
        }
    }

    /// @dev 0 where there is nothing to hold.
    function _hold(uint256 fromRoot, uint256 throughRoot, uint256 batchId) private returns (uint256 holdId) {
        if (fromRoot > throughRoot) return 0;
        holdId = ++holdCount;
        _holds[holdId] = Hold(uint64(fromRoot), uint64(throughRoot), uint64(batchId));
        _openHolds.push(holdId);
        emit RootsHeld(holdId, fromRoot, throughRoot, batchId);
    }

    function _checkTotals(uint256 total, uint256 lastBatch) private view {
        require(
            total >= _least() && total <= totalCollected, TotalOutOfBounds(total, _least(), totalCollected)
        );
        require(lastBatch >= _settledBatch, LastBatchDecreases(lastBatch, _settledBatch));
    }

    /// @dev The delay is over, or two thirds of the weight that validators had at the proposal have attested.
    function _matured(Root storage entry) private view returns (bool) {
        if (block.timestamp >= entry.activationTime) return true;
        if (entry.attestedWeight == 0) return false;
        uint256 weight = stakeManager.totalWeightAt(StakeRoles.VALIDATOR, entry.proposedBlock);
        return entry.attestedWeight * 3 >= weight * 2;
    }

    /// @dev No root may promise less than the active one, nor less than what was paid under one since disabled.
    function _least() private view returns (uint256) {
        return _settledTotal > totalClaimed ? _settledTotal : totalClaimed;
    }

    function _known(uint256 rootId) private view returns (Root storage entry) {
        entry = _roots[rootId];
        require(entry.proposedTime != 0, UnknownRoot(rootId));
    }

    function _enabled(uint256 rootId) private view returns (Root storage entry) {
        entry = _known(rootId);
        require(!entry.disabled, RootIsDisabled(rootId));
    }
}
