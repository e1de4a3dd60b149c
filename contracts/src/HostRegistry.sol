// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IHostRegistry} from "./interfaces/IHostRegistry.sol";
import {IModelRegistry} from "./interfaces/IModelRegistry.sol";
import {IStakeManager} from "./interfaces/IStakeManager.sol";
import {StakeRoles} from "./libraries/StakeRoles.sol";

/// @title Registry of hosts
/// @notice See {IHostRegistry}. It holds no money.
contract HostRegistry is IHostRegistry {
    /// @notice Most bytes of a host's URI.
    uint256 public constant MAX_URI = 512;

    /// @notice The stakes that stand behind roles.
    IStakeManager public immutable stakeManager;
    /// @notice The registry of models.
    IModelRegistry public immutable models;

    mapping(address host => Host) private _hosts;
    mapping(address host => mapping(uint256 model => bool)) private _serves;

    constructor(IStakeManager stakeManager_, IModelRegistry models_) {
        stakeManager = stakeManager_;
        models = models_;
    }

    /// @inheritdoc IHostRegistry
    function list(string calldata uri, bytes32 profile) external {
        require(stakeManager.isActive(StakeRoles.HOST, msg.sender), HostNotActive(msg.sender));
        uint256 length = bytes(uri).length;
        require(length > 0 && length <= MAX_URI, UriOutOfBounds(length, MAX_URI));
        Host storage entry = _hosts[msg.sender];
        if (!entry.listed) entry.since = uint64(block.timestamp);
        (entry.uri, entry.profile, entry.listed) = (uri, profile, true);
        emit HostListed(msg.sender, uri, profile);
    }

    /// @inheritdoc IHostRegistry
    function retire() external {
        Host storage entry = _hosts[msg.sender];
        require(entry.listed, HostNotListed(msg.sender));
        entry.listed = false;
        emit HostRetired(msg.sender);
    }

    /// @inheritdoc IHostRegistry
    function serve(uint256[] calldata ids, bool served) external {
        require(isListed(msg.sender), HostNotListed(msg.sender));
        for (uint256 i; i < ids.length; ++i) {
            if (served) require(models.isServable(ids[i]), ModelNotServable(ids[i]));
            _serves[msg.sender][ids[i]] = served;
            emit ModelServed(msg.sender, ids[i], served);
        }
    }

    /// @inheritdoc IHostRegistry
    function hostOf(address host) external view returns (Host memory) {
        return _hosts[host];
    }

    /// @inheritdoc IHostRegistry
    function serves(address host, uint256 model) external view returns (bool) {
        return _serves[host][model] && isListed(host);
    }

    /// @inheritdoc IHostRegistry
    function isListed(address host) public view returns (bool) {
        return _hosts[host].listed && stakeManager.isActive(StakeRoles.HOST, host);
    }
}
