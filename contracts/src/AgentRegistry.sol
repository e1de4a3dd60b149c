// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {IAgentRegistry} from "./interfaces/IAgentRegistry.sol";
import {IModelRegistry} from "./interfaces/IModelRegistry.sol";
import {IStakeManager} from "./interfaces/IStakeManager.sol";
import {Signatures} from "./libraries/Signatures.sol";
import {StakeRoles} from "./libraries/StakeRoles.sol";

/// @title Registry of agents
/// @notice See {IAgentRegistry}. It holds no money.
contract AgentRegistry is IAgentRegistry, ERC721, EIP712 {
    /// @notice EIP-712 type of a wallet's consent.
    bytes32 public constant WALLET_TYPEHASH =
        keccak256("AgentWalletSet(uint256 agentId,address newWallet,address owner,uint256 deadline)");
    /// @notice Longest time that a wallet's consent may be valid, in seconds.
    uint256 public constant MAX_DEADLINE = 5 minutes;

    bytes32 private constant RESERVED = keccak256("agentWallet");

    /// @notice The registry of models.
    IModelRegistry public immutable models;
    /// @notice The stakes that stand behind roles.
    IStakeManager public immutable stakeManager;

    uint256 public agentCount;
    mapping(uint256 agentId => string) private _uris;
    mapping(uint256 agentId => address) private _wallets;
    mapping(uint256 agentId => Terms) private _terms;
    mapping(uint256 agentId => mapping(string metadataKey => bytes)) private _metadata;

    constructor(IModelRegistry models_, IStakeManager stakeManager_)
        ERC721("OpenLedger Agent", "OLAGENT")
        EIP712("OpenLedger", "1")
    {
        models = models_;
        stakeManager = stakeManager_;
    }

    /// @inheritdoc IAgentRegistry
    function register(string calldata agentURI, MetadataEntry[] calldata metadata)
        external
        returns (uint256 agentId)
    {
        agentId = _register(agentURI);
        for (uint256 i; i < metadata.length; ++i) {
            _setMetadata(agentId, metadata[i].metadataKey, metadata[i].metadataValue);
        }
    }

    /// @inheritdoc IAgentRegistry
    function register(string calldata agentURI) external returns (uint256) {
        return _register(agentURI);
    }

    /// @inheritdoc IAgentRegistry
    function register() external returns (uint256) {
        return _register("");
    }

    /// @inheritdoc IAgentRegistry
    function setAgentURI(uint256 agentId, string calldata newURI) external {
        _requireOperator(agentId);
        _uris[agentId] = newURI;
        emit URIUpdated(agentId, newURI, msg.sender);
    }

    /// @inheritdoc IAgentRegistry
    function setMetadata(uint256 agentId, string calldata metadataKey, bytes calldata metadataValue)
        external
    {
        _requireOperator(agentId);
        _setMetadata(agentId, metadataKey, metadataValue);
    }

    /// @inheritdoc IAgentRegistry
    function setAgentWallet(uint256 agentId, address newWallet, uint256 deadline, bytes calldata signature)
        external
    {
        address owner = _requireOperator(agentId);
        require(newWallet != address(0), ZeroAddress());
        require(block.timestamp <= deadline, SignatureExpired(deadline));
        uint256 most = block.timestamp + MAX_DEADLINE;
        require(deadline <= most, DeadlineTooFar(deadline, most));
        bytes32 digest = walletDigest(agentId, newWallet, owner, deadline);
        require(Signatures.isBy(newWallet, digest, signature), InvalidWalletSignature(newWallet));
        _setWallet(agentId, newWallet);
    }

    /// @inheritdoc IAgentRegistry
    function unsetAgentWallet(uint256 agentId) external {
        _requireOperator(agentId);
        _setWallet(agentId, address(0));
    }

    /// @inheritdoc IAgentRegistry
    function setTerms(uint256 agentId, uint256 model, uint256 price) external {
        _requireOperator(agentId);
        require(model <= models.modelCount(), UnknownModel(model));
        _terms[agentId] = Terms(model, price);
        emit TermsSet(agentId, model, price);
    }

    /// @inheritdoc IAgentRegistry
    function getMetadata(uint256 agentId, string calldata metadataKey) external view returns (bytes memory) {
        _known(agentId);
        if (keccak256(bytes(metadataKey)) == RESERVED) return abi.encodePacked(_wallets[agentId]);
        return _metadata[agentId][metadataKey];
    }

    /// @inheritdoc IAgentRegistry
    function getAgentWallet(uint256 agentId) external view returns (address) {
        _known(agentId);
        return _wallets[agentId];
    }

    /// @inheritdoc IAgentRegistry
    function termsOf(uint256 agentId) external view returns (Terms memory) {
        _known(agentId);
        return _terms[agentId];
    }

    /// @inheritdoc IAgentRegistry
    function isActive(uint256 agentId) external view returns (bool) {
        _known(agentId);
        address wallet = _wallets[agentId];
        return wallet != address(0) && stakeManager.isActive(StakeRoles.AGENT, wallet);
    }

    /// @notice Where the agent's file is.
    /// @custom:misuse The owner's own word, and it may change.
    function tokenURI(uint256 agentId) public view override returns (string memory) {
        _known(agentId);
        return _uris[agentId];
    }

    /// @inheritdoc IAgentRegistry
    function walletDigest(uint256 agentId, address newWallet, address owner, uint256 deadline)
        public
        view
        returns (bytes32)
    {
        return _hashTypedDataV4(
            keccak256(abi.encode(WALLET_TYPEHASH, agentId, newWallet, owner, deadline))
        );
    }

    /// @dev A wallet that the former owner chose is not the new owner's.
    function _update(address to, uint256 agentId, address auth) internal override returns (address from) {
        from = super._update(to, agentId, auth);
        if (from != address(0) && from != to) _setWallet(agentId, address(0));
    }

    function _register(string memory agentURI) private returns (uint256 agentId) {
        agentId = ++agentCount;
        _uris[agentId] = agentURI;
        _mint(msg.sender, agentId);
        emit Registered(agentId, agentURI, msg.sender);
        _setWallet(agentId, msg.sender);
    }

    function _setWallet(uint256 agentId, address wallet) private {
        _wallets[agentId] = wallet;
        emit AgentWalletSet(agentId, wallet);
    }

    function _setMetadata(uint256 agentId, string calldata metadataKey, bytes calldata metadataValue) private {
        require(keccak256(bytes(metadataKey)) != RESERVED, ReservedKey(metadataKey));
        _metadata[agentId][metadataKey] = metadataValue;
        emit MetadataSet(agentId, metadataKey, metadataKey, metadataValue);
    }

    function _known(uint256 agentId) private view returns (address owner) {
        owner = _ownerOf(agentId);
        require(owner != address(0), UnknownAgent(agentId));
    }

    function _requireOperator(uint256 agentId) private view returns (address owner) {
        owner = _known(agentId);
        require(_isAuthorized(owner, msg.sender, agentId), NotAgentsOperator(msg.sender, agentId));
    }
}
