// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";
import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {OPEN} from "../src/OPEN.sol";
import {OpenLockbox} from "../src/bridge/OpenLockbox.sol";
import {OpenMinter} from "../src/bridge/OpenMinter.sol";
import {IBridge} from "../src/interfaces/IBridge.sol";
import {ICrossDomainMessenger} from "../src/interfaces/optimism/ICrossDomainMessenger.sol";
import {ILiquidityController} from "../src/interfaces/optimism/ILiquidityController.sol";
import {Test} from "./utils/Test.sol";

/// @dev Stands in for a pair of the OP Stack's messengers in one chain: keeps what was sent, relays it when told, lets a failed
/// message be tried again and a successful one not.
contract Messengers is ICrossDomainMessenger {
    struct Message {
        address sender;
        address target;
        bytes data;
        bool done;
    }

    Message[] public messages;
    address public xDomainMessageSender;

    function sendMessage(address target, bytes calldata message, uint32) external payable {
        messages.push(Message(msg.sender, target, message, false));
    }

    function count() external view returns (uint256) {
        return messages.length;
    }

    function relay(uint256 index) external returns (bool success) {
        Message storage message = messages[index];
        require(!message.done, "relayed before");
        (success,) = _deliver(message.sender, message.target, message.data);
        message.done = success;
    }

    /// @dev What only a broken messenger would do.
    function deliver(address sender, address target, bytes calldata data) external {
        (bool success, bytes memory answer) = _deliver(sender, target, data);
        if (success) return;
        assembly ("memory-safe") {
            revert(add(answer, 0x20), mload(answer))
        }
    }

    function dataOf(uint256 index) external view returns (bytes memory) {
        return messages[index].data;
    }

    function _deliver(address sender, address target, bytes memory data)
        private
        returns (bool success, bytes memory answer)
    {
        xDomainMessageSender = sender;
        (success, answer) = target.call(data);
        xDomainMessageSender = address(0);
    }
}

/// @dev Stands in for the LiquidityController with its reserve.
contract Controller is ILiquidityController {
    mapping(address => bool) public minters;

    receive() external payable {}

    function authorizeMinter(address minter) external {
        minters[minter] = true;
    }

    function mint(address to, uint256 amount) external {
        require(minters[msg.sender], "not a minter");
        new Forced{value: amount}(payable(to));
    }

    function burn() external payable {
        require(minters[msg.sender], "not a minter");
    }
}

contract Forced {
    constructor(address payable to) payable {
        selfdestruct(to);
    }
}

abstract contract Bridged is Test {
    uint128 internal constant CAPACITY = 1_000_000 ether;

    AccessManager internal access;
    OPEN internal open;
    Messengers internal messengers;
    Controller internal controller;
    OpenLockbox internal lockbox;
    OpenMinter internal minter;

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        access = new AccessManager(address(this));
        open = new OPEN(address(this));
        messengers = new Messengers();
        controller = new Controller();
        vm.deal(address(controller), open.SUPPLY());
        address predicted = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1);
        lockbox = new OpenLockbox(address(access), messengers, predicted, open, CAPACITY, 1 days);
        minter = new OpenMinter(address(access), messengers, address(lockbox), controller, CAPACITY, 1 days);
        controller.authorizeMinter(address(minter));
    }
}

contract BridgeTest is Bridged {
    address private constant ALICE = address(0xA11CE);

    function test_TheSupplyIsMadeOnceAndHoldersCanBurnTheirOwn() public {
        vm.assertEq(open.totalSupply(), 1e27, "supply");
        open.burn(1 ether);
        vm.assertEq(open.totalSupply(), 1e27 - 1 ether, "burned");
    }

    function test_LockedOnL1IsMintedOnL2AndBackAgain() public {
        _lock(ALICE, 100 ether);
        vm.assertTrue(messengers.relay(0), "relayed");
        vm.assertEq(ALICE.balance, 100 ether, "native OPEN");
        vm.assertEq(minter.minted(), lockbox.locked(), "as much as is locked");

        vm.prank(ALICE);
        minter.send{value: 40 ether}(ALICE, 200_000);
        vm.assertTrue(messengers.relay(1), "relayed");
        vm.assertEq(open.balanceOf(ALICE), 40 ether, "OPEN");
        vm.assertEq(lockbox.locked(), 60 ether, "still locked");
        vm.assertEq(minter.minted(), 60 ether, "still out");
    }

    function test_APermitSparesTheApprovalAndIsNoObstacleWhenUsedBefore() public {
        uint256 key = 0xA11CE5;
        address holder = vm.addr(key);
        open.transfer(holder, 10 ether);
        bytes32 permit = keccak256(
            abi.encode(
                keccak256(
                    "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
                ),
                holder,
                address(lockbox),
                10 ether,
                open.nonces(holder),
                block.timestamp
            )
        );
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", open.DOMAIN_SEPARATOR(), permit));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        // Somebody sees the permit and uses it first.
        open.permit(holder, address(lockbox), 10 ether, block.timestamp, v, r, s);
        vm.prank(holder);
        lockbox.sendWithPermit(holder, 10 ether, 200_000, block.timestamp, v, r, s);
        vm.assertEq(lockbox.locked(), 10 ether, "locked");
    }

    function test_attack_ForgedBridgeMessage() public {
        vm.expectRevert(abi.encodeWithSelector(IBridge.NotMessenger.selector, address(this)));
        minter.receiveTransfer(1, ALICE, ALICE, 1 ether);
        bytes memory forged = abi.encodeCall(IBridge.receiveTransfer, (1, ALICE, ALICE, 1 ether));
        vm.expectRevert(
            abi.encodeWithSelector(IBridge.NotOtherBridge.selector, ALICE, address(lockbox))
        );
        messengers.deliver(ALICE, address(minter), forged);
        vm.expectRevert(
            abi.encodeWithSelector(IBridge.NotOtherBridge.selector, address(lockbox), address(minter))
        );
        messengers.deliver(address(lockbox), address(lockbox), forged);
    }

    function test_attack_ReplayedBridgeMessageThoughTheMessengerWouldNotRefuseIt() public {
        _lock(ALICE, 1 ether);
        messengers.relay(0);
        bytes memory again = messengers.dataOf(0);
        vm.expectRevert(abi.encodeWithSelector(IBridge.TransferReplayed.selector, 1));
        messengers.deliver(address(lockbox), address(minter), again);
    }

    function test_MoreThanIsLockedIsNeverReleased() public {
        _lock(ALICE, 1 ether);
        bytes memory data = abi.encodeCall(IBridge.receiveTransfer, (7, ALICE, ALICE, 2 ether));
        vm.expectRevert(abi.encodeWithSelector(IBridge.LockedTooLittle.selector, 2 ether, 1 ether));
        messengers.deliver(address(minter), address(lockbox), data);
        vm.deal(ALICE, 5 ether);
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IBridge.LockedTooLittle.selector, 5 ether, 0));
        minter.send{value: 5 ether}(ALICE, 200_000);
    }

    function test_TheRateLimitDelaysAndLosesNothing() public {
        _lock(ALICE, CAPACITY);
        _lock(ALICE, CAPACITY / 2);
        vm.assertTrue(messengers.relay(0), "the bucket was full");
        vm.assertTrue(!messengers.relay(1), "now it is empty");
        vm.warp(block.timestamp + 12 hours - 1);
        vm.assertTrue(!messengers.relay(1), "half, but a second");
        vm.warp(block.timestamp + 1);
        vm.assertEq(minter.availableNow(), CAPACITY / 2, "half");
        vm.assertTrue(messengers.relay(1), "the same message, later");
        vm.assertEq(ALICE.balance, uint256(CAPACITY) * 3 / 2, "all of it");
    }

    function test_APausedBridgeTakesNothingInAndPaysLater() public {
        _lock(ALICE, 1 ether);
        minter.pause();
        lockbox.pause();
        vm.assertTrue(!messengers.relay(0), "paused");
        vm.expectRevert(Pausable.EnforcedPause.selector);
        lockbox.send(ALICE, 1 ether, 200_000);
        vm.expectRevert(Pausable.EnforcedPause.selector);
        minter.send{value: 0}(ALICE, 200_000);
        minter.unpause();
        vm.assertTrue(messengers.relay(0), "paid after the pause");
    }

    function test_NobodyButTheRightRolesPausesOrSetsLimits() public {
        bytes memory refusal = abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, ALICE);
        vm.startPrank(ALICE);
        vm.expectRevert(refusal);
        lockbox.pause();
        vm.expectRevert(refusal);
        lockbox.unpause();
        vm.expectRevert(refusal);
        lockbox.setRateLimit(1, 1);
        vm.stopPrank();
        lockbox.setRateLimit(10 ether, 1 hours);
        vm.assertEq(lockbox.availableNow(), 10 ether, "smaller at once");
        vm.expectRevert(IBridge.AmountIsZero.selector);
        lockbox.setRateLimit(10 ether, 0);
    }

    function test_ATransferNeedsAReceiverWhoCanHaveIt() public {
        open.approve(address(lockbox), 10 ether);
        address[3] memory wrong = [address(0), address(lockbox), address(minter)];
        for (uint256 i; i < 3; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IBridge.InvalidReceiver.selector, wrong[i]));
            lockbox.send(wrong[i], 1 ether, 200_000);
        }
        vm.expectRevert(IBridge.AmountIsZero.selector);
        lockbox.send(ALICE, 0, 200_000);
        vm.expectRevert(IBridge.ZeroAddress.selector);
        new OpenLockbox(address(access), messengers, address(0), open, 1, 1);
        vm.expectRevert(IBridge.ZeroAddress.selector);
        new OpenLockbox(address(access), messengers, address(1), OPEN(address(0)), 1, 1);
        vm.expectRevert(IBridge.ZeroAddress.selector);
        new OpenMinter(address(access), messengers, address(1), ILiquidityController(address(0)), 1, 1);
    }

    function _lock(address to, uint256 amount) private {
        open.approve(address(lockbox), amount);
        lockbox.send(to, amount, 200_000);
    }
}

/// @dev Random senders in both directions, messages relayed in any order and tried again, limits and pauses in between.
contract BridgeActions is Test {
    OPEN private immutable _open;
    OpenLockbox private immutable _lockbox;
    OpenMinter private immutable _minter;
    Messengers private immutable _messengers;

    address[3] private _people = [address(0xA1), address(0xA2), address(0xA3)];

    constructor(OPEN open, OpenLockbox lockbox, OpenMinter minter, Messengers messengers) {
        _open = open;
        _lockbox = lockbox;
        _minter = minter;
        _messengers = messengers;
    }

    function lock(uint256 who, uint256 to, uint256 amount) external {
        address from = _people[who % 3];
        amount = bound(amount, 1, _open.balanceOf(from));
        vm.startPrank(from);
        _open.approve(address(_lockbox), amount);
        _lockbox.send(_people[to % 3], amount, 200_000);
        vm.stopPrank();
    }

    function burn(uint256 who, uint256 to, uint256 amount) external {
        address from = _people[who % 3];
        amount = bound(amount, 1, from.balance);
        vm.prank(from);
        _minter.send{value: amount}(_people[to % 3], 200_000);
    }

    function relay(uint256 index) external {
        _messengers.relay(index % _messengers.count());
    }

    function wait_(uint256 time) external {
        vm.warp(block.timestamp + time % 2 days);
    }

    function limit(uint256 capacity) external {
        _minter.setRateLimit(uint128(bound(capacity, 1, 100 ether)), 1 hours);
        _lockbox.setRateLimit(uint128(bound(capacity, 1, 100 ether)), 1 hours);
    }
}

contract BridgeInvariants is Bridged {
    function setUp() public override {
        super.setUp();
        BridgeActions actions = new BridgeActions(open, lockbox, minter, messengers);
        for (uint160 i = 0xA1; i <= 0xA3; ++i) {
            open.transfer(address(i), 1_000 ether);
        }
        access.grantRole(0, address(actions), 0);
        bytes4[] memory selectors = new bytes4[](5);
        selectors[0] = BridgeActions.lock.selector;
        selectors[1] = BridgeActions.burn.selector;
        selectors[2] = BridgeActions.relay.selector;
        selectors[3] = BridgeActions.wait_.selector;
        selectors[4] = BridgeActions.limit.selector;
        target(address(actions), selectors);
    }

    function invariant_MintedOnL2IsNeverMoreThanLockedOnL1() public view {
        vm.assertLe(minter.minted(), lockbox.locked(), "minted, locked");
    }

    function invariant_WhatIsLockedIsThere() public view {
        vm.assertEq(open.balanceOf(address(lockbox)), lockbox.locked(), "locked OPEN");
    }

    function invariant_WhatIsMintedLeftTheReserve() public view {
        vm.assertEq(address(controller).balance + minter.minted(), open.SUPPLY(), "reserve and circulation");
    }

    function invariant_OpenIsConserved() public view {
        uint256 held;
        for (uint160 i = 0xA1; i <= 0xA3; ++i) {
            held += open.balanceOf(address(i));
        }
        vm.assertEq(held + open.balanceOf(address(this)) + lockbox.locked(), 1e27, "L1");
    }
}
