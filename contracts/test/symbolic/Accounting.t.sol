// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";
import {CommunityDistributor} from "../../src/CommunityDistributor.sol";
import {FeeEscrow} from "../../src/FeeEscrow.sol";
import {GOPEN} from "../../src/GOPEN.sol";
import {ModelRegistry} from "../../src/ModelRegistry.sol";
import {RewardsDistributor} from "../../src/RewardsDistributor.sol";
import {RuntimeParameters} from "../../src/RuntimeParameters.sol";
import {StakeManager} from "../../src/StakeManager.sol";
import {Vesting} from "../../src/Vesting.sol";
import {IDatanetAccess} from "../../src/interfaces/IDatanetAccess.sol";
import {IDatanetRegistry} from "../../src/interfaces/IDatanetRegistry.sol";
import {IFeeEscrow} from "../../src/interfaces/IFeeEscrow.sol";
import {IModelRegistry} from "../../src/interfaces/IModelRegistry.sol";
import {Payer} from "../../src/libraries/Payer.sol";
import {RateLimit} from "../../src/libraries/RateLimit.sol";
import {Sample} from "../../src/libraries/Sample.sol";
import {StakeRoles} from "../../src/libraries/StakeRoles.sol";
import {Test} from "../utils/Test.sol";

/// @dev Halmos runs every `check_` function with all arguments symbolic: a failed `assert` for any value whatever is a
/// counterexample, a revert is not. `make contracts-halmos`.
abstract contract Symbolic is Test {
    AccessManager internal access;
    RuntimeParameters internal parameters;
    StakeManager internal stakes;

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        vm.roll(100);
        access = new AccessManager(address(this));
        parameters = new RuntimeParameters(address(access), new bytes32[](0), new uint256[](0));
        stakes = new StakeManager(address(access), parameters);
    }
}

contract SymbolicParameters is Symbolic {
    function check_NoChangeLeavesItsBoundsOrMakesTheFeeSharesMoreThanTheFee(bytes32 key, uint256 value) public {
        parameters.set(key, value);
        (uint256 minimum, uint256 maximum) = parameters.bounds(key);
        assert(value >= minimum && value <= maximum);
        assert(parameters.get(key) == value);
        (uint32[5] memory split,) = parameters.feeSplit();
        assert(uint256(split[0]) + split[1] + split[2] + split[3] + split[4] <= 1_000_000);
    }
}

contract SymbolicGOPEN is Test {
    GOPEN private _token;
    address private constant ALICE = address(0xA11CE);

    function setUp() public {
        _token = new GOPEN();
    }

    function check_WrappingIsOneToOneAndSoIsUnwrapping(uint128 wrapped, uint128 unwrapped, address other) public {
        vm.assume(other != ALICE && other != address(_token));
        vm.deal(ALICE, wrapped);
        vm.prank(ALICE);
        _token.deposit{value: wrapped}();
        assert(_token.balanceOf(ALICE) == wrapped);
        assert(address(_token).balance == wrapped);
        assert(_token.balanceOf(other) == 0);
        vm.prank(ALICE);
        _token.withdraw(unwrapped);
        assert(unwrapped <= wrapped);
        assert(ALICE.balance == unwrapped);
        assert(_token.balanceOf(ALICE) == wrapped - unwrapped);
        assert(_token.totalSupply() == address(_token).balance);
    }

    function check_NobodyUnwrapsWhatAnotherHas(uint128 wrapped, uint128 amount, address thief) public {
        vm.assume(thief != ALICE);
        vm.deal(ALICE, wrapped);
        vm.prank(ALICE);
        _token.deposit{value: wrapped}();
        vm.prank(thief);
        _token.withdraw(amount);
        assert(amount == 0);
    }
}

contract SymbolicEscrow is Symbolic {
    RewardsDistributor private _distributor;
    FeeEscrow private _escrow;
    address private constant CONSUMER = address(0xC0);
    address private constant KEY = address(0x5E55);

    function setUp() public override {
        super.setUp();
        // Halmos has addresses of its own for new contracts, so the escrow is put where the distributor expects it.
        _escrow = FeeEscrow(address(0xE5C));
        _distributor = new RewardsDistributor(address(access), parameters, stakes, address(_escrow));
        vm.etch(address(_escrow), address(new FeeEscrow(parameters, _distributor)).code);
    }

    function check_AVoucherMovesExactlyItsIncreaseFromItsConsumersDeposit(
        uint96 mine,
        uint96 others,
        IFeeEscrow.Voucher calldata voucher,
        bytes calldata signature
    ) public {
        address other = address(0xD0);
        vm.assume(voucher.consumer == CONSUMER);
        vm.deal(address(this), uint256(mine) + others);
        _escrow.deposit{value: mine}(CONSUMER);
        _escrow.deposit{value: others}(other);
        uint256 amount = _escrow.redeem(voucher, signature);
        assert(amount == voucher.cumulative);
        assert(_escrow.depositOf(CONSUMER) == mine - amount);
        assert(_escrow.depositOf(other) == others);
        assert(_escrow.redeemed(CONSUMER, voucher.host) == voucher.cumulative);
        assert(address(_escrow).balance == uint256(mine) + others - amount);
        assert(_distributor.totalCollected() == amount && address(_distributor).balance == amount);
    }

    function check_ASessionKeyNeverSpendsMoreThanItsCap(
        uint128 cap,
        uint64 expiry,
        uint64 wait,
        IFeeEscrow.Voucher calldata first,
        IFeeEscrow.Voucher calldata second,
        bytes calldata firstSignature,
        bytes calldata secondSignature
    ) public {
        vm.assume(first.consumer == CONSUMER && second.consumer == CONSUMER);
        vm.deal(address(this), 1e27);
        _escrow.deposit{value: 1e27}(CONSUMER);
        vm.prank(CONSUMER);
        _escrow.setSessionKey(KEY, cap, expiry);
        uint256 moved = _escrow.redeem(first, firstSignature);
        vm.warp(block.timestamp + wait % 365 days);
        moved += _escrow.redeem(second, secondSignature);
        IFeeEscrow.SessionKey memory key = _escrow.sessionKey(CONSUMER, KEY);
        assert(key.spent <= key.cap && key.cap == cap);
        assert(key.spent <= moved);
    }

    function check_AWithdrawalPaysNoMoreThanTheDepositHolds(uint96 put, uint96 asked, uint64 wait) public {
        vm.deal(address(this), put);
        _escrow.deposit{value: put}(CONSUMER);
        vm.startPrank(CONSUMER);
        _escrow.requestWithdrawal(asked);
        vm.warp(block.timestamp + wait);
        uint256 paid = _escrow.withdraw();
        vm.stopPrank();
        assert(wait >= 1 hours);
        assert(paid == asked && paid <= put);
        assert(CONSUMER.balance == paid);
        assert(address(_escrow).balance == put - paid && _escrow.depositOf(CONSUMER) == put - paid);
    }
}

contract SymbolicRewards is Symbolic {
    RewardsDistributor private _distributor;
    address private constant ALICE = address(0xA11CE);
    address private constant BOB = address(0xB0B);

    function setUp() public override {
        super.setUp();
        _distributor = new RewardsDistributor(address(access), parameters, stakes, address(this));
    }

    /// @dev A root over two accounts whose leaves may say anything, and a total that may be less than they add up to.
    function check_NoRootPaysMoreThanItsTotalNorAnAccountMoreThanItsLeaf(
        uint96 collected,
        uint96 total,
        uint256 toAlice,
        uint256 toBob
    ) public {
        vm.deal(address(this), collected);
        _distributor.collect{value: collected}();
        (bytes32 a, bytes32 b) = (_leaf(ALICE, toAlice), _leaf(BOB, toBob));
        bytes32 root = a < b ? keccak256(abi.encode(a, b)) : keccak256(abi.encode(b, a));
        uint256 id = _distributor.proposeRoot(root, total, 0, 0);
        vm.warp(block.timestamp + 1 hours);
        _distributor.activate(id);
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = b;
        _distributor.claim(ALICE, toAlice, proof);
        assert(ALICE.balance == toAlice && _distributor.totalClaimed() == toAlice);
        assert(toAlice <= total && total <= collected);
        proof[0] = a;
        (bool second,) = address(_distributor).call(
            abi.encodeCall(_distributor.claim, (BOB, toBob, proof))
        );
        if (second) assert(toAlice + toBob <= total);
        assert(_distributor.totalClaimed() <= total);
        assert(address(_distributor).balance == collected - _distributor.totalClaimed());
    }

    function check_NothingIsClaimedTwice(uint96 collected, uint96 earned) public {
        vm.deal(address(this), collected);
        _distributor.collect{value: collected}();
        uint256 id = _distributor.proposeRoot(_leaf(ALICE, earned), collected, 0, 0);
        vm.warp(block.timestamp + 1 hours);
        _distributor.activate(id);
        bytes32[] memory proof = new bytes32[](0);
        _distributor.claim(ALICE, earned, proof);
        (bool again,) = address(_distributor).call(
            abi.encodeCall(_distributor.claim, (ALICE, earned, proof))
        );
        assert(!again);
        assert(ALICE.balance == earned);
    }

    function _leaf(address account, uint256 cumulative) private pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(account, cumulative))));
    }
}

contract SymbolicStakes is Symbolic {
    address private constant ALICE = address(0xA11CE);

    function check_StakeIsWithdrawnOnceAndNotBeforeItsTime(uint96 staked, uint96 asked, uint32 wait) public {
        vm.deal(ALICE, staked);
        vm.startPrank(ALICE);
        stakes.stake{value: staked}(StakeRoles.OPERATOR);
        stakes.requestUnstake(StakeRoles.OPERATOR, asked);
        vm.warp(block.timestamp + wait);
        stakes.withdraw(StakeRoles.OPERATOR);
        assert(wait >= 7 days);
        assert(ALICE.balance == asked && address(stakes).balance == staked - asked);
        (bool again,) = address(stakes).call(abi.encodeCall(stakes.withdraw, (StakeRoles.OPERATOR)));
        assert(!again);
    }
}

contract SymbolicLineage is Symbolic {
    ModelRegistry private _models;

    function setUp() public override {
        super.setUp();
        _models = new ModelRegistry(
            address(access), parameters, IDatanetRegistry(address(0)), IDatanetAccess(address(0))
        );
    }

    function check_TheLineagesPartsAddUpToTheWhole(uint32 first, uint32 second, uint32 third) public {
        IModelRegistry.ModelInput memory input;
        (input.baseHash, input.recipeHash) = ("base", "recipe");
        input.lineagePpm = first;
        input.parent = _models.register(input);
        input.lineagePpm = second;
        input.parent = _models.register(input);
        input.lineagePpm = third;
        (, uint256[] memory ppm) = _models.lineage(_models.register(input));
        assert(ppm.length == 3);
        assert(ppm[0] + ppm[1] + ppm[2] == 1_000_000);
        assert(ppm[1] + ppm[2] <= 300_000);
    }
}

/// @dev Pays `pot` evenly, as settlement of reviews does.
contract Payroll is Payer {
    function pay(address[] memory accounts, uint256 pot, uint256 total, address rest) external {
        _payEvenly(accounts, pot, total, rest);
    }
}

contract SymbolicSplits is Test {
    using RateLimit for RateLimit.Bucket;

    RateLimit.Bucket private _bucket;

    function check_AnEvenSplitPaysOrOwesEveryWei(uint96 pot, uint96 total) public {
        vm.assume(pot <= total);
        Payroll payroll = new Payroll();
        vm.deal(address(payroll), total);
        address[] memory accounts = new address[](3);
        (accounts[0], accounts[1], accounts[2]) = (address(0xA1), address(0xA2), address(payroll));
        address rest = address(0xA4);
        payroll.pay(accounts, pot, total, rest);
        uint256 each = uint256(pot) / 3;
        assert(address(0xA1).balance == each && address(0xA2).balance == each);
        // The contract cannot be paid, so its part is owed and still there.
        assert(payroll.owed(address(payroll)) == each);
        assert(rest.balance == total - 3 * each);
        assert(address(payroll).balance == each);
    }

    function check_ASampleHoldsDistinctPlacesOfTheBatch(bytes32 seed) public pure {
        uint256[] memory places = Sample.draw(seed, 5, 3);
        assert(places.length == 3);
        assert(places[0] < 5 && places[1] < 5 && places[2] < 5);
        assert(places[0] != places[1] && places[0] != places[2] && places[1] != places[2]);
    }

    function check_ARateLimitNeverLetsMoreThroughThanItHolds(
        uint96 capacity,
        uint32 window,
        uint96 amount,
        uint32 wait
    ) public {
        vm.assume(window > 0);
        _bucket.configure(capacity, window);
        (bool taken,) = _bucket.take(amount);
        assert(taken == (amount <= capacity));
        uint256 left = taken ? uint256(capacity) - amount : capacity;
        assert(_bucket.available() == left);
        vm.warp(block.timestamp + wait);
        assert(_bucket.available() >= left && _bucket.available() <= capacity);
    }
}

contract SymbolicReleases is Test {
    uint64 private constant LAUNCH = 1_800_000_000;
    address private constant OWNER = address(0xBE);

    function check_VestingNeverPaysEarlyNorMoreThanItHolds(uint32 one, uint32 two) public {
        uint256 amount = 150_000_000 ether;
        vm.warp(LAUNCH);
        vm.deal(address(this), amount);
        Vesting vesting = new Vesting{value: amount}("team", OWNER, LAUNCH, 360 days, 1_080 days);
        vm.warp(uint256(LAUNCH) + one);
        vesting.release();
        if (one <= 360 days) assert(OWNER.balance == 0);
        vm.warp(uint256(LAUNCH) + one + two);
        vesting.release();
        assert(OWNER.balance == vesting.released());
        assert(OWNER.balance + address(vesting).balance == amount);
        if (uint256(one) + two >= 1_440 days) assert(OWNER.balance == amount);
    }

    function check_AnAirdropPaysEachAccountOnceAndReturnsTheRest(
        uint96 held,
        uint256 amount,
        uint32 wait,
        bytes32 root
    ) public {
        vm.warp(LAUNCH);
        vm.deal(address(this), held);
        CommunityDistributor distributor =
            new CommunityDistributor{value: held}(root, LAUNCH + 30 days, address(0x7EA5));
        bytes32[] memory proof = new bytes32[](0);
        distributor.claim(OWNER, amount, proof);
        assert(OWNER.balance == amount && amount <= held);
        (bool again,) = address(distributor).call(abi.encodeCall(distributor.claim, (OWNER, amount, proof)));
        assert(!again);
        vm.warp(LAUNCH + uint256(wait));
        uint256 returned = distributor.returnRemainder();
        assert(wait > 30 days);
        assert(returned == held - amount && address(distributor).balance == 0);
    }
}
