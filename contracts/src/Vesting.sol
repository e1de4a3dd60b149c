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
    /// @custom:misuse Counts from the launch, not from the deployment.
    function cliff() external view returns (uint256) {
        return start() - launch;
    }

    /// @notice Always fails: a wallet without an owner would pay nobody.
    /// @dev Without an owner the vested OPEN would be paid to nobody.
    /// @custom:misuse To stop owning it, transfer it.
    function renounceOwnership() public pure override {
        revert CannotRenounce();
    }
}
