// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {BatchTree} from "../src/libraries/BatchTree.sol";
import {StakeTree} from "../src/libraries/StakeTree.sol";
import {Bitmaps} from "../src/libraries/Bitmaps.sol";
import {Sample} from "../src/libraries/Sample.sol";
import {VerdictTally} from "../src/libraries/VerdictTally.sol";
import {Test} from "./utils/Test.sol";

contract BatchTreeTest is Test {
    function root(bytes calldata leaves) external pure returns (bytes32) {
        return BatchTree.root(leaves);
    }

    function verify(bytes32[] calldata proof, bytes24 leaf, uint256 index, uint256 count, bytes32 expected)
        external
        pure
        returns (bool)
    {
        return BatchTree.verify(proof, leaf, index, count, expected);
    }

    function testFuzz_TheRootIsThatOfTheArrayLayoutAndEveryLeafProvesIt(uint256 size, bytes32 seed)
        public
        view
    {
        bytes32[] memory leaves = _leaves(bound(size, 1, 65), seed);
        bytes32[] memory tree = _tree(leaves);
        vm.assertEq(this.root(_packed(leaves)), tree[0], "root");
        for (uint256 i; i < leaves.length; ++i) {
            bytes32[] memory proof = _proof(tree, 2 * leaves.length - 2 - i);
            vm.assertTrue(this.verify(proof, bytes24(leaves[i]), i, leaves.length, tree[0]), "proof holds");
            vm.assertTrue(
                !this.verify(proof, bytes24(keccak256("other")), i, leaves.length, tree[0]),
                "for its leaf only"
            );
            vm.assertTrue(
                !this.verify(proof, bytes24(leaves[i]), leaves.length, leaves.length, tree[0]),
                "inside the batch"
            );
        }
    }

    function test_AProofOfAnInnerNodeIsTooShortForAFullTree() public view {
        bytes32[] memory leaves = _leaves(8, "seed");
        bytes32[] memory tree = _tree(leaves);
        for (uint256 node = 1; node < 7; ++node) {
            for (uint256 index; index < 8; ++index) {
                vm.assertTrue(
                    !this.verify(_proof(tree, node), bytes24(tree[node]), index, 8, tree[0]),
                    "an inner node is no leaf"
                );
            }
        }
    }

    function _leaves(uint256 size, bytes32 seed) private pure returns (bytes32[] memory leaves) {
        leaves = new bytes32[](size);
        for (uint256 i; i < size; ++i) {
            leaves[i] = bytes24(keccak256(abi.encode(seed, i)));
        }
    }

    function _packed(bytes32[] memory leaves) private pure returns (bytes memory packed) {
        for (uint256 i; i < leaves.length; ++i) {
            packed = bytes.concat(packed, bytes24(leaves[i]));
        }
    }

    /// @dev The layout by its definition.
    function _tree(bytes32[] memory leaves) private pure returns (bytes32[] memory tree) {
        uint256 n = leaves.length;
        tree = new bytes32[](2 * n - 1);
        for (uint256 i; i < n; ++i) {
            tree[2 * n - 2 - i] = leaves[i];
        }
        for (uint256 i = n - 1; i > 0; --i) {
            (bytes32 a, bytes32 b) = (tree[2 * i - 1], tree[2 * i]);
            tree[i - 1] = a < b ? keccak256(abi.encode(a, b)) : keccak256(abi.encode(b, a));
        }
    }

    function _proof(bytes32[] memory tree, uint256 node) private pure returns (bytes32[] memory proof) {
        uint256 depth;
        for (uint256 up = node; up > 0; up = (up - 1) / 2) {
            ++depth;
        }
        proof = new bytes32[](depth);
        for (uint256 i; node > 0; node = (node - 1) / 2) {
            proof[i++] = tree[node % 2 == 1 ? node + 1 : node - 1];
        }
    }
}

contract VerdictTallyTest is Test {
    using VerdictTally for uint256[];

    uint256[] private _counters;

    function check(bytes calldata verdict, uint256 records) external pure {
        VerdictTally.check(verdict, records);
    }

    function add(bytes calldata verdict) external {
        _counters.add(verdict);
    }

    function testFuzz_TheMajorityIsThatOfCountingEachRecord(uint256 records, uint256 votes, bytes32 seed)
        public
    {
        records = bound(records, 1, 600);
        votes = bound(votes, 1, 15);
        uint256 length = (records + 7) / 8;
        uint256[] memory yes = new uint256[](records);
        for (uint256 vote; vote < votes; ++vote) {
            bytes memory verdict = new bytes(length);
            for (uint256 i; i < records; ++i) {
                if (uint256(keccak256(abi.encode(seed, vote, i))) % 2 == 0) continue;
                verdict[i / 8] |= bytes1(uint8(1 << (i % 8)));
                ++yes[i];
            }
            this.check(verdict, records);
            this.add(verdict);
        }
        (bytes memory accepted, uint256 count) = _counters.majority(votes, length);
        vm.assertEq(accepted.length, length, "length");
        uint256 expected;
        uint256 split;
        for (uint256 i; i < records; ++i) {
            if (yes[i] != 0 && yes[i] != votes) ++split;
            bool accepts = uint8(accepted[i / 8]) & (1 << (i % 8)) != 0;
            vm.assertTrue(
                accepts == (2 * yes[i] > votes), "more than half of the votes accept, a tie rejects"
            );
            if (accepts) ++expected;
        }
        vm.assertEq(count, expected, "count");
        vm.assertEq(_counters.contested(votes), split, "neither all nor none");
    }

    function test_FullWordsAreCounted() public {
        bytes memory verdict = new bytes(64);
        for (uint256 i; i < 64; ++i) {
            verdict[i] = 0xff;
        }
        this.add(verdict);
        (, uint256 count) = _counters.majority(1, 64);
        vm.assertEq(count, 512, "all records");
    }

    function test_AVerdictOfAnotherLengthOrWithABitBeyondTheLastRecordIsRefused() public {
        this.check(hex"ff01", 9);
        for (uint256 i; i < 3; ++i) {
            bytes memory bad = i == 0 ? bytes(hex"ff") : i == 1 ? bytes(hex"ff0100") : bytes(hex"ff02");
            vm.expectRevert(abi.encodeWithSelector(VerdictTally.MalformedVerdict.selector, bad.length, 9));
            this.check(bad, 9);
        }
    }
}

contract StakeTreeTest is Test {
    using StakeTree for StakeTree.Tree;

    StakeTree.Tree private _tree;
    mapping(uint256 blockNumber => mapping(address account => uint256)) private _model;
    mapping(uint256 blockNumber => uint256) private _total;

    function testFuzz_EveryPastBlockKeepsItsWeights(uint256 seed) public {
        vm.roll(1);
        for (uint256 step; step < 40; ++step) {
            address account = _account(uint256(keccak256(abi.encode(seed, step, "a"))) % 12);
            uint256 weight = uint256(keccak256(abi.encode(seed, step, "w"))) % 5;
            _tree.set(account, uint208(weight));
            _total[block.number] = _total[block.number] - _model[block.number][account] + weight;
            _model[block.number][account] = weight;
            if (step % 3 != 0) continue;
            for (uint256 i; i < 12; ++i) {
                _model[block.number + 1][_account(i)] = _model[block.number][_account(i)];
            }
            _total[block.number + 1] = _total[block.number];
            vm.roll(block.number + 1);
        }
        for (uint256 number = 1; number < block.number; ++number) {
            vm.assertEq(_tree.totalAt(uint48(number)), _total[number], "total");
            address[] memory all = _tree.draw(bytes32(seed), 12, uint48(number), new address[](0));
            uint256 holders;
            for (uint256 i; i < 12; ++i) {
                uint256 weight = _model[number][_account(i)];
                vm.assertEq(_tree.weightAt(_account(i), uint48(number)), weight, "weight");
                if (weight > 0) ++holders;
                vm.assertTrue(
                    _isIn(all, _account(i)) == (weight > 0),
                    "all with weight are drawn in the end, others never"
                );
            }
            vm.assertEq(all.length, holders, "each once");
        }
    }

    function test_ADrawOfAPastBlockIsNotMovedByLaterStakes() public {
        vm.roll(1);
        for (uint256 i; i < 9; ++i) {
            _tree.set(_account(i), uint208(10 + i));
        }
        vm.roll(2);
        address[] memory before = _tree.draw("seed", 3, 1, new address[](0));
        _tree.set(_account(20), 1_000_000);
        _tree.set(_account(0), 0);
        vm.roll(3);
        address[] memory afterwards = _tree.draw("seed", 3, 1, new address[](0));
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(before[i], afterwards[i], "same juror");
        }
    }

    function test_TheChanceOfBeingDrawnIsTheShareOfTheWeight() public {
        vm.roll(1);
        uint208[4] memory weights = [uint208(10), 0, 30, 60];
        for (uint256 i; i < 4; ++i) {
            _tree.set(_account(i), weights[i]);
        }
        vm.roll(2);
        uint256[4] memory hits;
        for (uint256 i; i < 2_000; ++i) {
            address drawn = _tree.draw(keccak256(abi.encode(i)), 1, 1, new address[](0))[0];
            for (uint256 j; j < 4; ++j) {
                if (drawn == _account(j)) ++hits[j];
            }
        }
        vm.assertEq(hits[1], 0, "no weight, no chance");
        for (uint256 j; j < 4; ++j) {
            uint256 expected = weights[j] * 20;
            vm.assertGe(hits[j] + 80, expected, "not too rarely");
            vm.assertLe(hits[j], expected + 80, "not too often");
        }
    }

    function test_TheExcludedAreLeftOutWhateverTheirWeight() public {
        vm.roll(1);
        for (uint256 i; i < 6; ++i) {
            _tree.set(_account(i), i == 2 ? 1e24 : 1);
        }
        vm.roll(2);
        address[] memory excluded = new address[](3);
        (excluded[0], excluded[1], excluded[2]) = (_account(2), _account(2), _account(99));
        for (uint256 i; i < 50; ++i) {
            address[] memory drawn = _tree.draw(bytes32(i), 6, 1, excluded);
            vm.assertEq(drawn.length, 5, "the others");
            vm.assertTrue(!_isIn(drawn, _account(2)), "not the excluded");
        }
    }

    function _account(uint256 i) private pure returns (address) {
        return address(uint160(1_000 + i));
    }

    function _isIn(address[] memory list, address account) private pure returns (bool) {
        for (uint256 i; i < list.length; ++i) {
            if (list[i] == account) return true;
        }
        return false;
    }
}

contract BitmapsTest is Test {
    using Bitmaps for bytes;

    function testFuzz_SetsAreCombinedRecordByRecord(bytes memory one, uint256 seed) public pure {
        bytes memory other = new bytes(one.length);
        for (uint256 i; i < one.length; ++i) {
            other[i] = keccak256(abi.encode(seed, i))[0];
        }
        (bytes memory and, bytes memory or, bytes memory xor) =
            (one.both(other), one.either(other), one.differing(other));
        uint256 count;
        for (uint256 i; i < one.length * 8; ++i) {
            (bool a, bool b) = (one.has(i), other.has(i));
            vm.assertTrue(and.has(i) == (a && b), "both");
            vm.assertTrue(or.has(i) == (a || b), "either");
            vm.assertTrue(xor.has(i) == (a != b), "differing");
            if (a) ++count;
        }
        vm.assertEq(one.count(), count, "count");
        vm.assertTrue(!one.has(one.length * 8), "nothing beyond the end");
    }
}

contract SampleTest is Test {
    function testFuzz_ASampleIsDistinctNumbersBelowTheCount(bytes32 seed, uint256 count, uint256 size)
        public
        pure
    {
        count = bound(count, 0, 200);
        size = bound(size, 0, 32);
        uint256[] memory numbers = Sample.draw(seed, count, size);
        vm.assertEq(numbers.length, size < count ? size : count, "as many as there are");
        for (uint256 i; i < numbers.length; ++i) {
            vm.assertTrue(numbers[i] < count, "below the count");
            for (uint256 j; j < i; ++j) {
                vm.assertTrue(numbers[j] != numbers[i], "distinct");
            }
        }
    }

    function test_EveryNumberIsSampledAboutEquallyOften() public pure {
        uint256[10] memory seen;
        for (uint256 i; i < 1_000; ++i) {
            uint256[] memory numbers = Sample.draw(keccak256(abi.encode(i)), 10, 3);
            for (uint256 j; j < 3; ++j) {
                ++seen[numbers[j]];
            }
        }
        for (uint256 i; i < 10; ++i) {
            vm.assertTrue(seen[i] > 240 && seen[i] < 360, "300 expected, four deviations allowed");
        }
    }
}
