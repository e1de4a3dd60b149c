// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Models: who built them, out of what, at what price
/// @notice A model is an ERC-721 token: its holder sets the price and earns the builder's share. Everything that
/// defines the model is a hash that cannot change; a better model is a new model with the old one as its parent, and
/// its builder's share goes up the line of ancestors by what each of them asked for when it was registered.
interface IModelRegistry {
    enum Status {
        None,
        Proposed,
        Evaluated,
        Approved,
        Deprecated
    }

    /// @dev Prices are wei per 1,000 tokens. `datanet`, `version`, `datanetVersionRoot` and `training` are all 0 for a
    /// model that was trained on no Datanet; otherwise `training` is the builder's recorded job for that version, base
    /// and recipe. `parent` is the model that it builds on, or 0. `lineagePpm` is the part that this model asks of the
    /// builder's share of each model that builds on it.
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
        uint32 lineagePpm;
        uint256 training;
    }

    struct Model {
        ModelInput input;
        Status status;
        uint64 registeredTime;
        uint8 depth;
    }

    /// @dev A fine-tuning job; `model` is what came of it, 0 before it is registered.
    struct Training {
        address builder;
        uint32 version;
        uint64 recordedTime;
        uint256 datanet;
        bytes32 baseHash;
        bytes32 recipeHash;
        uint256 model;
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
    /// @notice What models that build on `id` will hand up to it, in ppm of their builder's share.
    event LineageSet(uint256 indexed id, uint256 indexed parent, uint32 lineagePpm);
    event PriceSet(uint256 indexed id, uint128 inputPrice, uint128 outputPrice);
    event ModelEvaluated(uint256 indexed id, bytes32 evaluationHash);
    event ModelApproved(uint256 indexed id);
    event ModelDeprecated(uint256 indexed id);
    /// @notice `builder` declares a fine-tuning job before its result is known, and has paid `fee` wei for it.
    event TrainingRecorded(
        uint256 indexed job,
        address indexed builder,
        uint256 indexed datanet,
        uint32 version,
        bytes32 baseHash,
        bytes32 recipeHash,
        uint256 fee
    );

    error UnknownModel(uint256 id);
    error UnknownTraining(uint256 job);
    error NotModelOwner(address account, address owner);
    error ModelIsDeprecated(uint256 id);
    /// @notice The model's status is `status`; this step needs `needed`.
    error WrongStatus(uint256 id, Status status, Status needed);
    /// @notice The Datanet's version has root `actual`, not `given`.
    error WrongVersionRoot(bytes32 given, bytes32 actual);
    error EmptyHash();
    /// @notice A model asks for `lineagePpm` of its descendants' share; `model.lineage` allows `maximum`.
    error LineageShareTooLarge(uint256 lineagePpm, uint256 maximum);
    /// @notice The model would have more than `maximum` ancestors.
    error LineageTooLong(uint256 maximum);
    /// @notice The job is another builder's, was of other data, base or recipe, or has its model already.
    error TrainingDoesNotFit(uint256 job);
    error LicenceOfNothing(uint256 sent);

    /// @notice Registers a model; the caller becomes its holder.
    /// @custom:misuse Nothing here proves that the adapter came from the job: whoever pays for a model should check its
    /// evaluation and recipe. Leaving `parent` out to keep the ancestors' share shows in equal hashes of base and adapter.
    function register(ModelInput calldata input) external returns (uint256 id);

    /// @notice Puts a fine-tuning job on record and pays the Datanet's licence fee, exactly, so that what was trained on
    /// which version can be told later, whether or not its model is ever registered. The caller must have access.
    /// @custom:misuse A job that fails has still used its licence; record it when training really begins.
    function recordTraining(uint256 datanet, uint32 version, bytes32 baseHash, bytes32 recipeHash)
        external
        payable
        returns (uint256 job);

    /// @notice Sets what an answer costs, in wei per 1,000 tokens. Only by the holder.
    /// @custom:misuse A raise does not bind consumers whose vouchers were signed at the old price.
    function setPrice(uint256 id, uint128 inputPrice, uint128 outputPrice) external;

    /// @notice Takes a model out of service for good. By its holder or, by vote, by governance.
    /// @custom:misuse There is no way back; its descendants keep serving and keep paying it.
    function deprecate(uint256 id) external;

    /// @notice Takes a model out of service for good by vote. Restricted to governance.
    /// @custom:misuse As {deprecate}; meant for models whose evaluation proved false.
    function retire(uint256 id) external;

    /// @notice Records an evaluation that the network accepts. Restricted to governance, which may appoint evaluators.
    /// @custom:misuse The hash in the model's input is the builder's own claim; only this one was accepted by others.
    function evaluate(uint256 id, bytes32 evaluationHash) external;

    /// @notice Approves an evaluated model. Restricted to governance.
    /// @custom:misuse Matters for serving only while `model.approval` is 1.
    function approve(uint256 id) external;

    /// @notice The model as registered, with its present price and status.
    /// @custom:misuse The price can change in the next block; agree on it by voucher.
    function model(uint256 id) external view returns (Model memory);

    /// @notice A recorded fine-tuning job.
    /// @custom:misuse Says that it was declared and paid for, not that it was run.
    function trainings(uint256 job) external view returns (Training memory);

    /// @notice The evaluation that governance accepted, 0 before.
    /// @custom:misuse Not the builder's claim; see {evaluate}.
    function acceptedEvaluation(uint256 id) external view returns (bytes32);

    /// @notice The model and its ancestors, nearest first, with each one's part of the builder's share of the model in
    /// ppm; the parts add up to exactly 1,000,000.
    /// @custom:misuse Ppm are rounded down on the way up; divide wei by the asked parts instead, as settlement does.
    function lineage(uint256 id) external view returns (uint256[] memory ids, uint256[] memory ppm);

    /// @notice How many models were registered.
    /// @custom:misuse Counts deprecated ones too.
    function modelCount() external view returns (uint256);

    /// @notice How many jobs were recorded.
    /// @custom:misuse Counts jobs that never gave a model.
    function trainingCount() external view returns (uint256);

    /// @notice Whether the model may answer: not deprecated, and approved where `model.approval` asks for it.
    /// @custom:misuse A vote can change it; hosts ask before each answer.
    function isServable(uint256 id) external view returns (bool);
}
