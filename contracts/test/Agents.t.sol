// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AgentRegistry} from "../src/AgentRegistry.sol";
import {HostRegistry} from "../src/HostRegistry.sol";
import {IAgentRegistry} from "../src/interfaces/IAgentRegistry.sol";
import {IHostRegistry} from "../src/interfaces/IHostRegistry.sol";
import {IModelRegistry} from "../src/interfaces/IModelRegistry.sol";
import {StakeRoles} from "../src/libraries/StakeRoles.sol";
import {System} from "./utils/System.sol";

contract AgentRegistryTest is System {
    AgentRegistry private _agents;
    address private _owner = account("owner");

    function setUp() public override {
        super.setUp();
        _agents = new AgentRegistry(models, stakes);
    }

    function test_AnAgentIsATokenWithAFileMetadataAndItsOwnersWallet() public {
        IAgentRegistry.MetadataEntry[] memory metadata = new IAgentRegistry.MetadataEntry[](1);
        metadata[0] = IAgentRegistry.MetadataEntry("kind", "auditor");
        vm.startPrank(_owner);
        uint256 id = _agents.register("ipfs://agent", metadata);
        vm.assertEq(_agents.ownerOf(id), _owner, "owner");
        vm.assertEq(bytes(_agents.tokenURI(id)), "ipfs://agent", "file");
        vm.assertEq(_agents.getMetadata(id, "kind"), "auditor", "metadata");
        vm.assertEq(_agents.getMetadata(id, "agentWallet"), abi.encodePacked(_owner), "wallet");
        _agents.setAgentURI(id, "ipfs://other");
        vm.assertEq(bytes(_agents.tokenURI(id)), "ipfs://other", "changed");
        _agents.register("ipfs://second");
        vm.assertEq(_agents.register(), 3, "third");
        vm.expectRevert(abi.encodeWithSelector(IAgentRegistry.ReservedKey.selector, "agentWallet"));
        _agents.setMetadata(id, "agentWallet", "mine");
        vm.expectRevert(abi.encodeWithSelector(IAgentRegistry.UnknownAgent.selector, 9));
        _agents.setAgentURI(9, "");
        vm.stopPrank();
    }

    function test_OnlyItsOwnerOrWhomItApprovedChangesAnAgent() public {
        vm.prank(_owner);
        uint256 id = _agents.register("ipfs://agent");
        address mallory = account("mallory");
        bytes memory refusal = abi.encodeWithSelector(IAgentRegistry.NotAgentsOperator.selector, mallory, id);
        vm.startPrank(mallory);
        vm.expectRevert(refusal);
        _agents.setAgentURI(id, "");
        vm.expectRevert(refusal);
        _agents.setMetadata(id, "kind", "");
        vm.expectRevert(refusal);
        _agents.setTerms(id, 0, 1);
        vm.expectRevert(refusal);
        _agents.unsetAgentWallet(id);
        vm.stopPrank();
        vm.prank(_owner);
        _agents.approve(mallory, id);
        vm.prank(mallory);
        _agents.setTerms(id, 0, 1);
    }

    function test_AWalletConsentsAndIsClearedWhenTheAgentIsSold() public {
        vm.startPrank(_owner);
        uint256 id = _agents.register("ipfs://agent");
        uint256 deadline = block.timestamp + 5 minutes;
        address wallet = account("wallet");
        bytes memory consent =
            signed(key("wallet"), _agents.walletDigest(id, wallet, _owner, deadline));
        bytes memory forged = signed(key("mallory"), _agents.walletDigest(id, wallet, _owner, deadline));
        vm.expectRevert(abi.encodeWithSelector(IAgentRegistry.InvalidWalletSignature.selector, wallet));
        _agents.setAgentWallet(id, wallet, deadline, forged);
        vm.expectRevert(IAgentRegistry.ZeroAddress.selector);
        _agents.setAgentWallet(id, address(0), deadline, "");
        vm.expectRevert(
            abi.encodeWithSelector(IAgentRegistry.DeadlineTooFar.selector, deadline + 1, deadline)
        );
        _agents.setAgentWallet(id, wallet, deadline + 1, consent);
        _agents.setAgentWallet(id, wallet, deadline, consent);
        vm.assertEq(_agents.getAgentWallet(id), wallet, "set");
        _agents.transferFrom(_owner, account("buyer"), id);
        vm.assertEq(_agents.getAgentWallet(id), address(0), "cleared");
        vm.stopPrank();
        // The consent named the former owner, so it cannot be used again by the next one.
        vm.prank(account("buyer"));
        vm.expectRevert(abi.encodeWithSelector(IAgentRegistry.InvalidWalletSignature.selector, wallet));
        _agents.setAgentWallet(id, wallet, deadline, consent);
        vm.warp(deadline + 1);
        vm.prank(account("buyer"));
        vm.expectRevert(abi.encodeWithSelector(IAgentRegistry.SignatureExpired.selector, deadline));
        _agents.setAgentWallet(id, wallet, deadline, consent);
    }

    function test_AnAgentIsActiveWhileStakeStandsBehindIt() public {
        vm.startPrank(_owner);
        uint256 id = _agents.register("ipfs://agent");
        vm.expectRevert(abi.encodeWithSelector(IAgentRegistry.UnknownModel.selector, 1));
        _agents.setTerms(id, 1, 1 ether);
        _agents.setTerms(id, 0, 1 ether);
        vm.stopPrank();
        vm.assertEq(_agents.termsOf(id).price, 1 ether, "price");
        vm.assertTrue(!_agents.isActive(id), "no stake");
        stakeAs(_owner, StakeRoles.AGENT, 10 ether);
        vm.assertTrue(_agents.isActive(id), "stake");
        vm.prank(_owner);
        _agents.unsetAgentWallet(id);
        vm.assertTrue(!_agents.isActive(id), "no wallet");
    }
}

contract HostRegistryTest is System {
    HostRegistry private _hosts;
    address private _host = account("host");
    uint256 private _model;

    function setUp() public override {
        super.setUp();
        _hosts = new HostRegistry(stakes, models);
        IModelRegistry.ModelInput memory input;
        (input.baseHash, input.recipeHash) = ("base", "recipe");
        _model = models.register(input);
    }

    function test_AHostIsListedWithItsModelsWhileItHasItsStake() public {
        uint256[] memory ids = new uint256[](1);
        ids[0] = _model;
        vm.prank(_host);
        vm.expectRevert(abi.encodeWithSelector(IHostRegistry.HostNotActive.selector, _host));
        _hosts.list("https://host.example", "profile");
        stakeAs(_host, StakeRoles.HOST, 1_000 ether);
        vm.startPrank(_host);
        vm.expectRevert(abi.encodeWithSelector(IHostRegistry.HostNotListed.selector, _host));
        _hosts.serve(ids, true);
        vm.expectRevert(abi.encodeWithSelector(IHostRegistry.UriOutOfBounds.selector, 0, 512));
        _hosts.list("", "profile");
        _hosts.list("https://host.example", "profile");
        _hosts.serve(ids, true);
        vm.assertTrue(_hosts.serves(_host, _model), "serves");
        vm.assertEq(bytes(_hosts.hostOf(_host).uri), "https://host.example", "address");
        stakes.requestUnstake(StakeRoles.HOST, 1_000 ether);
        vm.assertTrue(!_hosts.serves(_host, _model), "no stake, not listed");
        vm.stopPrank();
        stakeAs(_host, StakeRoles.HOST, 1_000 ether);
        vm.startPrank(_host);
        _hosts.serve(ids, false);
        vm.assertTrue(!_hosts.serves(_host, _model), "no more");
        _hosts.retire();
        vm.assertTrue(!_hosts.isListed(_host), "retired");
        vm.expectRevert(abi.encodeWithSelector(IHostRegistry.HostNotListed.selector, _host));
        _hosts.retire();
        vm.stopPrank();
        models.deprecate(_model);
        vm.startPrank(_host);
        _hosts.list("https://host.example", "profile");
        vm.expectRevert(abi.encodeWithSelector(IHostRegistry.ModelNotServable.selector, _model));
        _hosts.serve(ids, true);
        vm.stopPrank();
    }
}
