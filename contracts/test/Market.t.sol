// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {InferenceMarket} from "../src/InferenceMarket.sol";
import {IFeeEscrow} from "../src/interfaces/IFeeEscrow.sol";
import {IInferenceCallback, IInferenceMarket} from "../src/interfaces/IInferenceMarket.sol";
import {IInferenceLedger} from "../src/interfaces/IInferenceLedger.sol";
import {IModelRegistry} from "../src/interfaces/IModelRegistry.sol";
import {IPayer} from "../src/interfaces/IPayer.sol";
import {StakeRoles} from "../src/libraries/StakeRoles.sol";
import {System} from "./utils/System.sol";
import {Test} from "./utils/Test.sol";

/// @dev Asks and remembers the answer; what it does in the callback can be changed.
contract Asker is IInferenceCallback {
    enum Mood {
        Grateful,
        Reverting,
        Burning,
        Bombing,
        Reentering
    }

    InferenceMarket public immutable market;
    Mood public mood;
    bool public refuses;
    bytes public answer;
    bytes32 public receiptId;
    uint256 public calls;

    constructor(InferenceMarket market_) payable {
        market = market_;
    }

    receive() external payable {
        require(!refuses, "no money");
    }

    function set(Mood mood_, bool refuses_) external {
        (mood, refuses) = (mood_, refuses_);
    }

    function ask(uint256 model, bytes calldata prompt, address host, uint64 deadline, uint32 gas_, uint256 fee)
        external
        returns (uint256)
    {
        return market.request{value: fee}(model, prompt, host, deadline, gas_);
    }

    function onInference(uint256 requestId, bytes calldata output, bytes32 receiptId_) external {
        require(msg.sender == address(market), "only the market");
        ++calls;
        if (mood == Mood.Reverting) revert("stuck");
        if (mood == Mood.Burning) while (true) {}
        if (mood == Mood.Bombing) {
            // A megabyte of return data, for whoever copies it.
            assembly {
                return(0, 1000000)
            }
        }
        if (mood == Mood.Reentering) {
            market.refund(requestId);
        }
        (answer, receiptId) = (output, receiptId_);
    }
}

abstract contract Market is System {
    bytes internal constant PROMPT = '[{"content":"Is it so?","role":"user"}]';
    bytes internal constant OUTPUT = "It is so.";

    InferenceMarket internal market;
    Asker internal asker;
    address internal host = account("host");
    uint256 internal model;

    function setUp() public virtual override {
        super.setUp();
        market = new InferenceMarket(ledger, escrow, models, stakes);
        asker = new Asker(market);
        vm.deal(address(asker), 100 ether);
        stakeAs(host, StakeRoles.HOST, 1_000 ether);
        IModelRegistry.ModelInput memory input;
        (input.baseHash, input.recipeHash) = ("base", "recipe");
        (input.inputPrice, input.outputPrice) = (1 ether, 2 ether);
        model = models.register(input);
    }

    function ask(uint32 gas_) internal returns (uint256) {
        return asker.ask(model, PROMPT, host, uint64(block.timestamp + 1 hours), gas_, 1 ether);
    }

    /// @dev 100 tokens in and 200 out: 0.5 OPEN.
    function receiptFor(address by, uint256 sequence) internal view returns (IInferenceLedger.Receipt memory) {
        return IInferenceLedger.Receipt({
            sequence: sequence,
            model: model,
            consumer: address(market),
            host: by,
            promptHash: keccak256(abi.encodePacked(bytes32("salt"), PROMPT)),
            outputHash: keccak256(abi.encodePacked(bytes32("pepper"), OUTPUT)),
            promptTokens: 100,
            outputTokens: 200,
            fee: 0.5 ether,
            sharesRoot: "shares",
            seed: 7,
            time: uint64(block.timestamp)
        });
    }

    function fulfil(uint256 id) internal {
        IInferenceLedger.Receipt memory receipt = receiptFor(host, id);
        vm.prank(host);
        market.fulfil(id, PROMPT, "salt", OUTPUT, "pepper", receipt);
    }
}

contract InferenceMarketTest is Market {
    function test_AContractAsksAHostAnswersTheCallbackReceivesAndTheFeeIsCollected() public {
        uint256 id = ask(200_000);
        fulfil(id);
        vm.assertEq(asker.answer(), OUTPUT, "answer");
        vm.assertEq(asker.receiptId(), ledger.receiptDigest(receiptFor(host, id)), "receipt");
        vm.assertEq(address(asker).balance, 99.5 ether, "what was too much came back");
        vm.assertEq(distributor.totalCollected(), 0.5 ether, "the fee");
        vm.assertEq(escrow.redeemed(address(market), host), 0.5 ether, "as this host's");
        vm.assertEq(address(market).balance, 0, "nothing stays");
        vm.assertEq(uint256(market.requestOf(id).state), uint256(IInferenceMarket.State.Fulfilled), "done");
        fulfil(ask(200_000));
        vm.assertEq(escrow.redeemed(address(market), host), 1 ether, "vouchers add up");
    }

    function test_AnUnansweredRequestIsPaidBackAfterItsDeadline() public {
        uint256 id = ask(0);
        uint256 deadline = block.timestamp + 1 hours;
        vm.expectRevert(abi.encodeWithSelector(IInferenceMarket.DeadlineRunning.selector, deadline));
        market.refund(id);
        vm.warp(deadline + 1);
        vm.expectRevert(abi.encodeWithSelector(IInferenceMarket.DeadlineOver.selector, deadline));
        fulfil(id);
        market.refund(id);
        vm.assertEq(address(asker).balance, 100 ether, "all of it");
        vm.expectRevert(
            abi.encodeWithSelector(
                IInferenceMarket.RequestClosed.selector, id, IInferenceMarket.State.Refunded
            )
        );
        market.refund(id);
    }

    function test_attack_AStuckCallbackHoldsUpNobody() public {
        asker.set(Asker.Mood.Reverting, true);
        uint256 id = ask(200_000);
        fulfil(id);
        vm.assertEq(distributor.totalCollected(), 0.5 ether, "the host is paid");
        vm.assertEq(market.owed(address(asker)), 0.5 ether, "the rest waits for it");
        vm.assertEq(asker.calls(), 0, "what it did was undone");
    }

    function test_attack_AGasBombInTheCallbackCostsTheHostWhatWasAgreedAndNoMore() public {
        asker.set(Asker.Mood.Burning, false);
        uint256 id = ask(300_000);
        uint256 before = gasleft();
        fulfil(id);
        vm.assertLe(before - gasleft(), 900_000, "bounded");
        asker.set(Asker.Mood.Bombing, false);
        id = ask(300_000);
        before = gasleft();
        fulfil(id);
        vm.assertLe(before - gasleft(), 900_000, "return data is not copied");
    }

    function test_attack_ReentryFromTheCallbackGetsNothingTwice() public {
        asker.set(Asker.Mood.Reentering, false);
        uint256 id = ask(300_000);
        fulfil(id);
        vm.assertEq(address(asker).balance, 99.5 ether, "once");
        vm.assertEq(uint256(market.requestOf(id).state), uint256(IInferenceMarket.State.Fulfilled), "done");
    }

    function test_AHostCannotStarveTheCallback() public {
        uint256 id = ask(1_000_000);
        IInferenceLedger.Receipt memory receipt = receiptFor(host, id);
        vm.prank(host);
        (bool success, bytes memory answer) = address(market).call{gas: 1_000_000}(
            abi.encodeCall(market.fulfil, (id, PROMPT, "salt", OUTPUT, "pepper", receipt))
        );
        vm.assertTrue(!success && bytes4(answer) == IInferenceMarket.TooLittleGas.selector, "too little gas");
        vm.assertEq(asker.calls(), 0, "not called");
    }

    function test_attack_FrontRunAnAnswerCannotBeCopiedByAnotherHost() public {
        address other = account("host2");
        stakeAs(other, StakeRoles.HOST, 1_000 ether);
        uint256 id = asker.ask(model, PROMPT, address(0), uint64(block.timestamp + 1 hours), 0, 1 ether);
        IInferenceLedger.Receipt memory copied = receiptFor(other, 0);
        vm.prank(host);
        market.accept(id);
        vm.startPrank(other);
        vm.expectRevert(
            abi.encodeWithSelector(
                IInferenceMarket.TakenByAnother.selector, host, block.timestamp + 10 minutes
            )
        );
        market.accept(id);
        vm.expectRevert(abi.encodeWithSelector(IInferenceMarket.NotRequestsHost.selector, other, host));
        market.fulfil(id, PROMPT, "salt", OUTPUT, "pepper", copied);
        vm.stopPrank();
        // A host that takes it on and does nothing loses it again.
        vm.warp(block.timestamp + 10 minutes + 1);
        vm.startPrank(other);
        market.accept(id);
        market.fulfil(id, PROMPT, "salt", OUTPUT, "pepper", receiptFor(other, 0));
        vm.stopPrank();
    }

    function test_TheReceiptMustBeThisAnswersAndItsPriceTheModels() public {
        uint256 id = ask(0);
        string[6] memory fields = ["host", "consumer", "model", "promptHash", "outputHash", "fee"];
        for (uint256 i; i < 6; ++i) {
            IInferenceLedger.Receipt memory receipt = receiptFor(host, id);
            if (i == 0) receipt.host = address(1);
            if (i == 1) receipt.consumer = address(1);
            if (i == 2) receipt.model += 1;
            if (i == 3) receipt.promptHash = "other";
            if (i == 4) receipt.outputHash = "other";
            if (i == 5) receipt.fee += 1;
            vm.prank(host);
            vm.expectRevert(abi.encodeWithSelector(IInferenceMarket.WrongReceipt.selector, fields[i]));
            market.fulfil(id, PROMPT, "salt", OUTPUT, "pepper", receipt);
        }
        vm.prank(host);
        vm.expectRevert(abi.encodeWithSelector(IInferenceMarket.WrongReceipt.selector, "prompt"));
        market.fulfil(id, "other", "salt", OUTPUT, "pepper", receiptFor(host, id));
        models.setPrice(model, 10 ether, 10 ether);
        IInferenceLedger.Receipt memory dear = receiptFor(host, id);
        dear.fee = 3 ether;
        vm.prank(host);
        vm.expectRevert(abi.encodeWithSelector(IInferenceMarket.FeeAboveMaximum.selector, 3 ether, 1 ether));
        market.fulfil(id, PROMPT, "salt", OUTPUT, "pepper", dear);
    }

    function test_OneReceiptAnswersOneRequest() public {
        uint256 id = ask(0);
        fulfil(id);
        uint256 next = ask(0);
        IInferenceLedger.Receipt memory receipt = receiptFor(host, id);
        bytes32 digest = ledger.receiptDigest(receipt);
        vm.prank(host);
        vm.expectRevert(abi.encodeWithSelector(IInferenceMarket.ReceiptUsed.selector, digest));
        market.fulfil(next, PROMPT, "salt", OUTPUT, "pepper", receipt);
    }

    function test_ARequestIsNotTakenOnLateNorAnsweredWithoutStake() public {
        uint256 id = asker.ask(model, PROMPT, address(0), uint64(block.timestamp + 1 hours), 0, 1 ether);
        vm.prank(host);
        market.accept(id);
        vm.prank(host);
        stakes.requestUnstake(StakeRoles.HOST, 1_000 ether);
        IInferenceLedger.Receipt memory receipt = receiptFor(host, 0);
        vm.prank(host);
        vm.expectRevert(abi.encodeWithSelector(IInferenceMarket.HostNotActive.selector, host));
        market.fulfil(id, PROMPT, "salt", OUTPUT, "pepper", receipt);
        uint256 deadline = market.requestOf(id).deadline;
        vm.warp(deadline + 1);
        vm.prank(host);
        vm.expectRevert(abi.encodeWithSelector(IInferenceMarket.DeadlineOver.selector, deadline));
        market.accept(id);
        vm.expectRevert(abi.encodeWithSelector(IPayer.NothingOwed.selector, address(this)));
        market.withdrawOwed();
    }

    function test_TheMarketSignsNothingButTheVoucherThatItRedeems() public {
        IFeeEscrow.Voucher memory voucher = IFeeEscrow.Voucher(address(market), host, 1 ether);
        vm.assertTrue(
            market.isValidSignature(escrow.voucherDigest(voucher), "") != IERC1271.isValidSignature.selector,
            "no voucher"
        );
        vm.assertTrue(market.isValidSignature(0, "") != IERC1271.isValidSignature.selector, "nor nothing");
        vm.deal(address(this), 1 ether);
        escrow.deposit{value: 1 ether}(address(market));
        vm.expectRevert(
            abi.encodeWithSelector(
                IFeeEscrow.VoucherSignerNotAuthorised.selector, address(market), address(0)
            )
        );
        escrow.redeem(voucher, "");
    }

    function test_ARequestNeedsMoneyAModelThatMayAnswerAndAReasonableDeadline() public {
        uint64 soon = uint64(block.timestamp + 1 hours);
        vm.expectRevert(IInferenceMarket.AmountIsZero.selector);
        market.request(model, PROMPT, host, soon, 0);
        vm.deal(address(this), 10 ether);
        vm.expectRevert(
            abi.encodeWithSelector(
                IInferenceMarket.DeadlineOutOfBounds.selector,
                block.timestamp,
                block.timestamp + 1 minutes,
                block.timestamp + 7 days
            )
        );
        market.request{value: 1}(model, PROMPT, host, uint64(block.timestamp), 0);
        vm.expectRevert(
            abi.encodeWithSelector(IInferenceMarket.CallbackGasTooHigh.selector, 2_000_001, 2_000_000)
        );
        market.request{value: 1}(model, PROMPT, host, soon, 2_000_001);
        models.deprecate(model);
        vm.expectRevert(abi.encodeWithSelector(IInferenceMarket.ModelNotServable.selector, model));
        market.request{value: 1}(model, PROMPT, host, soon, 0);
        vm.expectRevert(abi.encodeWithSelector(IInferenceMarket.UnknownRequest.selector, 9));
        market.requestOf(9);
        uint256 id;
        models.register(models.model(model).input);
        id = market.request{value: 1}(model + 1, PROMPT, address(0), soon, 0);
        vm.expectRevert(abi.encodeWithSelector(IInferenceMarket.HostNotActive.selector, address(this)));
        market.accept(id);
    }
}

/// @dev Random requests, answers and refunds; the asker's mood changes.
contract MarketActions is Test {
    InferenceMarket private immutable _market;
    Asker private immutable _asker;
    IInferenceLedger private immutable _ledger;
    address private immutable _host;
    uint256 private immutable _model;

    bytes private constant PROMPT = "{}";

    constructor(InferenceMarket market, Asker asker, IInferenceLedger ledger, address host, uint256 model) {
        (_market, _asker, _ledger, _host, _model) = (market, asker, ledger, host, model);
    }

    function ask(uint256 fee, uint256 gas_) external {
        uint64 deadline = uint64(block.timestamp + 1 hours);
        fee = bound(fee, 1, 2 ether);
        _asker.ask(_model, PROMPT, _host, deadline, uint32(bound(gas_, 0, 200_000)), fee);
    }

    function fulfil(uint256 id, uint256 tokens) external {
        id = bound(id, 1, _market.requestCount());
        uint32 count = uint32(bound(tokens, 0, 600));
        IInferenceLedger.Receipt memory receipt = IInferenceLedger.Receipt(
            id,
            _model,
            address(_market),
            _host,
            keccak256(abi.encodePacked(bytes32(0), PROMPT)),
            keccak256(abi.encodePacked(bytes32(0))),
            count,
            count,
            uint128(_market.quote(_model, count, count)),
            0,
            0,
            0
        );
        vm.prank(_host);
        _market.fulfil(id, PROMPT, 0, "", 0, receipt);
    }

    function refund(uint256 id) external {
        _market.refund(bound(id, 1, _market.requestCount()));
    }

    function change(uint256 mood, bool refuses) external {
        _asker.set(Asker.Mood(mood % 5), refuses);
    }

    function wait_(uint256 time) external {
        vm.warp(block.timestamp + time % 90 minutes);
    }
}

contract MarketInvariants is Market {
    function setUp() public override {
        super.setUp();
        MarketActions actions = new MarketActions(market, asker, ledger, host, model);
        bytes4[] memory selectors = new bytes4[](5);
        selectors[0] = MarketActions.ask.selector;
        selectors[1] = MarketActions.fulfil.selector;
        selectors[2] = MarketActions.refund.selector;
        selectors[3] = MarketActions.change.selector;
        selectors[4] = MarketActions.wait_.selector;
        target(address(actions), selectors);
    }

    function invariant_TheMarketHoldsWhatOpenRequestsPaidInAndWhatItOwes() public view {
        uint256 held = market.owed(address(asker));
        for (uint256 id = 1; id <= market.requestCount(); ++id) {
            IInferenceMarket.Request memory entry = market.requestOf(id);
            if (entry.state == IInferenceMarket.State.Open) held += entry.maxFee;
        }
        vm.assertEq(address(market).balance, held, "open requests and debts");
    }

    function invariant_WhatAskersPaidIsWithThemInTheMarketOrCollected() public view {
        vm.assertEq(
            address(asker).balance + address(market).balance + distributor.totalCollected(),
            100 ether,
            "conserved"
        );
        vm.assertEq(escrow.depositOf(address(market)), 0, "no deposit stays behind");
    }
}
