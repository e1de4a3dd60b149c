// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {VestingWallet} from "@openzeppelin/contracts/finance/VestingWallet.sol";

/// @title Vesting of one bucket of the supply
/// @notice Nothing vests before `launch + cliff`; from then on the whole amount vests linearly over `duration` seconds.
/// Anyone may call `release`, which pays the owner. The owner can hand the wallet on but not give it up.
contract Vesting is VestingWallet {
    error CannotRenounce();

    /// @notice Name of the bucket in the allocation.
    string public bucket;
    /// @notice Time of the token generation event.
    uint64 public immutable launch;

    constructor(string memory bucket_, address beneficiary, uint64 launch_, uint64 cliff_, uint64 linear)
        payable
        VestingWallet(beneficiary, launch_ + cliff_, linear)
    {
        bucket = bucket_;
        launch = launch_;
    }

    /// @notice Seconds between the launch and the first OPEN that vests.
    function cliff() external view returns (uint256) {
        return start() - launch;
    }

    /// @dev Without an owner the vested OPEN would be paid to nobody.
    function renounceOwnership() public pure override {
        revert CannotRenounce();
    }
}
