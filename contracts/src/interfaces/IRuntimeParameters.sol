// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The numbers that governance may change while the network runs
/// @notice Every parameter has bounds that even governance cannot leave, and rules that tie parameters together.
interface IRuntimeParameters {
    /// @dev What a parameter counts: things, parts per million, wei, seconds, or off (0) and on (1).
    enum Unit {
        Count,
        Ppm,
        Wei,
        Seconds,
        Switch
    }

    /// @notice `key` changed from `before` to `afterwards`.
    event ParameterSet(bytes32 indexed key, uint256 before, uint256 afterwards);

    /// @notice No parameter has the name `key`.
    error UnknownParameter(bytes32 key);
    /// @notice `value` lies outside [`minimum`, `maximum`] of `key`.
    error ParameterOutOfBounds(bytes32 key, uint256 value, uint256 minimum, uint256 maximum);
    /// @notice The five fee shares would add up to `sum` ppm, more than the whole fee.
    error FeeSharesExceedWhole(uint256 sum);
    /// @notice Stake could leave after `unbonding` seconds, before it can be held to account (`needed` seconds).
    error UnbondingTooShort(uint256 unbonding, uint256 needed);
    /// @notice An appeal of `appeal` jurors would not outnumber a first round of up to `first`.
    error AppealNotLarger(uint256 appeal, uint256 first);
    /// @notice A reviewer needs a stake of `minimum`, of which only `cap` would count.
    error CapBelowMinimum(uint256 cap, uint256 minimum);
    /// @notice The parts of what a dispute's loser loses add up to `sum` ppm, more than a whole.
    error DisputeSharesExceedWhole(uint256 sum);
    /// @notice `keys` names and `values` values were given.
    error LengthMismatch(uint256 keys, uint256 values);

    /// @notice Value of `key`; reverts for an unknown name.
    /// @custom:misuse May change between two blocks: keep the value with what it decided if it matters later.
    function get(bytes32 key) external view returns (uint256 value);

    /// @notice Changes `key` to `value`. Restricted to governance.
    /// @custom:misuse A change counts for what happens after it, at once: one that breaks a tie between parameters is
    /// refused, so mind the order.
    function set(bytes32 key, uint256 value) external;

    /// @notice Least and greatest value that `key` may take.
    /// @custom:misuse Ties between parameters may allow less than the bounds say.
    function bounds(bytes32 key) external view returns (uint256 minimum, uint256 maximum);

    /// @notice What the value of `key` counts.
    /// @custom:misuse A value means nothing without it; do not guess the unit from the size of a number.
    function unitOf(bytes32 key) external view returns (Unit);

    /// @notice All names.
    /// @custom:misuse For reading from outside: its cost grows with the number of parameters.
    function keys() external view returns (bytes32[] memory);

    /// @notice The fee shares in ppm (data, builder, host, curators, validators) and the part of the data share that
    /// is paid by influence, in one read.
    /// @custom:misuse The split of now. A batch is paid by the split of its posting, which the ledger keeps.
    function feeSplit() external view returns (uint32[5] memory split, uint32 influencePpm);
}
