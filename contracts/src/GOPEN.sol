// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {ERC20Votes} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Votes.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {Nonces} from "@openzeppelin/contracts/utils/Nonces.sol";

/// @title Governance OPEN: native OPEN, wrapped 1:1, with votes
/// @notice Votes count only once they are delegated, to oneself or to another (ERC-5805). The clock is the block's
/// timestamp. The contract holds at least as much OPEN as there are tokens; native OPEN forced into it stays there.
contract GOPEN is ERC20, ERC20Permit, ERC20Votes {
    event Wrapped(address indexed account, uint256 amount);
    event Unwrapped(address indexed account, uint256 amount);

    constructor() ERC20("Governance OPEN", "gOPEN") ERC20Permit("Governance OPEN") {}

    /// @notice Wraps what is sent.
    receive() external payable {
        deposit();
    }

    /// @notice Burns `amount` of the caller's tokens and returns as much native OPEN.
    /// @custom:misuse Votes of the burned tokens are gone at once, also for proposals that open later; a contract that
    /// refuses OPEN cannot unwrap.
    function withdraw(uint256 amount) external {
        _burn(msg.sender, amount);
        emit Unwrapped(msg.sender, amount);
        Address.sendValue(payable(msg.sender), amount);
    }

    /// @notice Wraps the value sent into as many tokens for the caller.
    /// @custom:misuse Tokens have no votes until they are delegated, be it to oneself.
    function deposit() public payable {
        _mint(msg.sender, msg.value);
        emit Wrapped(msg.sender, msg.value);
    }

    /// @notice Present time as votes count it, in seconds.
    /// @custom:misuse Not a block number: proposals and past votes are asked for by timestamp.
    function clock() public view override returns (uint48) {
        return uint48(block.timestamp);
    }

    // solhint-disable-next-line func-name-mixedcase
    /// @notice Kind of clock (ERC-6372).
    /// @custom:misuse Tools that assume block numbers misread every time of this token.
    function CLOCK_MODE() public pure override returns (string memory) {
        return "mode=timestamp";
    }

    /// @notice Nonce of the owner's next permit or delegation by signature.
    /// @custom:misuse Both kinds of signature share it: using one voids the other.
    function nonces(address owner) public view override(ERC20Permit, Nonces) returns (uint256) {
        return super.nonces(owner);
    }

    function _update(address from, address to, uint256 value) internal override(ERC20, ERC20Votes) {
        super._update(from, to, value);
    }
}
