// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {FeeEscrow} from "../src/FeeEscrow.sol";
import {RewardsDistributor} from "../src/RewardsDistributor.sol";
import {IFeeEscrow} from "../src/interfaces/IFeeEscrow.sol";
import {IRewardsDistributor} from "../src/interfaces/IRewardsDistributor.sol";
import {System} from "./utils/System.sol";
import {Test} from "./utils/Test.sol";

contract FeeEscrowTest is System {
    uint256 private constant ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;

    address private _host = account("host");
    address private _consumer = account("consumer");

    function setUp() public override {
        super.setUp();
        vm.deal(address(this), 1_000 ether);
        escrow.deposit{value: 100 ether}(_consumer);
    }

    function test_AVoucherMovesOnlyWhatItAdds() public {
        vm.assertEq(_redeem("consumer", 3 ether), 3 ether, "first");
        vm.assertEq(_redeem("consumer", 10 ether), 7 ether, "the increase");
        vm.assertEq(escrow.depositOf(_consumer), 90 ether, "deposit");
        vm.assertEq(distributor.totalCollected(), 10 ether, "collected");
        vm.assertEq(address(distributor).balance, 10 ether, "arrived");
    }

    function test_AnOldOrEqualVoucherIsRefused() public {
        _redeem("consumer", 3 ether);
        (IFeeEscrow.Voucher memory voucher, bytes memory signature) = _voucher("consumer", 3 ether);
        vm.expectRevert(abi.encodeWithSelector(IFeeEscrow.VoucherNotHigher.selector, 3 ether, 3 ether));
        escrow.redeem(voucher, signature);
    }

    function test_AVoucherAboveTheDepositIsRefused() public {
        (IFeeEscrow.Voucher memory voucher, bytes memory signature) = _voucher("consumer", 101 ether);
        vm.expectRevert(abi.encodeWithSelector(IFeeEscrow.InsufficientDeposit.selector, 101 ether, 100 ether));
        escrow.redeem(voucher, signature);
    }

    function test_AStrangersSignatureIsRefused() public {
        (IFeeEscrow.Voucher memory voucher, bytes memory signature) = _voucher("mallory", 1 ether);
        vm.expectRevert(
            abi.encodeWithSelector(
                IFeeEscrow.VoucherSignerNotAuthorised.selector, _consumer, account("mallory")
            )
        );
        escrow.redeem(voucher, signature);
    }

    function test_attack_VoucherReplayAcrossChainAndContract() public {
        FeeEscrow other = new FeeEscrow(parameters, distributor);
        other.deposit{value: 10 ether}(_consumer);
        (IFeeEscrow.Voucher memory voucher, bytes memory signature) = _voucher("consumer", 1 ether);
        vm.expectRevert();
        other.redeem(voucher, signature);
        vm.chainId(10);
        vm.expectRevert();
        escrow.redeem(voucher, signature);
    }

    function test_attack_MalleableVoucherSignature() public {
        IFeeEscrow.Voucher memory voucher = IFeeEscrow.Voucher(_consumer, _host, 1 ether);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key("consumer"), escrow.voucherDigest(voucher));
        bytes memory mirrored =
            abi.encodePacked(r, bytes32(ORDER - uint256(s)), v == 27 ? uint8(28) : uint8(27));
        vm.expectRevert(
            abi.encodeWithSelector(IFeeEscrow.VoucherSignerNotAuthorised.selector, _consumer, address(0))
        );
        escrow.redeem(voucher, mirrored);
    }

    function testFuzz_ASessionKeyNeverSpendsMoreThanItsCap(uint256 cap, uint256[8] calldata steps) public {
        uint128 limit = uint128(bound(cap, 1, 100 ether));
        vm.prank(_consumer);
        escrow.setSessionKey(account("session"), limit, uint64(block.timestamp + 1 days));
        uint128 total;
        for (uint256 i; i < steps.length; ++i) {
            uint128 wanted = total + uint128(bound(steps[i], 1, 30 ether));
            (IFeeEscrow.Voucher memory voucher, bytes memory signature) = _voucher("session", wanted);
            try escrow.redeem(voucher, signature) {
                total = wanted;
            } catch {
                vm.assertTrue(wanted > limit, "refused for its cap only");
            }
        }
        vm.assertLe(total, limit, "cap");
        vm.assertEq(escrow.sessionKey(_consumer, account("session")).spent, total, "spent");
    }

    function test_TheCapHoldsOverAllHostsTogether() public {
        vm.prank(_consumer);
        escrow.setSessionKey(account("session"), 5 ether, uint64(block.timestamp + 1 days));
        _redeem("session", 3 ether);
        IFeeEscrow.Voucher memory second = IFeeEscrow.Voucher(_consumer, account("host2"), 3 ether);
        bytes memory signature = signed(key("session"), escrow.voucherDigest(second));
        vm.expectRevert(
            abi.encodeWithSelector(
                IFeeEscrow.SessionKeyCapExceeded.selector, account("session"), 3 ether, 2 ether
            )
        );
        escrow.redeem(second, signature);
    }

    function test_AnExpiredKeySpendsNothing() public {
        uint64 expiry = uint64(block.timestamp + 1 days);
        vm.prank(_consumer);
        escrow.setSessionKey(account("session"), 5 ether, expiry);
        vm.warp(expiry);
        _redeem("session", 1 ether);
        vm.warp(expiry + 1);
        (IFeeEscrow.Voucher memory voucher, bytes memory signature) = _voucher("session", 2 ether);
        vm.expectRevert(
            abi.encodeWithSelector(IFeeEscrow.SessionKeyExpired.selector, account("session"), expiry)
        );
        escrow.redeem(voucher, signature);
    }

    function test_ARevokedKeyIsGoodForOneMoreDelaySoThatHostsAreNotCheated() public {
        vm.startPrank(_consumer);
        escrow.setSessionKey(account("session"), 5 ether, uint64(block.timestamp + 1 days));
        escrow.revokeSessionKey(account("session"));
        vm.expectRevert(
            abi.encodeWithSelector(IFeeEscrow.UnknownSessionKey.selector, _consumer, account("mallory"))
        );
        escrow.revokeSessionKey(account("mallory"));
        vm.stopPrank();
        vm.warp(block.timestamp + 1 hours);
        _redeem("session", 1 ether);
        vm.warp(block.timestamp + 1);
        (IFeeEscrow.Voucher memory voucher, bytes memory signature) = _voucher("session", 2 ether);
        vm.expectRevert();
        escrow.redeem(voucher, signature);
    }

    function test_AKeyCannotBeShrunkBehindTheHostsBack() public {
        uint64 expiry = uint64(block.timestamp + 1 days);
        vm.startPrank(_consumer);
        escrow.setSessionKey(account("session"), 5 ether, expiry);
        vm.expectRevert(abi.encodeWithSelector(IFeeEscrow.SessionKeyCannotShrink.selector, 5 ether, expiry));
        escrow.setSessionKey(account("session"), 4 ether, expiry);
        vm.expectRevert(abi.encodeWithSelector(IFeeEscrow.SessionKeyCannotShrink.selector, 5 ether, expiry));
        escrow.setSessionKey(account("session"), 5 ether, expiry - 1);
        escrow.setSessionKey(account("session"), 6 ether, expiry + 1);
        vm.stopPrank();
    }

    function test_attack_DustInflationMoneyThatIsForcedInChangesNoAccount() public {
        _redeem("consumer", 3 ether);
        vm.deal(address(this), 2 ether);
        new Force{value: 1 ether}(payable(address(distributor)));
        new Force{value: 1 ether}(payable(address(escrow)));
        vm.assertEq(distributor.totalCollected(), 3 ether, "not collected");
        vm.expectRevert(
            abi.encodeWithSelector(IRewardsDistributor.TotalOutOfBounds.selector, 3 ether + 1, 0, 3 ether)
        );
        distributor.proposeRoot("root", 3 ether + 1, 0, "data");
        vm.assertEq(escrow.depositOf(_consumer), 97 ether, "nobody's deposit");
    }

    function test_AWithdrawalWaitsAndAHostCanStillRedeem() public {
        vm.startPrank(_consumer);
        escrow.requestWithdrawal(100 ether);
        uint256 release = block.timestamp + 1 hours;
        vm.expectRevert(abi.encodeWithSelector(IFeeEscrow.WithdrawalNotReady.selector, release));
        escrow.withdraw();
        vm.stopPrank();
        _redeem("consumer", 30 ether);
        vm.warp(release);
        vm.startPrank(_consumer);
        vm.assertEq(escrow.withdraw(), 70 ether, "what is left");
        vm.expectRevert(abi.encodeWithSelector(IFeeEscrow.NoWithdrawalRequested.selector, _consumer));
        escrow.withdraw();
        vm.stopPrank();
        vm.assertEq(_consumer.balance, 70 ether, "paid");
    }

    function test_EmptyAndNamelessMoneyIsRefused() public {
        vm.expectRevert(IFeeEscrow.AmountIsZero.selector);
        escrow.deposit(_consumer);
        vm.expectRevert(IFeeEscrow.ZeroAddress.selector);
        escrow.deposit{value: 1}(address(0));
        vm.startPrank(_consumer);
        vm.expectRevert(IFeeEscrow.ZeroAddress.selector);
        escrow.setSessionKey(address(0), 1, type(uint64).max);
        vm.expectRevert(IFeeEscrow.AmountIsZero.selector);
        escrow.setSessionKey(address(1), 0, type(uint64).max);
        uint64 past = uint64(block.timestamp);
        vm.expectRevert(abi.encodeWithSelector(IFeeEscrow.ExpiryInPast.selector, past));
        escrow.setSessionKey(address(1), 1, past);
        vm.expectRevert(IFeeEscrow.AmountIsZero.selector);
        escrow.requestWithdrawal(0);
        vm.expectRevert(abi.encodeWithSelector(IFeeEscrow.InsufficientDeposit.selector, 101 ether, 100 ether));
        escrow.requestWithdrawal(101 ether);
        escrow.requestWithdrawal(40 ether);
        vm.stopPrank();
        (uint256 amount, uint256 release) = escrow.pendingWithdrawal(_consumer);
        vm.assertEq(amount, 40 ether, "waiting");
        vm.assertEq(release, block.timestamp + 1 hours, "until then");
    }

    function test_AVoucherOfNobodyIsRefused() public {
        // A broken signature recovers to 0, which must not count as the consumer 0.
        vm.expectRevert(
            abi.encodeWithSelector(IFeeEscrow.InsufficientDeposit.selector, 1, 0)
        );
        escrow.redeem(IFeeEscrow.Voucher(address(0), _host, 1), "");
    }

    function _voucher(string memory signer, uint128 cumulative)
        private
        view
        returns (IFeeEscrow.Voucher memory voucher, bytes memory signature)
    {
        voucher = IFeeEscrow.Voucher(_consumer, _host, cumulative);
        signature = signed(key(signer), escrow.voucherDigest(voucher));
    }

    function _redeem(string memory signer, uint128 cumulative) private returns (uint256) {
        (IFeeEscrow.Voucher memory voucher, bytes memory signature) = _voucher(signer, cumulative);
        return escrow.redeem(voucher, signature);
    }
}

/// @dev Leaves its money where nobody asked for it.
contract Force {
    constructor(address payable to) payable {
        selfdestruct(to);
    }
}

/// @dev Random consumers, hosts, settlers and claimants. Payout trees have two leaves: accounts 0 and 1.
contract MoneyActions is Test {
    uint256 public constant SESSION = 0x5E55;

    FeeEscrow private immutable _escrow;
    RewardsDistributor private immutable _distributor;

    uint256 public deposited;
    uint256 public withdrawn;
    uint256[2] public cumulative;
    uint256[2] public received;
    uint256[2] public spent;
    mapping(uint256 rootId => uint256[2]) public promised;

    uint256[2] private _keys = [uint256(0xC0FFEE), 0xBEEF];
    address[2] private _earners = [address(0xE1), address(0xE2)];

    constructor(FeeEscrow escrow, RewardsDistributor distributor) {
        _escrow = escrow;
        _distributor = distributor;
    }

    function deposit(uint256 who, uint256 amount) external {
        amount = bound(amount, 1, 100 ether);
        vm.deal(address(this), amount);
        _escrow.deposit{value: amount}(vm.addr(_keys[who % 2]));
        deposited += amount;
    }

    function redeem(uint256 who, uint256 host, uint256 amount) external {
        address consumer = vm.addr(_keys[who % 2]);
        address to = address(uint160(0xAA00 + host % 3));
        uint256 before = _escrow.redeemed(consumer, to);
        uint256 held = _escrow.depositOf(consumer);
        uint128 total = uint128(before + bound(amount, 1, held + held / 4 + 1));
        IFeeEscrow.Voucher memory voucher = IFeeEscrow.Voucher(consumer, to, total);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(_keys[who % 2], _escrow.voucherDigest(voucher));
        _escrow.redeem(voucher, abi.encodePacked(r, s, v));
    }

    /// @dev A consumer gives its session key a cap, and the key signs for more or less than is left of it.
    function redeemByKey(uint256 who, uint256 host, uint256 cap, uint256 amount) external {
        address consumer = vm.addr(_keys[who % 2]);
        address to = address(uint160(0xAA00 + host % 3));
        uint128 before = _escrow.sessionKey(consumer, vm.addr(SESSION)).cap;
        vm.prank(consumer);
        _escrow.setSessionKey(
            vm.addr(SESSION), before + uint128(bound(cap, 1, 5 ether)), uint64(block.timestamp + 30 days)
        );
        uint128 total = _escrow.redeemed(consumer, to) + uint128(bound(amount, 1, 8 ether));
        IFeeEscrow.Voucher memory voucher = IFeeEscrow.Voucher(consumer, to, total);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(SESSION, _escrow.voucherDigest(voucher));
        uint256 collected = _distributor.totalCollected();
        _escrow.redeem(voucher, abi.encodePacked(r, s, v));
        spent[who % 2] += _distributor.totalCollected() - collected;
    }

    function withdraw(uint256 who, uint256 amount) external {
        address consumer = vm.addr(_keys[who % 2]);
        uint256 held = _escrow.depositOf(consumer);
        if (held == 0) return;
        vm.prank(consumer);
        _escrow.requestWithdrawal(bound(amount, 1, held));
        vm.warp(block.timestamp + 1 hours);
        vm.prank(consumer);
        withdrawn += _escrow.withdraw();
    }

    /// @dev Proposes a root whose leaves may add up to more than its total.
    function propose(uint256 first, uint256 second, uint256 lie) external {
        uint256 collected = _distributor.totalCollected();
        uint256 room = collected - cumulative[0] - cumulative[1];
        uint256[2] memory next = [cumulative[0] + bound(first, 0, room), cumulative[1]];
        next[1] += bound(second, 0, collected - next[0] - next[1]);
        uint256 total = next[0] + next[1];
        if (lie % 4 == 0) next[0] += bound(lie, 0, collected);
        uint256 id = _distributor.proposeRoot(_root(next), total, 0, "data");
        promised[id] = next;
    }

    function activate(uint256 id, bool wait) external {
        if (wait) vm.warp(block.timestamp + 1 hours);
        uint256 count = _distributor.rootCount();
        id = id % 4 == 0 ? bound(id, 1, count) : count;
        _distributor.activate(id);
        uint256[2] memory next = promised[id];
        // A root that lied is not built upon.
        if (next[0] + next[1] <= _distributor.rootOf(id).total) cumulative = next;
    }

    function disable(uint256 id) external {
        if (id % 8 != 0) return;
        _distributor.disable(bound(id, 1, _distributor.rootCount()));
    }

    function claim(uint256 who) external {
        who %= 2;
        uint256[2] memory leaves = promised[_distributor.activeRootId()];
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = _leaf(1 - who, leaves[1 - who]);
        uint256 before = _earners[who].balance;
        _distributor.claim(_earners[who], leaves[who], proof);
        received[who] += _earners[who].balance - before;
    }

    function _leaf(uint256 who, uint256 amount) private view returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(_earners[who], amount))));
    }

    function _root(uint256[2] memory amounts) private view returns (bytes32) {
        (bytes32 a, bytes32 b) = (_leaf(0, amounts[0]), _leaf(1, amounts[1]));
        return a < b ? keccak256(abi.encode(a, b)) : keccak256(abi.encode(b, a));
    }
}

contract MoneyInvariants is System {
    MoneyActions private _actions;

    function setUp() public override {
        super.setUp();
        _actions = new MoneyActions(escrow, distributor);
        bytes4[] memory guarded = new bytes4[](2);
        (guarded[0], guarded[1]) =
        (RewardsDistributor.proposeRoot.selector, RewardsDistributor.disable.selector);
        access.setTargetFunctionRole(address(distributor), guarded, 2);
        access.grantRole(2, address(_actions), 0);
        bytes4[] memory selectors = new bytes4[](8);
        selectors[7] = MoneyActions.redeemByKey.selector;
        selectors[0] = MoneyActions.deposit.selector;
        selectors[1] = MoneyActions.redeem.selector;
        selectors[2] = MoneyActions.withdraw.selector;
        selectors[3] = MoneyActions.propose.selector;
        selectors[4] = MoneyActions.activate.selector;
        selectors[5] = MoneyActions.disable.selector;
        selectors[6] = MoneyActions.claim.selector;
        target(address(_actions), selectors);
    }

    function invariant_EveryWeiDepositedIsInTheEscrowWithdrawnOrCollected() public view {
        vm.assertEq(
            address(escrow).balance + _actions.withdrawn() + distributor.totalCollected(),
            _actions.deposited(),
            "deposits"
        );
    }

    function invariant_FeesCollectedArePaidOutOrStillThere() public view {
        vm.assertEq(
            address(distributor).balance + distributor.totalClaimed(),
            distributor.totalCollected(),
            "collected"
        );
        vm.assertEq(
            _actions.received(0) + _actions.received(1), distributor.totalClaimed(), "claims were paid once"
        );
    }

    function invariant_ASessionKeyNeverSpendsMoreThanItsCap() public view {
        uint256[2] memory keys = [uint256(0xC0FFEE), 0xBEEF];
        for (uint256 i; i < 2; ++i) {
            IFeeEscrow.SessionKey memory entry =
                escrow.sessionKey(vm.addr(keys[i]), vm.addr(_actions.SESSION()));
            vm.assertLe(entry.spent, entry.cap, "cap");
            vm.assertEq(entry.spent, _actions.spent(i), "every wei that it moved is counted");
        }
    }

    function invariant_NoRootOverpays() public view {
        vm.assertLe(distributor.totalClaimed(), distributor.totalCollected(), "never above what came in");
        uint256 active = distributor.activeRootId();
        if (active != 0) {
            vm.assertLe(
                distributor.totalClaimed(), distributor.rootOf(active).total, "never above the root's total"
            );
        }
    }
}
