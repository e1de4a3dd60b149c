// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Hashes of the last 8,191 blocks
/// @notice Asks the history contract of EIP-2935 first and the BLOCKHASH opcode where that contract does not know. Both
/// know the same hashes; the contract keeps them in state, so that they survive a restart of a development chain from a
/// snapshot.
library BlockHashes {
    address internal constant HISTORY = 0x0000F90827F1C53a10cb7A02335B175320002935;

    /// @notice Hash of block `blockNumber`, or 0 if it is not over or too long ago.
    function hashOf(uint256 blockNumber) internal view returns (bytes32 hash) {
        assembly ("memory-safe") {
            mstore(0x00, blockNumber)
            mstore(0x20, 0)
            pop(staticcall(gas(), HISTORY, 0x00, 0x20, 0x20, 0x20))
            hash := mload(0x20)
        }
        if (hash == 0) hash = blockhash(blockNumber);
    }
}
