// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title What OpenLedger uses of the OP Stack's LiquidityController (custom gas token v2)
/// @notice The predeploy at 0x420000000000000000000000000000000000002A. Its owner authorises minters; it pays out of, and
/// takes back into, the NativeAssetLiquidity predeploy.
interface ILiquidityController {
    /// @notice Pays `amount` wei of the native asset to `to`, without calling it. Only for authorised minters.
    function mint(address to, uint256 amount) external;

    /// @notice Takes the value sent out of circulation. Only for authorised minters.
    function burn() external payable;
}
