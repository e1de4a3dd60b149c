// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Bitmaps} from "./Bitmaps.sol";

/// @title Counts many yes/no votes at once
/// @notice A verdict is a bitmap over records: bit `i % 8` (least significant first) of byte `i / 8` is 1 to accept
/// record `i`. Verdicts are added into vertical counters: lane `p` of a word holds bit `p` of 256 counters, so that
/// one addition counts 256 records.
library VerdictTally {
    /// @dev Lanes for up to 15 verdicts on a record.
    uint256 internal constant LANES = 4;

    /// @notice A verdict of `length` bytes was given for `records` records, or a bit beyond the last record is set.
    error MalformedVerdict(uint256 length, uint256 records);

    /// @notice Reverts unless `verdict` is a bitmap over exactly `records` records.
    function check(bytes calldata verdict, uint256 records) internal pure {
        uint256 length = (records + 7) / 8;
        bool sound = verdict.length == length;
        if (sound && records % 8 != 0) sound = uint8(verdict[length - 1]) >> (records % 8) == 0;
        require(sound, MalformedVerdict(verdict.length, records));
    }

    /// @notice Adds `verdict` to `counters`, which must be empty or have taken verdicts of the same length only.
    function add(uint256[] storage counters, bytes calldata verdict) internal {
        uint256 words = (verdict.length + 31) / 32;
        while (counters.length < words * LANES) counters.push();
        for (uint256 word; word < words; ++word) {
            uint256 end = (word + 1) * 32;
            uint256 carry = uint256(bytes32(verdict[word * 32:end < verdict.length ? end : verdict.length]));
            for (uint256 lane = word * LANES; carry != 0; ++lane) {
                uint256 before = counters[lane];
                counters[lane] = before ^ carry;
                carry &= before;
            }
        }
    }

    /// @notice Bitmap of the records that more than half of `votes` verdicts accepted, and how many they are.
    /// @param length Bytes of a verdict.
    function majority(uint256[] storage counters, uint256 votes, uint256 length)
        internal
        view
        returns (bytes memory accepted, uint256 count)
    {
        uint256 threshold = votes / 2;
        uint256 words = (length + 31) / 32;
        accepted = new bytes(words * 32);
        for (uint256 word; word < words; ++word) {
            uint256 greater;
            uint256 equal = type(uint256).max;
            for (uint256 lane = LANES; lane > 0; --lane) {
                uint256 bits = counters[word * LANES + lane - 1];
                if ((threshold >> (lane - 1)) & 1 == 0) {
                    greater |= equal & bits;
                    equal &= ~bits;
                } else {
                    equal &= bits;
                }
            }
            count += Bitmaps.ones(greater);
            assembly ("memory-safe") {
                mstore(add(accepted, mul(add(word, 1), 0x20)), greater)
            }
        }
        assembly ("memory-safe") {
            mstore(accepted, length)
        }
    }

    /// @notice How many records neither all nor none of `votes` verdicts accepted.
    function contested(uint256[] storage counters, uint256 votes) internal view returns (uint256 count) {
        uint256 words = counters.length / LANES;
        for (uint256 word; word < words; ++word) {
            uint256 some;
            uint256 all = type(uint256).max;
            for (uint256 lane; lane < LANES; ++lane) {
                uint256 bits = counters[word * LANES + lane];
                some |= bits;
                all &= (votes >> lane) & 1 == 0 ? ~bits : bits;
            }
            count += Bitmaps.ones(some & ~all);
        }
    }
}
