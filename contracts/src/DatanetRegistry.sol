// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {IDatanetRegistry} from "./interfaces/IDatanetRegistry.sol";
import {IRuntimeParameters} from "./interfaces/IRuntimeParameters.sol";
import {IStakeManager} from "./interfaces/IStakeManager.sol";
import {BlockHashes} from "./libraries/BlockHashes.sol";
import {ParameterKeys} from "./libraries/ParameterKeys.sol";
import {Payment} from "./libraries/Payment.sol";
import {Signatures} from "./libraries/Signatures.sol";
import {StakeRoles} from "./libraries/StakeRoles.sol";
import {VerdictTally} from "./libraries/VerdictTally.sol";

/// @title Registry of Datanets, contributions, reviews and versions
/// @notice See {IDatanetRegistry}. The contract holds exactly the bonds of contributions that are not settled and what
/// it owes to receivers that refused a payment.
contract DatanetRegistry is IDatanetRegistry, EIP712, ReentrancyGuardTransient {
    using VerdictTally for uint256[];

    struct Ballot {
        bytes32 commitment;
        bool revealed;
    }

    /// @notice Most records in one contribution.
    uint256 public constant MAX_RECORDS = 4096;

    bytes32 public constant CONTRIBUTION_TYPEHASH = keccak256(
        "Contribution(uint256 datanet,address contributor,bytes32 recordsRoot,uint32 count,string licence,bytes32 manifest,uint256 nonce)"
    );

    IRuntimeParameters public immutable parameters;
    IStakeManager public immutable stakeManager;
    /// @notice Receives penalties and its part of slashed bonds.
    address public immutable treasury;

    uint256 public datanetCount;
    uint256 public contributionCount;
    mapping(address contributor => uint256) public nonces;
    mapping(address account => uint256) public owed;

    mapping(uint256 datanet => Datanet) private _datanets;
    mapping(uint256 datanet => mapping(uint256 version => Version)) private _versions;
    mapping(uint256 id => Contribution) private _contributions;
    mapping(uint256 id => Review) private _reviews;
    mapping(uint256 id => address[]) private _juries;
    mapping(uint256 id => mapping(uint256 round => mapping(address reviewer => Ballot))) private _ballots;
    mapping(uint256 id => mapping(uint256 round => uint256[])) private _tallies;
    mapping(uint256 id => bytes) private _accepted;

    constructor(IRuntimeParameters parameters_, IStakeManager stakeManager_, address treasury_)
        EIP712("OpenLedger", "1")
    {
        require(treasury_ != address(0), ZeroAddress());
        parameters = parameters_;
        stakeManager = stakeManager_;
        treasury = treasury_;
    }

    /// @inheritdoc IDatanetRegistry
    function createDatanet(string calldata name, bytes32 schemaHash, bytes32 policyHash, string calldata uri)
        external
        returns (uint256 id)
    {
        require(bytes(name).length > 0, EmptyName());
        id = ++datanetCount;
        _datanets[id] = Datanet(msg.sender, 0, uint64(block.timestamp), schemaHash, policyHash, name, uri);
        emit DatanetCreated(id, msg.sender, name, schemaHash, policyHash, uri);
    }

    /// @inheritdoc IDatanetRegistry
    function transferDatanet(uint256 datanetId, address newOwner) external {
        Datanet storage net = _ownedDatanet(datanetId);
        require(newOwner != address(0), ZeroAddress());
        emit DatanetTransferred(datanetId, net.owner, newOwner);
        net.owner = newOwner;
    }

    /// @inheritdoc IDatanetRegistry
    function submit(ContributionInput calldata input, bytes calldata signature)
        external
        payable
        returns (uint256 id)
    {
        _knownDatanet(input.datanet);
        require(
            input.count > 0 && input.count <= MAX_RECORDS, RecordCountOutOfBounds(input.count, MAX_RECORDS)
        );
        uint256 bond = input.count * parameters.get(ParameterKeys.BOND_RECORD);
        require(msg.value == bond, WrongBond(msg.value, bond));
        uint256 nonce = nonces[input.contributor];
        require(input.nonce == nonce, WrongNonce(input.nonce, nonce));
        require(
            Signatures.isBy(input.contributor, contributionDigest(input), signature),
            InvalidContributionSignature(input.contributor)
        );

        nonces[input.contributor] = nonce + 1;
        id = ++contributionCount;
        Contribution storage entry = _contributions[id];
        entry.datanet = input.datanet;
        entry.contributor = input.contributor;
        entry.count = input.count;
        entry.state = State.Submitted;
        entry.recordsRoot = input.recordsRoot;
        entry.manifest = input.manifest;
        entry.bond = bond;
        entry.licence = input.licence;
        _reviews[id].drawBlock = uint64(block.number);
        emit ContributionSubmitted(
            id, input.datanet, input.contributor, input.recordsRoot, input.count, input.manifest
        );
    }

    /// @inheritdoc IDatanetRegistry
    function withdrawContribution(uint256 id) external nonReentrant {
        Contribution storage entry = _inState(id, State.Submitted);
        require(msg.sender == entry.contributor, NotContributor(msg.sender, entry.contributor));
        entry.state = State.Withdrawn;
        emit ContributionWithdrawn(id, msg.sender);
        _pay(msg.sender, entry.bond);
    }

    /// @inheritdoc IDatanetRegistry
    function openReview(uint256 id) external returns (bool drawn) {
        Contribution storage entry = _inState(id, State.Submitted);
        Review storage round = _reviews[id];
        uint256 drawBlock = round.drawBlock;
        require(block.number > drawBlock, DrawNotReady(id, drawBlock));

        uint256 size = parameters.get(ParameterKeys.REVIEW_JURY);
        address[] memory jurors = _drawJury(id, entry, drawBlock, size);
        if (jurors.length < size) {
            round.drawBlock = uint64(block.number);
            emit DrawRenewed(id, block.number);
            return false;
        }

        uint256 commitEnd = block.timestamp + parameters.get(ParameterKeys.REVIEW_COMMIT);
        uint256 revealEnd = commitEnd + parameters.get(ParameterKeys.REVIEW_REVEAL);
        entry.state = State.InReview;
        round.round += 1;
        round.committed = 0;
        round.revealed = 0;
        round.commitEnd = uint64(commitEnd);
        round.revealEnd = uint64(revealEnd);
        _juries[id] = jurors;
        emit JuryDrawn(id, round.round, jurors, commitEnd, revealEnd);
        return true;
    }

    /// @inheritdoc IDatanetRegistry
    function commitVerdict(uint256 id, bytes32 commitment) external {
        _inState(id, State.InReview);
        Review storage round = _reviews[id];
        require(block.timestamp < round.commitEnd, CommitWindowOver(round.commitEnd));
        require(commitment != 0, EmptyCommitment());
        uint256 size = _requireJuror(id);
        Ballot storage ballot = _ballots[id][round.round][msg.sender];
        require(ballot.commitment == 0, AlreadyCommitted(id, msg.sender));

        ballot.commitment = commitment;
        round.committed += 1;
        if (round.committed == size) {
            uint64 window = round.revealEnd - round.commitEnd;
            round.commitEnd = uint64(block.timestamp);
            round.revealEnd = uint64(block.timestamp) + window;
        }
        emit VerdictCommitted(id, msg.sender, commitment);
    }

    /// @inheritdoc IDatanetRegistry
    function revealVerdict(uint256 id, bytes calldata verdict, bytes32 salt) external {
        Contribution storage entry = _inState(id, State.InReview);
        Review storage round = _reviews[id];
        require(block.timestamp >= round.commitEnd, CommitWindowOpen(round.commitEnd));
        require(block.timestamp < round.revealEnd, RevealWindowOver(round.revealEnd));
        Ballot storage ballot = _ballots[id][round.round][msg.sender];
        require(!ballot.revealed, AlreadyRevealed(id, msg.sender));
        bytes32 commitment = keccak256(abi.encode(id, msg.sender, verdict, salt));
        require(ballot.commitment == commitment, CommitmentMismatch(ballot.commitment, commitment));
        VerdictTally.check(verdict, entry.count);

        ballot.revealed = true;
        round.revealed += 1;
        _tallies[id][round.round].add(verdict, VerdictTally.lanes(_juries[id].length));
        emit VerdictRevealed(id, msg.sender, verdict);
    }

    /// @inheritdoc IDatanetRegistry
    function finalise(uint256 id) external nonReentrant {
        Contribution storage entry = _inState(id, State.InReview);
        Review storage round = _reviews[id];
        address[] memory jurors = _juries[id];
        uint256 revealed = round.revealed;
        bool commitOver = block.timestamp >= round.commitEnd;
        require(
            block.timestamp >= round.revealEnd || (commitOver && revealed == round.committed),
            ReviewNotOver(commitOver ? round.revealEnd : round.commitEnd)
        );

        address[] memory present = _present(id, round.round, jurors);
        if (revealed * 2 > jurors.length) {
            _settle(id, entry, round.round, present, jurors.length);
        } else {
            entry.state = State.Submitted;
            round.drawBlock = uint64(block.number);
            emit RoundVoided(id, round.round, revealed, block.number);
        }
        _punishAbsent(id, round.round, jurors);
    }

    /// @inheritdoc IDatanetRegistry
    function anchorVersion(
        uint256 datanetId,
        bytes32 root,
        uint64 recordCount,
        uint256[] calldata contributionIds,
        bytes32 manifest
    ) external returns (uint256 version) {
        Datanet storage net = _ownedDatanet(datanetId);
        uint256 accepted;
        uint256 before;
        for (uint256 i; i < contributionIds.length; ++i) {
            uint256 id = contributionIds[i];
            require(id > before, ContributionsNotAscending(before, id));
            Contribution storage entry = _inState(id, State.Finalised);
            require(entry.datanet == datanetId, ContributionOfOtherDatanet(id, entry.datanet));
            accepted += entry.acceptedCount;
            before = id;
        }
        require(recordCount > 0 && recordCount <= accepted, RecordsExceedAccepted(recordCount, accepted));

        version = ++net.versionCount;
        _versions[datanetId][version] = Version(root, manifest, recordCount, uint64(block.timestamp));
        emit VersionAnchored(datanetId, version, root, recordCount, contributionIds, manifest);
    }

    /// @inheritdoc IDatanetRegistry
    function withdrawOwed() external nonReentrant {
        uint256 amount = owed[msg.sender];
        require(amount > 0, NothingOwed(msg.sender));
        owed[msg.sender] = 0;
        Address.sendValue(payable(msg.sender), amount);
    }

    /// @inheritdoc IDatanetRegistry
    function datanet(uint256 id) external view returns (Datanet memory) {
        return _knownDatanet(id);
    }

    /// @inheritdoc IDatanetRegistry
    function contribution(uint256 id) external view returns (Contribution memory) {
        return _known(id);
    }

    /// @inheritdoc IDatanetRegistry
    function review(uint256 id) external view returns (Review memory) {
        _known(id);
        return _reviews[id];
    }

    /// @inheritdoc IDatanetRegistry
    function jury(uint256 id) external view returns (address[] memory) {
        _known(id);
        return _juries[id];
    }

    /// @inheritdoc IDatanetRegistry
    function reviewersOf(uint256 id) external view returns (address[] memory) {
        _known(id);
        return _present(id, _reviews[id].round, _juries[id]);
    }

    /// @inheritdoc IDatanetRegistry
    function acceptedBitmap(uint256 id) external view returns (bytes memory) {
        _known(id);
        return _accepted[id];
    }

    /// @inheritdoc IDatanetRegistry
    function versions(uint256 datanetId, uint256 version) external view returns (Version memory entry) {
        entry = _versions[datanetId][version];
        require(entry.anchoredTime != 0, UnknownVersion(datanetId, version));
    }

    /// @inheritdoc IDatanetRegistry
    function contributionDigest(ContributionInput calldata input) public view returns (bytes32) {
        return _hashTypedDataV4(
            keccak256(
                abi.encode(
                    CONTRIBUTION_TYPEHASH,
                    input.datanet,
                    input.contributor,
                    input.recordsRoot,
                    input.count,
                    keccak256(bytes(input.licence)),
                    input.manifest,
                    input.nonce
                )
            )
        );
    }

    /// @dev The contributor and the Datanet's owner do not judge this contribution.
    function _drawJury(uint256 id, Contribution storage entry, uint256 drawBlock, uint256 size)
        private
        view
        returns (address[] memory)
    {
        bytes32 hash = BlockHashes.hashOf(drawBlock);
        if (hash == 0) return new address[](0);
        address[] memory excluded = new address[](2);
        excluded[0] = entry.contributor;
        excluded[1] = _datanets[entry.datanet].owner;
        bytes32 seed = keccak256(abi.encode(block.chainid, address(this), id, hash));
        return stakeManager.draw(StakeRoles.REVIEWER, seed, size, drawBlock, excluded);
    }

    /// @dev Stores the outcome, then pays: half of the slashed bond to the jurors that revealed, in equal parts, the rest
    /// of it to the treasury, and what was not slashed to the contributor.
    function _settle(
        uint256 id,
        Contribution storage entry,
        uint256 round,
        address[] memory present,
        uint256 size
    ) private {
        uint256 count = entry.count;
        (bytes memory accepted, uint256 acceptedCount) =
            _tallies[id][round].majority(present.length, VerdictTally.lanes(size), (count + 7) / 8);
        uint256 bond = entry.bond;
        uint256 slashed = bond / count * (count - acceptedCount);

        entry.state = State.Finalised;
        entry.acceptedCount = uint32(acceptedCount);
        _accepted[id] = accepted;
        emit ContributionFinalised(id, accepted, acceptedCount, slashed);

        if (slashed > 0) {
            emit BondSlashed(id, entry.contributor, slashed, "records rejected by review");
            uint256 each = slashed / 2 / present.length;
            for (uint256 i; i < present.length; ++i) {
                _pay(present[i], each);
            }
            _pay(treasury, slashed - each * present.length);
        }
        _pay(entry.contributor, bond - slashed);
    }

    function _punishAbsent(uint256 id, uint256 round, address[] memory jurors) private {
        uint256 penalty = parameters.get(ParameterKeys.REVIEW_NOREVEAL);
        for (uint256 i; i < jurors.length; ++i) {
            if (!_ballots[id][round][jurors[i]].revealed) {
                stakeManager.slash(StakeRoles.REVIEWER, jurors[i], penalty, treasury, "verdict not revealed");
            }
        }
    }

    function _pay(address to, uint256 amount) private {
        if (amount == 0 || Payment.push(to, amount)) return;
        owed[to] += amount;
        emit PaymentOwed(to, amount);
    }

    function _present(uint256 id, uint256 round, address[] memory jurors)
        private
        view
        returns (address[] memory list)
    {
        list = new address[](jurors.length);
        uint256 count;
        for (uint256 i; i < jurors.length; ++i) {
            if (_ballots[id][round][jurors[i]].revealed) list[count++] = jurors[i];
        }
        assembly ("memory-safe") {
            mstore(list, count)
        }
    }

    /// @return size Number of jurors of the round.
    function _requireJuror(uint256 id) private view returns (uint256 size) {
        address[] storage jurors = _juries[id];
        size = jurors.length;
        for (uint256 i; i < size; ++i) {
            if (jurors[i] == msg.sender) return size;
        }
        revert NotJuror(id, msg.sender);
    }

    function _knownDatanet(uint256 id) private view returns (Datanet storage net) {
        net = _datanets[id];
        require(net.owner != address(0), UnknownDatanet(id));
    }

    function _ownedDatanet(uint256 id) private view returns (Datanet storage net) {
        net = _knownDatanet(id);
        require(msg.sender == net.owner, NotDatanetOwner(msg.sender, net.owner));
    }

    function _known(uint256 id) private view returns (Contribution storage entry) {
        entry = _contributions[id];
        require(entry.state != State.None, UnknownContribution(id));
    }

    function _inState(uint256 id, State needed) private view returns (Contribution storage entry) {
        entry = _known(id);
        require(entry.state == needed, WrongState(id, entry.state, needed));
    }
}
