// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Where hosts are found, and what they serve
/// @notice A host with its stake in {StakeManager} lists an address to reach it and the models that it serves. It is listed as long
/// as its stake reaches the minimum.
/// @dev What a host says about itself is its own word: nobody checks that it answers there.
interface IHostRegistry {
    /// @dev `uri` is where the host answers, `profile` the hash of what it publishes about its hardware and terms.
    struct Host {
        string uri;
        bytes32 profile;
        uint64 since;
        bool listed;
    }

    event HostListed(address indexed host, string uri, bytes32 profile);
    event HostRetired(address indexed host);
    event ModelServed(address indexed host, uint256 indexed model, bool served);

    error HostNotActive(address account);
    error HostNotListed(address account);
    /// @notice A URI has 1 to `most` bytes.
    error UriOutOfBounds(uint256 length, uint256 most);
    error ModelNotServable(uint256 model);

    /// @notice Lists the caller, or changes its listing. Needs the stake of a host.
    /// @custom:misuse The URI is the host's own word: whoever connects must check what it serves there.
    function list(string calldata uri, bytes32 profile) external;

    /// @notice Takes the caller off the list. Its stake stays where it is.
    /// @custom:misuse Frees no stake and ends no duty for batches that were posted.
    function retire() external;

    /// @notice Says whether the caller serves these models. Only models that may answer can be added.
    /// @custom:misuse A model that is retired later stays in the list until the host takes it out: ask {serves}.
    function serve(uint256[] calldata models, bool served) external;

    /// @notice A host's listing; empty if it never had one.
    /// @custom:misuse Kept after it retired: ask {isListed}.
    function hostOf(address host) external view returns (Host memory);
    /// @notice Whether the host is listed and has its stake.
    /// @custom:misuse Says that stake is there, not that the host answers.
    function isListed(address host) external view returns (bool);
    /// @notice Whether the host is listed and says that it serves `model`.
    /// @custom:misuse The host's own word about a model that was servable when it was added.
    function serves(address host, uint256 model) external view returns (bool);
}
