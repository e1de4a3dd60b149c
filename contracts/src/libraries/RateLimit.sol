// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title A bucket that is emptied by amounts and refilled evenly by time
/// @dev In the worst case twice the capacity passes within one window: a full bucket, and what flows in meanwhile.
library RateLimit {
    struct Bucket {
        uint128 capacity;
        uint128 left;
        uint64 window;
        uint64 time;
    }

    /// @notice Gives the bucket a new size, full at first only if it was never set.
    function configure(Bucket storage bucket, uint128 capacity, uint64 window) internal {
        uint256 now_ = bucket.window == 0 ? capacity : available(bucket);
        bucket.left = uint128(now_ < capacity ? now_ : capacity);
        bucket.capacity = capacity;
        bucket.window = window;
        bucket.time = uint64(block.timestamp);
    }

    /// @notice What the bucket holds now.
    function available(Bucket storage bucket) internal view returns (uint256) {
        uint256 capacity = bucket.capacity;
        uint256 refilled = bucket.left + capacity * (block.timestamp - bucket.time) / bucket.window;
        return refilled < capacity ? refilled : capacity;
    }

    /// @notice Takes `amount` out, if it is there.
    function take(Bucket storage bucket, uint256 amount) internal returns (bool taken, uint256 before) {
        before = available(bucket);
        if (amount > before) return (false, before);
        bucket.left = uint128(before - amount);
        bucket.time = uint64(block.timestamp);
        return (true, before);
    }
}
