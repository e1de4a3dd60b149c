// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {IDatanetAccess} from "./interfaces/IDatanetAccess.sol";
import {IDatanetRegistry} from "./interfaces/IDatanetRegistry.sol";
import {IModelRegistry} from "./interfaces/IModelRegistry.sol";
import {IRuntimeParameters} from "./interfaces/IRuntimeParameters.sol";
import {ParameterKeys} from "./libraries/ParameterKeys.sol";

/// @title Registry of models
/// @notice See {IModelRegistry}.
contract ModelRegistry is IModelRegistry, ERC721, AccessManaged {
    /// @notice Most ancestors of a model.
    uint8 public constant MAX_ANCESTORS = 8;

    uint256 private constant PPM = 1_000_000;

    /// @notice The numbers that governance may change.
    IRuntimeParameters public immutable parameters;
    /// @notice The registry of Datanets.
    IDatanetRegistry public immutable datanets;
    /// @notice Access to Datanets, and their income.
    IDatanetAccess public immutable access;

    uint256 public modelCount;
    uint256 public trainingCount;

    /// @notice Hash of the evaluation that governance accepted; 0 if none.
    mapping(uint256 id => bytes32) public acceptedEvaluation;

    mapping(uint256 id => Model) private _models;
    mapping(uint256 job => Training) private _trainings;

    constructor(
        address authority,
        IRuntimeParameters parameters_,
        IDatanetRegistry datanets_,
        IDatanetAccess access_
    ) ERC721("OpenLedger Model", "OLMODEL") AccessManaged(authority) {
        parameters = parameters_;
        datanets = datanets_;
        access = access_;
    }

    /// @inheritdoc IModelRegistry
    function register(ModelInput calldata input) external returns (uint256 id) {
        require(input.baseHash != 0 && input.recipeHash != 0, EmptyHash());
        uint256 most = parameters.get(ParameterKeys.MODEL_LINEAGE);
        require(input.lineagePpm <= most, LineageShareTooLarge(input.lineagePpm, most));
        uint8 depth;
        if (input.parent != 0) {
            depth = _known(input.parent).depth + 1;
            require(depth <= MAX_ANCESTORS, LineageTooLong(MAX_ANCESTORS));
        }
        bytes32 root = _versionRoot(input.datanet, input.version);
        require(root == input.datanetVersionRoot, WrongVersionRoot(input.datanetVersionRoot, root));

        id = ++modelCount;
        _useTraining(input, id);
        _models[id] = Model(input, Status.Proposed, uint64(block.timestamp), depth);
        emit ModelRegistered(
            id,
            msg.sender,
            input.datanet,
            input.version,
            input.baseHash,
            input.adapterHash,
            input.recipeHash,
            input.indexHash,
            input.evaluationHash,
            input.parent,
            input.uri
        );
        emit LineageSet(id, input.parent, input.lineagePpm);
        emit PriceSet(id, input.inputPrice, input.outputPrice);
        _mint(msg.sender, id);
    }

    /// @inheritdoc IModelRegistry
    function recordTraining(uint256 datanet, uint32 version, bytes32 baseHash, bytes32 recipeHash)
        external
        payable
        returns (uint256 job)
    {
        require(baseHash != 0 && recipeHash != 0, EmptyHash());
        job = ++trainingCount;
        _trainings[job] =
            Training(msg.sender, version, uint64(block.timestamp), datanet, baseHash, recipeHash, 0);
        emit TrainingRecorded(job, msg.sender, datanet, version, baseHash, recipeHash, msg.value);
        if (datanet == 0 && version == 0) require(msg.value == 0, LicenceOfNothing(msg.value));
        else access.payLicence{value: msg.value}(datanet, version, msg.sender);
    }

    /// @inheritdoc IModelRegistry
    function setPrice(uint256 id, uint128 inputPrice, uint128 outputPrice) external {
        ModelInput storage input = _owned(id).input;
        input.inputPrice = inputPrice;
        input.outputPrice = outputPrice;
        emit PriceSet(id, inputPrice, outputPrice);
    }

    /// @inheritdoc IModelRegistry
    function deprecate(uint256 id) external {
        _owned(id);
        _deprecate(id);
    }

    /// @inheritdoc IModelRegistry
    function retire(uint256 id) external restricted {
        _deprecate(id);
    }

    /// @inheritdoc IModelRegistry
    function evaluate(uint256 id, bytes32 evaluationHash) external restricted {
        require(evaluationHash != 0, EmptyHash());
        _advance(id, Status.Proposed, Status.Evaluated);
        acceptedEvaluation[id] = evaluationHash;
        emit ModelEvaluated(id, evaluationHash);
    }

    /// @inheritdoc IModelRegistry
    function approve(uint256 id) external restricted {
        _advance(id, Status.Evaluated, Status.Approved);
        emit ModelApproved(id);
    }

    /// @inheritdoc IModelRegistry
    function model(uint256 id) external view returns (Model memory) {
        return _known(id);
    }

    /// @inheritdoc IModelRegistry
    function trainings(uint256 job) external view returns (Training memory) {
        return _knownTraining(job);
    }

    /// @inheritdoc IModelRegistry
    function lineage(uint256 id) external view returns (uint256[] memory ids, uint256[] memory ppm) {
        uint256 length = _known(id).depth + 1;
        ids = new uint256[](length);
        ppm = new uint256[](length);
        uint256 left = PPM;
        for (uint256 i; i < length; ++i) {
            uint256 parent = _models[id].input.parent;
            uint256 up = parent == 0 ? 0 : left * _models[parent].input.lineagePpm / PPM;
            ids[i] = id;
            ppm[i] = left - up;
            left = up;
            id = parent;
        }
    }

    /// @inheritdoc IModelRegistry
    function isServable(uint256 id) external view returns (bool) {
        Status status = _known(id).status;
        if (status == Status.Approved) return true;
        return status != Status.Deprecated && parameters.get(ParameterKeys.MODEL_APPROVAL) == 0;
    }

    /// @notice Where the model's card is.
    /// @custom:misuse Compare the card with the model's hashes: its holder wrote it.
    function tokenURI(uint256 id) public view override returns (string memory) {
        return _known(id).input.uri;
    }

    function _advance(uint256 id, Status needed, Status next) private {
        Model storage entry = _known(id);
        require(entry.status == needed, WrongStatus(id, entry.status, needed));
        entry.status = next;
    }

    function _deprecate(uint256 id) private {
        Model storage entry = _known(id);
        require(entry.status != Status.Deprecated, ModelIsDeprecated(id));
        entry.status = Status.Deprecated;
        emit ModelDeprecated(id);
    }

    /// @dev A model on a Datanet names the job that paid for it, and each job gives one model.
    function _useTraining(ModelInput calldata input, uint256 id) private {
        uint256 job = input.training;
        if (job == 0 && input.datanet == 0) return;
        Training storage entry = _knownTraining(job);
        bool fits = entry.builder == msg.sender && entry.datanet == input.datanet
            && entry.version == input.version && entry.baseHash == input.baseHash
            && entry.recipeHash == input.recipeHash && entry.model == 0;
        require(fits, TrainingDoesNotFit(job));
        entry.model = id;
    }

    function _knownTraining(uint256 job) private view returns (Training storage entry) {
        entry = _trainings[job];
        require(entry.builder != address(0), UnknownTraining(job));
    }

    /// @dev Root of a version that must exist, or 0 for no Datanet at all.
    function _versionRoot(uint256 datanet, uint32 version) private view returns (bytes32) {
        if (datanet == 0 && version == 0) return 0;
        return datanets.versions(datanet, version).root;
    }

    function _known(uint256 id) private view returns (Model storage entry) {
        entry = _models[id];
        require(entry.status != Status.None, UnknownModel(id));
    }

    function _owned(uint256 id) private view returns (Model storage entry) {
        entry = _known(id);
        address owner = ownerOf(id);
        require(msg.sender == owner, NotModelOwner(msg.sender, owner));
    }
}
