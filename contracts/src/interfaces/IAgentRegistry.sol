// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Agents' identities, in the shape of ERC-8004's identity registry, with what OpenLedger adds: model, price, stake
/// @notice An agent is an ERC-721 token; its URI leads to its registration file. Its wallet is where it is paid and whose stake, in
/// the role of an agent, stands behind it. The wallet consents by its signature and is cleared when the token changes hands.
interface IAgentRegistry {
    struct MetadataEntry {
        string metadataKey;
        bytes metadataValue;
    }

    /// @dev `price` is wei for one call of the agent, `model` the model behind it, 0 for none.
    struct Terms {
        uint256 model;
        uint256 price;
    }

    event Registered(uint256 indexed agentId, string agentURI, address indexed owner);
    event URIUpdated(uint256 indexed agentId, string newURI, address indexed updatedBy);
    event MetadataSet(
        uint256 indexed agentId,
        string indexed indexedMetadataKey,
        string metadataKey,
        bytes metadataValue
    );
    event AgentWalletSet(uint256 indexed agentId, address indexed wallet);
    event TermsSet(uint256 indexed agentId, uint256 indexed model, uint256 price);

    error UnknownAgent(uint256 agentId);
    /// @notice Only the token's owner, or whom it approved, changes an agent.
    error NotAgentsOperator(address account, uint256 agentId);
    /// @notice `agentWallet` is set by {setAgentWallet} alone, with the wallet's consent.
    error ReservedKey(string metadataKey);
    error UnknownModel(uint256 model);
    error SignatureExpired(uint256 deadline);
    /// @notice The signature may be at most `most` away.
    error DeadlineTooFar(uint256 deadline, uint256 most);
    error InvalidWalletSignature(address wallet);
    error ZeroAddress();

    /// @notice Registers an agent that belongs to the caller; its wallet is the caller at first.
    /// @custom:misuse Nothing checks the file at the URI or the metadata: whoever reads them must not trust them more
    /// than the owner.
    function register(string calldata agentURI, MetadataEntry[] calldata metadata)
        external
        returns (uint256 agentId);

    /// @notice Registers an agent without metadata.
    /// @custom:misuse As above: the file is the owner's own word.
    function register(string calldata agentURI) external returns (uint256 agentId);

    /// @notice Registers an agent whose file follows later.
    /// @custom:misuse Until {setAgentURI} nobody can learn what it does.
    function register() external returns (uint256 agentId);

    /// @notice Changes where the agent's file is.
    /// @custom:misuse What others read there before may be gone: pin what you rely on by its hash.
    function setAgentURI(uint256 agentId, string calldata newURI) external;

    /// @notice Sets one entry of metadata; `agentWallet` is not among them.
    /// @custom:misuse The owner's own word, and it may change at any time.
    function setMetadata(uint256 agentId, string calldata metadataKey, bytes calldata metadataValue) external;

    /// @notice Pays the agent at `newWallet` from now on, which signed
    /// `AgentWalletSet(uint256 agentId,address newWallet,address owner,uint256 deadline)` under this registry's domain.
    /// @param deadline At most 5 minutes away.
    /// @custom:misuse A consent names the present owner: it is void after a transfer, and the wallet is cleared.
    function setAgentWallet(uint256 agentId, address newWallet, uint256 deadline, bytes calldata signature)
        external;

    /// @notice Leaves the agent without a wallet.
    /// @custom:misuse An agent without a wallet is not active and is paid nothing.
    function unsetAgentWallet(uint256 agentId) external;

    /// @notice Sets which model stands behind the agent and what a call costs.
    /// @custom:misuse Binds nobody to the price: it is what the owner asks.
    function setTerms(uint256 agentId, uint256 model, uint256 price) external;

    /// @notice An entry of metadata; empty if it was never set.
    /// @custom:misuse Bytes of any form: decode them with care.
    function getMetadata(uint256 agentId, string calldata metadataKey) external view returns (bytes memory);
    /// @notice Where the agent is paid; 0 if nowhere.
    /// @custom:misuse Cleared on every transfer: read it right before paying.
    function getAgentWallet(uint256 agentId) external view returns (address);
    /// @notice Model and price of the agent.
    /// @custom:misuse Both may change before a call is paid.
    function termsOf(uint256 agentId) external view returns (Terms memory);
    /// @notice Whether the agent's wallet has an agent's stake, so that there is something to lose.
    /// @custom:misuse Stake stands behind it, no promise about its answers.
    function isActive(uint256 agentId) external view returns (bool);
    /// @notice Number of agents; ids run from 1 to it.
    /// @custom:misuse Says nothing about how many are active.
    function agentCount() external view returns (uint256);
    /// @notice EIP-712 digest that a new wallet signs.
    /// @custom:misuse Signing it lets the owner direct the agent's income to the signer and makes the signer answer for
    /// it: check the owner.
    function walletDigest(uint256 agentId, address newWallet, address owner, uint256 deadline)
        external
        view
        returns (bytes32);
}
