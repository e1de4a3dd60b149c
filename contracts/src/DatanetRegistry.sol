// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {IDatanetRegistry} from "./interfaces/IDatanetRegistry.sol";
import {IReviewAppeals} from "./interfaces/IReviewAppeals.sol";
import {IRuntimeParameters} from "./interfaces/IRuntimeParameters.sol";
import {IStakeManager} from "./interfaces/IStakeManager.sol";
import {Bitmaps} from "./libraries/Bitmaps.sol";
import {BlockHashes} from "./libraries/BlockHashes.sol";
import {ParameterKeys} from "./libraries/ParameterKeys.sol";
import {Payer} from "./libraries/Payer.sol";
import {Signatures} from "./libraries/Signatures.sol";
import {StakeRoles} from "./libraries/StakeRoles.sol";
import {VerdictTally} from "./libraries/VerdictTally.sol";

/// @title Registry of Datanets, contributions, reviews and versions
/// @notice See {IDatanetRegistry}. The contract holds exactly the bonds of contributions that are not final and what
/// it owes to receivers that refused a payment.
contract DatanetRegistry is IDatanetRegistry, EIP712, Payer {
    using Bitmaps for bytes;
    using VerdictTally for uint256[];

    struct Ballot {
        bytes32 commitment;
        bool revealed;
    }

    /// @notice Most records in one contribution.
    uint256 public constant MAX_RECORDS = 4096;

    /// @notice EIP-712 type of a contribution.
    bytes32 public constant CONTRIBUTION_TYPEHASH = keccak256(
        "Contribution(uint256 datanet,address contributor,bytes32 recordsRoot,uint32 count,string licence,bytes32 manifest,uint256 nonce)"
    );

    /// @notice The numbers that governance may change.
    IRuntimeParameters public immutable parameters;
    /// @notice The stakes that stand behind roles.
    IStakeManager public immutable stakeManager;
    /// @notice The contract of challenges to decisions.
    IReviewAppeals public immutable appeals;
    /// @notice Receives penalties and its part of slashed bonds.
    address public immutable treasury;

    uint256 public datanetCount;
    uint256 public contributionCount;
    mapping(address contributor => uint256) public nonces;

    mapping(uint256 datanet => Datanet) private _datanets;
    mapping(uint256 datanet => mapping(uint256 version => Version)) private _versions;
    mapping(uint256 id => Contribution) private _contributions;
    mapping(uint256 id => Review) private _reviews;
    mapping(uint256 id => mapping(uint256 round => address[])) private _juries;
    mapping(uint256 id => mapping(uint256 round => mapping(address reviewer => Ballot))) private _ballots;
    mapping(uint256 id => mapping(uint256 round => uint256[])) private _tallies;
    mapping(uint256 id => bytes) private _accepted;
    mapping(uint256 id => mapping(uint256 index => bool)) private _removed;
    mapping(uint256 datanet => mapping(address contributor => uint256)) private _rows;
    mapping(uint256 datanet => mapping(uint256 version => mapping(uint256 id => uint256))) private
        _rowsInVersion;

    constructor(
        IRuntimeParameters parameters_,
        IStakeManager stakeManager_,
        IReviewAppeals appeals_,
        address treasury_
    ) EIP712("OpenLedger", "1") {
        require(treasury_ != address(0), ZeroAddress());
        parameters = parameters_;
        stakeManager = stakeManager_;
        appeals = appeals_;
        treasury = treasury_;
    }

    /// @inheritdoc IDatanetRegistry
    function createDatanet(
        string calldata name,
        bytes32 schemaHash,
        bytes32 policyHash,
        string calldata uri,
        DatanetTerms calldata terms
    ) external returns (uint256 id) {
        require(bytes(name).length > 0, EmptyName());
        uint256 most = parameters.get(ParameterKeys.DATANET_OWNER);
        require(terms.ownerPpm <= most, OwnerShareTooLarge(terms.ownerPpm, most));
        id = ++datanetCount;
        _datanets[id] =
            Datanet(msg.sender, 0, uint64(block.timestamp), schemaHash, policyHash, terms, name, uri);
        emit DatanetCreated(id, msg.sender, name, schemaHash, policyHash, uri);
        emit DatanetTermsSet(id, terms);
    }

    /// @inheritdoc IDatanetRegistry
    function setFees(uint256 datanetId, uint128 accessFee, uint128 licenceFee) external {
        DatanetTerms storage terms = _ownedDatanet(datanetId).terms;
        terms.accessFee = accessFee;
        terms.licenceFee = licenceFee;
        emit DatanetTermsSet(datanetId, terms);
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
        uint256 cap = _knownDatanet(input.datanet).terms.rowCap;
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

        uint256 rows = _rows[input.datanet][input.contributor] + input.count;
        require(cap == 0 || rows <= cap, RowCapExceeded(rows, cap));

        nonces[input.contributor] = nonce + 1;
        _rows[input.datanet][input.contributor] = rows;
        id = ++contributionCount;
        Contribution storage entry = _contributions[id];
        entry.datanet = input.datanet;
        entry.contributor = input.contributor;
        entry.count = input.count;
        entry.state = State.Submitted;
        entry.recordsRoot = input.recordsRoot;
        entry.manifest = input.manifest;
        entry.bond = bond;
        _reviews[id].drawBlock = uint64(block.number);
        emit ContributionSubmitted(
            id, input.datanet, input.contributor, input.recordsRoot, input.count, input.manifest
        );
    }

    /// @inheritdoc IDatanetRegistry
    function withdrawContribution(uint256 id) external nonReentrant {
        Contribution storage entry = _inState(id, State.Submitted);
        require(msg.sender == entry.contributor, NotContributor(msg.sender, entry.contributor));
        Review storage round = _reviews[id];
        (, bool full,) = _draw(id, entry, round, ParameterKeys.REVIEW_JURY, 0);
        require(round.round == 0 && !full, JuryIsKnown(id));
        entry.state = State.Withdrawn;
        _rows[entry.datanet][msg.sender] -= entry.count;
        emit ContributionWithdrawn(id, msg.sender);
        _pay(msg.sender, entry.bond);
    }

    /// @inheritdoc IDatanetRegistry
    function openReview(uint256 id) external returns (bool drawn) {
        Contribution storage entry = _known(id);
        Review storage round = _reviews[id];
        State state = entry.state;
        bytes32 size = ParameterKeys.REVIEW_JURY;
        uint256 earlier;
        if (state == State.Decided) {
            require(appeals.challengeCount(id) > 0, NothingChallenged(id));
            require(block.timestamp >= round.defendEnd, DefenceWindowOpen(round.defendEnd));
            size = ParameterKeys.REVIEW_APPEAL;
            earlier = round.decidedRound;
        } else if (state == State.Disagreed) {
            size = ParameterKeys.REVIEW_EXTRA;
            earlier = round.round;
        } else {
            require(state == State.Submitted, WrongState(id, state, State.Submitted));
        }
        require(block.number > round.drawBlock, DrawNotReady(id, round.drawBlock));

        (address[] memory jurors, bool full, bool known) = _draw(id, entry, round, size, earlier);
        if (!known || (!full && state != State.Disagreed)) {
            round.drawBlock = uint64(block.number);
            emit DrawRenewed(id, block.number);
            return false;
        }
        if (jurors.length == 0) {
            _decide(id, entry, round);
            return false;
        }
        _seat(id, entry, round, jurors);
        return true;
    }

    /// @inheritdoc IDatanetRegistry
    function commitVerdict(uint256 id, bytes32 commitment) external {
        Review storage round = _sitting(id);
        require(block.timestamp < round.commitEnd, CommitWindowOver(round.commitEnd));
        require(commitment != 0, EmptyCommitment());
        _requireJuror(id, round);
        Ballot storage ballot = _ballots[id][round.round][msg.sender];
        require(ballot.commitment == 0, AlreadyCommitted(id, msg.sender));

        ballot.commitment = commitment;
        round.committed += 1;
        if (round.committed == round.seats) {
            uint64 window = round.revealEnd - round.commitEnd;
            round.commitEnd = uint64(block.timestamp);
            round.revealEnd = uint64(block.timestamp) + window;
        }
        emit VerdictCommitted(id, msg.sender, commitment);
    }

    /// @inheritdoc IDatanetRegistry
    function revealVerdict(uint256 id, bytes calldata verdict, bytes32 salt) external {
        Review storage round = _sitting(id);
        require(block.timestamp >= round.commitEnd, CommitWindowOpen(round.commitEnd));
        require(block.timestamp < round.revealEnd, RevealWindowOver(round.revealEnd));
        Ballot storage ballot = _ballots[id][round.round][msg.sender];
        require(!ballot.revealed, AlreadyRevealed(id, msg.sender));
        bytes32 commitment = keccak256(abi.encode(id, msg.sender, verdict, salt));
        require(ballot.commitment == commitment, CommitmentMismatch(ballot.commitment, commitment));
        VerdictTally.check(verdict, _contributions[id].count);

        ballot.revealed = true;
        round.revealed += 1;
        _tallies[id][round.round].add(verdict);
        emit VerdictRevealed(id, msg.sender, round.round, verdict);
    }

    /// @inheritdoc IDatanetRegistry
    function endRound(uint256 id) external nonReentrant {
        Review storage round = _sitting(id);
        Contribution storage entry = _contributions[id];
        uint256 revealed = round.revealed;
        bool commitOver = block.timestamp >= round.commitEnd;
        require(
            block.timestamp >= round.revealEnd || (commitOver && revealed == round.committed),
            ReviewNotOver(commitOver ? round.revealEnd : round.commitEnd)
        );

        address[] memory jurors = _jury(id, round);
        uint256 first = jurors.length - round.seats;
        bool appeal = entry.state == State.InAppeal;
        uint32 number = round.round;
        if (first == 0 && revealed * 2 <= jurors.length) {
            entry.state = appeal ? State.Decided : State.Submitted;
            round.drawBlock = uint64(block.number);
            emit RoundVoided(id, number, revealed, block.number);
        } else if (appeal) {
            _overturn(id, entry, round);
        } else {
            uint256 contested = first == 0 && parameters.get(ParameterKeys.REVIEW_EXTRA) > 0
                ? _tallies[id][number].contested(revealed)
                : 0;
            if (contested == 0) {
                _decide(id, entry, round);
            } else {
                entry.state = State.Disagreed;
                round.drawBlock = uint64(block.number);
                emit RoundDisagreed(id, number, contested, block.number);
            }
        }
        _punishAbsent(id, number, jurors, first);
    }

    /// @inheritdoc IDatanetRegistry
    function finalise(uint256 id) external nonReentrant {
        Contribution storage entry = _inState(id, State.Decided);
        Review storage round = _reviews[id];
        if (appeals.challengeCount(id) == 0) {
            require(block.timestamp >= round.challengeEnd, ChallengeWindowOpen(round.challengeEnd));
        } else {
            require(block.timestamp >= round.lapseEnd, AppealPending(round.lapseEnd));
            round.lapsed = true;
            emit AppealLapsed(id);
        }
        _settle(id, entry, round.decidedRound, 0);
    }

    /// @inheritdoc IDatanetRegistry
    function removeRecord(
        uint256 id,
        uint256 index,
        bytes32 recordHash,
        bytes32[] calldata proof,
        bytes32 reason
    ) external {
        Contribution storage entry = _inState(id, State.Finalised);
        Datanet storage net = _datanets[entry.datanet];
        require(
            msg.sender == net.owner || msg.sender == entry.contributor,
            NotContributor(msg.sender, entry.contributor)
        );
        require(
            MerkleProof.verifyCalldata(proof, entry.recordsRoot, keccak256(abi.encode(recordHash))),
            NotPartOfContribution(id, recordHash)
        );
        require(_accepted[id].has(index), RecordNotAccepted(id, index));
        require(!_removed[id][index], AlreadyRemoved(id, index));

        _removed[id][index] = true;
        entry.removedCount += 1;
        emit RecordRemoved(entry.datanet, id, recordHash, net.versionCount + 1, reason);
    }

    /// @inheritdoc IDatanetRegistry
    function anchorVersion(
        uint256 datanetId,
        bytes32 root,
        uint64 recordCount,
        uint256[] calldata contributionIds,
        bytes32 manifest
    ) external returns (uint256 version) {
        version = ++_ownedDatanet(datanetId).versionCount;
        uint256 accepted;
        uint256 before;
        for (uint256 i; i < contributionIds.length; ++i) {
            uint256 id = contributionIds[i];
            require(id > before, ContributionsNotAscending(before, id));
            Contribution storage entry = _inState(id, State.Finalised);
            require(entry.datanet == datanetId, ContributionOfOtherDatanet(id, entry.datanet));
            uint256 rows = entry.acceptedCount - entry.removedCount;
            _rowsInVersion[datanetId][version][id] = rows;
            accepted += rows;
            before = id;
        }
        require(recordCount > 0 && recordCount <= accepted, RecordsExceedAccepted(recordCount, accepted));

        _versions[datanetId][version] =
            Version(root, manifest, recordCount, uint64(accepted), uint64(block.timestamp));
        emit VersionAnchored(datanetId, version, root, recordCount, contributionIds, manifest);
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
        return _jury(id, _reviews[id]);
    }

    /// @inheritdoc IDatanetRegistry
    function reviewersOf(uint256 id) external view returns (address[] memory) {
        _known(id);
        return _present(id, _reviews[id].round);
    }

    /// @inheritdoc IDatanetRegistry
    function acceptedBitmap(uint256 id) external view returns (bytes memory) {
        _known(id);
        return _accepted[id];
    }

    /// @inheritdoc IDatanetRegistry
    function rowsOf(uint256 datanetId, address contributor) external view returns (uint256) {
        return _rows[datanetId][contributor];
    }

    /// @inheritdoc IDatanetRegistry
    function rowsInVersion(uint256 datanetId, uint256 version, uint256 id) external view returns (uint256) {
        return _rowsInVersion[datanetId][version][id];
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

    /// @dev The contributor, the Datanet's owner and the jurors of the round `earlier` do not judge.
    /// @param size Parameter with the number of jurors.
    /// @return jurors Who is drawn; fewer where there are not enough.
    /// @return full Whether there are enough.
    /// @return known Whether the seed is known; nobody is drawn where it is not.
    function _draw(
        uint256 id,
        Contribution storage entry,
        Review storage round,
        bytes32 size,
        uint256 earlier
    ) private view returns (address[] memory jurors, bool full, bool known) {
        uint256 drawBlock = round.drawBlock;
        bytes32 hash = BlockHashes.hashOf(drawBlock);
        if (drawBlock == 0 || hash == 0) return (jurors, false, false);
        address[] storage seated = _juries[id][earlier];
        uint256 length = seated.length;
        address[] memory excluded = new address[](length + 2);
        for (uint256 i; i < length; ++i) {
            excluded[i] = seated[i];
        }
        excluded[length] = entry.contributor;
        excluded[length + 1] = _datanets[entry.datanet].owner;
        bytes32 seed = keccak256(abi.encode(block.chainid, address(this), id, hash));
        uint256 count = parameters.get(size);
        jurors = stakeManager.draw(StakeRoles.REVIEWER, seed, count, drawBlock, excluded);
        return (jurors, jurors.length == count, true);
    }

    /// @dev Jurors of an appeal or of a first round make a round of their own; further jurors join the present one.
    function _seat(uint256 id, Contribution storage entry, Review storage round, address[] memory jurors)
        private
    {
        uint256 commitEnd = block.timestamp + parameters.get(ParameterKeys.REVIEW_COMMIT);
        uint256 revealEnd = commitEnd + parameters.get(ParameterKeys.REVIEW_REVEAL);
        bool joining = entry.state == State.Disagreed;
        entry.state = entry.state == State.Decided ? State.InAppeal : State.InReview;
        if (!joining) round.round += 1;
        uint32 number = round.round;
        round.seats = uint16(jurors.length);
        round.committed = 0;
        round.revealed = 0;
        round.commitEnd = uint64(commitEnd);
        round.revealEnd = uint64(revealEnd);
        address[] storage list = _juries[id][number];
        for (uint256 i; i < jurors.length; ++i) {
            list.push(jurors[i]);
        }
        if (joining) emit JuryExtended(id, number, jurors, commitEnd, revealEnd);
        else emit JuryDrawn(id, number, jurors, commitEnd, revealEnd);
    }

    /// @dev The majority of those that revealed decides, for the time being.
    function _decide(uint256 id, Contribution storage entry, Review storage round) private {
        uint32 number = round.round;
        (bytes memory accepted, uint256 acceptedCount) =
            _tallies[id][number].majority(_present(id, number).length, (entry.count + 7) / 8);
        uint256 window = parameters.get(ParameterKeys.REVIEW_CHALLENGE);
        uint256 defendEnd = block.timestamp + 2 * window;
        entry.state = State.Decided;
        entry.acceptedCount = uint32(acceptedCount);
        _accepted[id] = accepted;
        round.decidedRound = number;
        round.drawBlock = 0;
        round.challengeEnd = uint64(block.timestamp + window);
        round.defendEnd = uint64(defendEnd);
        round.lapseEnd = uint64(defendEnd + parameters.get(ParameterKeys.REVIEW_LAPSE));
        emit RoundDecided(id, number, accepted, acceptedCount, block.timestamp + window);
    }

    /// @dev On challenged records the appeal's majority takes the place of the first decision.
    function _overturn(uint256 id, Contribution storage entry, Review storage round) private {
        (bytes memory judged,) =
            _tallies[id][round.round].majority(_present(id, round.round).length, (entry.count + 7) / 8);
        (bytes memory accepted, uint256 turnedDown) = appeals.judge(id, _accepted[id], judged);
        _accepted[id] = accepted;
        entry.acceptedCount = uint32(accepted.count());
        _settle(id, entry, round.round, turnedDown);
    }

    /// @dev Pays half of the slashed bond to the jurors of the deciding round that revealed, in equal parts, what
    /// was not slashed to the contributor and the rest to the treasury. What challengers won goes to {IReviewAppeals}.
    /// @param turnedDown Records that were rejected thanks to a challenge.
    function _settle(uint256 id, Contribution storage entry, uint256 round, uint256 turnedDown) private {
        uint256 rejected = entry.count - entry.acceptedCount;
        uint256 bond = entry.bond;
        uint256 slashed = bond / entry.count * rejected;
        entry.state = State.Finalised;
        _rows[entry.datanet][entry.contributor] -= rejected;
        emit ContributionFinalised(id, uint32(round), _accepted[id], entry.acceptedCount, slashed);

        if (slashed > 0) {
            emit BondSlashed(id, entry.contributor, slashed, "records rejected by review");
            uint256 won = bond / entry.count / 2 * turnedDown;
            _payEvenly(_present(id, round), slashed / 2, slashed - won, treasury);
            if (won > 0) Address.sendValue(payable(address(appeals)), won);
        }
        _pay(entry.contributor, bond - slashed);
    }

    function _punishAbsent(uint256 id, uint256 round, address[] memory jurors, uint256 first) private {
        uint256 penalty = parameters.get(ParameterKeys.REVIEW_NOREVEAL);
        for (uint256 i = first; i < jurors.length; ++i) {
            if (!_ballots[id][round][jurors[i]].revealed) {
                stakeManager.slash(StakeRoles.REVIEWER, jurors[i], penalty, treasury, "verdict not revealed");
            }
        }
    }

    function _jury(uint256 id, Review storage round) private view returns (address[] memory) {
        return _juries[id][round.round];
    }

    function _present(uint256 id, uint256 round) private view returns (address[] memory list) {
        address[] storage jurors = _juries[id][round];
        list = new address[](jurors.length);
        uint256 count;
        for (uint256 i; i < jurors.length; ++i) {
            if (_ballots[id][round][jurors[i]].revealed) list[count++] = jurors[i];
        }
        assembly ("memory-safe") {
            mstore(list, count)
        }
    }

    function _requireJuror(uint256 id, Review storage round) private view {
        address[] storage jurors = _juries[id][round.round];
        for (uint256 i = jurors.length - round.seats; i < jurors.length; ++i) {
            if (jurors[i] == msg.sender) return;
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

    /// @dev The review of a contribution that jurors sit on.
    function _sitting(uint256 id) private view returns (Review storage) {
        State state = _known(id).state;
        require(state == State.InReview || state == State.InAppeal, WrongState(id, state, State.InReview));
        return _reviews[id];
    }
}
