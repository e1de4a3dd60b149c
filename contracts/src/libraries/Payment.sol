// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Native transfers that cannot be held up by their receiver
library Payment {
    /// @dev Gas handed to the receiver: enough for a wallet contract, too little to exhaust the caller.
    uint256 internal constant STIPEND = 60_000;

    /// @notice Too little gas is left to hand the receiver its stipend.
    error TooLittleGas(uint256 left);

    /// @notice Tries to send `amount` wei to `to`; copies no return data.
    /// @dev The gas check keeps a caller from making an honest receiver fail by sending too little gas (EIP-150
    /// passes on at most 63/64). A caller must book `amount` as owed when `sent` is false.
    /// @return sent Whether the receiver took the payment.
    function push(address to, uint256 amount) internal returns (bool sent) {
        require(gasleft() > STIPEND + STIPEND / 4, TooLittleGas(gasleft()));
        assembly ("memory-safe") {
            sent := call(STIPEND, to, amount, 0, 0, 0, 0)
        }
    }
}
