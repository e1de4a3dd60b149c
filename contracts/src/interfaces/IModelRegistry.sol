// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Models: who built them, out of what, at what price
/// @notice A model is an ERC-721 token: its holder sets the price and earns the builder's share. Everything that
/// defines the model is a hash that cannot change; a better model is a new model with the old one as its parent.
interface IModelRegistry {
    enum Status {
        None,
        Proposed,
        Approved,
        Deprecated
    }

    /// @dev Prices are wei per 1,000 tokens. `datanet`, `version` and `datanetVersionRoot` are all 0 for a model that was
    /// trained on no Datanet. `parent` is the model that it builds on, or 0.
    struct ModelInput {
        bytes32 baseHash;
        bytes32 adapterHash;
        bytes32 datanetVersionRoot;
        bytes32 recipeHash;
        bytes32 indexHash;
        bytes32 evaluationHash;
        uint256 datanet;
        uint32 version;
        uint128 inputPrice;
        uint128 outputPrice;
        string uri;
        uint256 parent;
    }

    struct Model {
        ModelInput input;
        Status status;
        uint64 registeredTime;
    }

    event ModelRegistered(
        uint256 indexed id,
        address indexed builder,
        uint256 indexed datanet,
        uint32 version,
        bytes32 baseHash,
        bytes32 adapterHash,
        bytes32 recipeHash,
        bytes32 indexHash,
        bytes32 evaluationHash,
        uint256 parent,
        string uri
    );
    event PriceSet(uint256 indexed id, uint128 inputPrice, uint128 outputPrice);
    event ModelApproved(uint256 indexed id);
    event ModelDeprecated(uint256 indexed id);
    /// @notice `builder` declares a fine-tuning job before its result is known.
    event TrainingRecorded(
        uint256 indexed job,
        address indexed builder,
        uint256 indexed datanet,
        uint32 version,
        bytes32 baseHash,
        bytes32 recipeHash
    );

    error UnknownModel(uint256 id);
    error NotModelOwner(address account, address owner);
    error ModelIsDeprecated(uint256 id);
    error ModelAlreadyApproved(uint256 id);
    /// @notice The Datanet's version has root `actual`, not `given`.
    error WrongVersionRoot(bytes32 given, bytes32 actual);
    error EmptyHash();

    function register(ModelInput calldata input) external returns (uint256 id);

    /// @notice Puts a fine-tuning job on record, so that what was trained on which version can be told later, whether or
    /// not its model is ever registered.
    function recordTraining(uint256 datanet, uint32 version, bytes32 baseHash, bytes32 recipeHash)
        external
        returns (uint256 job);

    function setPrice(uint256 id, uint128 inputPrice, uint128 outputPrice) external;

    /// @notice Takes a model out of service for good. Only by its owner.
    function deprecate(uint256 id) external;

    /// @notice Approves a model. Restricted to governance.
    function approve(uint256 id) external;

    /// @notice The model as registered, with its present price and status.
    function model(uint256 id) external view returns (Model memory);

    function modelCount() external view returns (uint256);
    function trainingCount() external view returns (uint256);

    /// @notice Whether the model may answer: not deprecated, and approved where `model.approval` asks for it.
    function isServable(uint256 id) external view returns (bool);
}
