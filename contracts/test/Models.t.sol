// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {IDatanetRegistry} from "../src/interfaces/IDatanetRegistry.sol";
import {IModelRegistry} from "../src/interfaces/IModelRegistry.sol";
import {ParameterKeys} from "../src/libraries/ParameterKeys.sol";
import {System} from "./utils/System.sol";

contract ModelRegistryTest is System {
    address private _builder = account("builder");

    function test_AModelNamesAVersionThatIsAnchored() public {
        uint256 net = _anchored();
        IModelRegistry.ModelInput memory input = _input(net, 1, "root");
        vm.prank(_builder);
        input.training = models.recordTraining(net, 1, "base", "recipe");
        vm.prank(_builder);
        uint256 id = models.register(input);
        vm.assertEq(models.trainings(input.training).model, id, "what came of the job");
        vm.assertEq(models.ownerOf(id), _builder, "owner");
        vm.assertTrue(models.isServable(id), "serves");
        input.datanetVersionRoot = "another";
        vm.expectRevert(
            abi.encodeWithSelector(
                IModelRegistry.WrongVersionRoot.selector, bytes32("another"), bytes32("root")
            )
        );
        models.register(input);
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.UnknownVersion.selector, net, 2));
        models.register(_input(net, 2, "root"));
    }

    function test_AModelWithoutADatanetClaimsNoVersion() public {
        vm.assertEq(models.register(_input(0, 0, 0)), 1, "registered");
        vm.expectRevert(
            abi.encodeWithSelector(IModelRegistry.WrongVersionRoot.selector, bytes32("root"), bytes32(0))
        );
        models.register(_input(0, 0, "root"));
    }

    function test_TheHolderSetsThePriceAndRetiresTheModel() public {
        vm.prank(_builder);
        uint256 id = models.register(_input(0, 0, 0));
        vm.expectRevert(
            abi.encodeWithSelector(IModelRegistry.NotModelOwner.selector, address(this), _builder)
        );
        models.setPrice(id, 1, 2);
        vm.startPrank(_builder);
        models.setPrice(id, 5, 6);
        vm.assertEq(models.model(id).input.outputPrice, 6, "price");
        models.deprecate(id);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.ModelIsDeprecated.selector, id));
        models.deprecate(id);
        vm.stopPrank();
        vm.assertTrue(!models.isServable(id), "retired");
        vm.expectRevert(
            abi.encodeWithSelector(
                IModelRegistry.WrongStatus.selector,
                id,
                IModelRegistry.Status.Deprecated,
                IModelRegistry.Status.Proposed
            )
        );
        models.evaluate(id, "evaluation");
    }

    function test_WhereApprovalIsAskedForOnlyGovernanceGivesIt() public {
        parameters.set(ParameterKeys.MODEL_APPROVAL, 1);
        uint256 id = models.register(_input(0, 0, 0));
        vm.assertTrue(!models.isServable(id), "not yet");
        vm.prank(_builder);
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, _builder));
        models.approve(id);
        vm.prank(_builder);
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, _builder));
        models.evaluate(id, "evaluation");
        vm.prank(_builder);
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, _builder));
        models.retire(id);
        bytes memory tooEarly = abi.encodeWithSelector(
            IModelRegistry.WrongStatus.selector,
            id,
            IModelRegistry.Status.Proposed,
            IModelRegistry.Status.Evaluated
        );
        vm.expectRevert(tooEarly);
        models.approve(id);
        vm.expectRevert(IModelRegistry.EmptyHash.selector);
        models.evaluate(id, 0);
        models.evaluate(id, "evaluation");
        vm.assertEq(models.acceptedEvaluation(id), "evaluation", "accepted");
        vm.assertTrue(!models.isServable(id), "evaluated is not approved");
        models.approve(id);
        vm.assertTrue(models.isServable(id), "approved");
        models.retire(id);
        vm.assertTrue(!models.isServable(id), "retired by vote");
    }

    function test_AParentMustExist() public {
        IModelRegistry.ModelInput memory input = _input(0, 0, 0);
        input.parent = 1;
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.UnknownModel.selector, 1));
        models.register(input);
        input.parent = 0;
        models.register(input);
        input.parent = 1;
        vm.assertEq(models.register(input), 2, "child");
    }

    function test_TrainingIsRecordedForAVersionThatExists() public {
        uint256 net = _anchored();
        vm.assertEq(models.recordTraining(net, 1, "base", "recipe"), 1, "job");
        vm.assertEq(models.recordTraining(0, 0, "base", "recipe"), 2, "on no Datanet");
        vm.deal(address(this), 1);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.LicenceOfNothing.selector, 1));
        models.recordTraining{value: 1}(0, 0, "base", "recipe");
        vm.expectRevert(abi.encodeWithSelector(IDatanetRegistry.UnknownVersion.selector, net, 3));
        models.recordTraining(net, 3, "base", "recipe");
        vm.expectRevert(IModelRegistry.EmptyHash.selector);
        models.recordTraining(net, 1, "base", 0);
    }

    function test_AModelOnADatanetNeedsAJobThatFits() public {
        uint256 net = _anchored();
        IModelRegistry.ModelInput memory input = _input(net, 1, "root");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.UnknownTraining.selector, 0));
        models.register(input);
        vm.prank(account("somebody"));
        input.training = models.recordTraining(net, 1, "base", "recipe");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.TrainingDoesNotFit.selector, 1));
        models.register(input);
        input.training = models.recordTraining(net, 1, "other base", "recipe");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.TrainingDoesNotFit.selector, 2));
        models.register(input);
        input.training = models.recordTraining(net, 1, "base", "recipe");
        models.register(input);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.TrainingDoesNotFit.selector, 3));
        models.register(input);
    }

    function testFuzz_TheLineageAddsUpToTheWhole(uint32[9] memory asks, uint256 depth) public {
        depth = bound(depth, 1, 9);
        IModelRegistry.ModelInput memory input = _input(0, 0, 0);
        for (uint256 i; i < depth; ++i) {
            input.lineagePpm = uint32(bound(asks[i], 0, 300_000));
            input.parent = i;
            models.register(input);
        }
        (uint256[] memory ids, uint256[] memory ppm) = models.lineage(depth);
        vm.assertEq(ids.length, depth, "itself and its ancestors");
        uint256 sum;
        for (uint256 i; i < depth; ++i) {
            vm.assertEq(ids[i], depth - i, "nearest first");
            sum += ppm[i];
        }
        vm.assertEq(sum, 1_000_000, "exactly the whole");
        vm.assertGe(ppm[0], 700_000, "a parent gets no more than it may ask");
    }

    function test_AParentAsksForABoundedShareAndALineHasABoundedLength() public {
        IModelRegistry.ModelInput memory input = _input(0, 0, 0);
        input.lineagePpm = 300_001;
        vm.expectRevert(
            abi.encodeWithSelector(IModelRegistry.LineageShareTooLarge.selector, 300_001, 300_000)
        );
        models.register(input);
        input.lineagePpm = 300_000;
        for (uint256 i; i < 9; ++i) {
            input.parent = i;
            models.register(input);
        }
        input.parent = 9;
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.LineageTooLong.selector, 8));
        models.register(input);
    }

    function test_ACardIsReadAtItsUriAndUnknownModelsAreNamed() public {
        uint256 id = models.register(_input(0, 0, 0));
        vm.assertEq(bytes(models.tokenURI(id)), "ipfs://card", "uri");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.UnknownModel.selector, 2));
        models.tokenURI(2);
        IModelRegistry.ModelInput memory input = _input(0, 0, 0);
        input.recipeHash = 0;
        vm.expectRevert(IModelRegistry.EmptyHash.selector);
        models.register(input);
    }

    function _anchored() private returns (uint256 net) {
        threeReviewers();
        nextBlock();
        uint256 id = submitted("carol", "olivia", 1);
        net = datanets.contribution(id).datanet;
        nextBlock();
        datanets.openReview(id);
        address[] memory jurors = datanets.jury(id);
        for (uint256 i; i < 3; ++i) {
            commitAs(jurors[i], id, hex"01");
        }
        for (uint256 i; i < 3; ++i) {
            revealAs(jurors[i], id, hex"01");
        }
        conclude(id);
        uint256[] memory ids = new uint256[](1);
        ids[0] = id;
        vm.prank(account("olivia"));
        datanets.anchorVersion(net, "root", 1, ids, "manifest");
    }

    function _input(uint256 net, uint32 version, bytes32 root)
        private
        pure
        returns (IModelRegistry.ModelInput memory)
    {
        return IModelRegistry.ModelInput({
            baseHash: "base",
            adapterHash: "adapter",
            datanetVersionRoot: root,
            recipeHash: "recipe",
            indexHash: "index",
            evaluationHash: "evaluation",
            datanet: net,
            version: version,
            inputPrice: 1,
            outputPrice: 2,
            uri: "ipfs://card",
            parent: 0,
            lineagePpm: 0,
            training: 0
        });
    }
}
