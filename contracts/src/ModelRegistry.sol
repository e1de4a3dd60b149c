// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {IDatanetRegistry} from "./interfaces/IDatanetRegistry.sol";
import {IModelRegistry} from "./interfaces/IModelRegistry.sol";
import {IRuntimeParameters} from "./interfaces/IRuntimeParameters.sol";
import {ParameterKeys} from "./libraries/ParameterKeys.sol";

/// @title Registry of models
/// @notice See {IModelRegistry}.
contract ModelRegistry is IModelRegistry, ERC721, AccessManaged {
    IRuntimeParameters public immutable parameters;
    IDatanetRegistry public immutable datanets;

    uint256 public modelCount;
    uint256 public trainingCount;

    mapping(uint256 id => Model) private _models;

    constructor(address authority, IRuntimeParameters parameters_, IDatanetRegistry datanets_)
        ERC721("OpenLedger Model", "OLMODEL")
        AccessManaged(authority)
    {
        parameters = parameters_;
        datanets = datanets_;
    }

    /// @inheritdoc IModelRegistry
    function register(ModelInput calldata input) external returns (uint256 id) {
        require(input.baseHash != 0 && input.recipeHash != 0, EmptyHash());
        if (input.parent != 0) _known(input.parent);
        bytes32 root = _versionRoot(input.datanet, input.version);
        require(root == input.datanetVersionRoot, WrongVersionRoot(input.datanetVersionRoot, root));

        id = ++modelCount;
        _models[id] = Model(input, Status.Proposed, uint64(block.timestamp));
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
        emit PriceSet(id, input.inputPrice, input.outputPrice);
        _mint(msg.sender, id);
    }

    /// @inheritdoc IModelRegistry
    function recordTraining(uint256 datanet, uint32 version, bytes32 baseHash, bytes32 recipeHash)
        external
        returns (uint256 job)
    {
        require(baseHash != 0 && recipeHash != 0, EmptyHash());
        _versionRoot(datanet, version);
        job = ++trainingCount;
        emit TrainingRecorded(job, msg.sender, datanet, version, baseHash, recipeHash);
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
        Model storage entry = _owned(id);
        require(entry.status != Status.Deprecated, ModelIsDeprecated(id));
        entry.status = Status.Deprecated;
        emit ModelDeprecated(id);
    }

    /// @inheritdoc IModelRegistry
    function approve(uint256 id) external restricted {
        Model storage entry = _known(id);
        require(entry.status != Status.Deprecated, ModelIsDeprecated(id));
        require(entry.status != Status.Approved, ModelAlreadyApproved(id));
        entry.status = Status.Approved;
        emit ModelApproved(id);
    }

    /// @inheritdoc IModelRegistry
    function model(uint256 id) external view returns (Model memory) {
        return _known(id);
    }

    /// @inheritdoc IModelRegistry
    function isServable(uint256 id) external view returns (bool) {
        Status status = _known(id).status;
        if (status == Status.Approved) return true;
        return status == Status.Proposed && parameters.get(ParameterKeys.MODEL_APPROVAL) == 0;
    }

    /// @inheritdoc ERC721
    function tokenURI(uint256 id) public view override returns (string memory) {
        return _known(id).input.uri;
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
