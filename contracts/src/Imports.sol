// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

// Compiled as they are, so that their artifacts ship with ours.
import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
