// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Burnable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Burnable.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title OPEN on L1
/// @notice The whole supply of 1,000,000,000 is made once, at deployment. There is no owner and nothing mints; holders can
/// burn their own and sign approvals (ERC-2612). On the L2 it is the native asset, see {OpenLockbox}.
contract OPEN is ERC20, ERC20Burnable, ERC20Permit {
    /// @notice The whole supply, in wei.
    uint256 public constant SUPPLY = 1_000_000_000 ether;

    /// @param holder Receives the whole supply.
    constructor(address holder) ERC20("OpenLedger", "OPEN") ERC20Permit("OpenLedger") {
        _mint(holder, SUPPLY);
    }
}
