// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IRuntimeParameters} from "./interfaces/IRuntimeParameters.sol";
import {ParameterKeys as Keys} from "./libraries/ParameterKeys.sol";

/// @title Runtime parameters of OpenLedger
/// @notice See {IRuntimeParameters}.
contract RuntimeParameters is IRuntimeParameters, AccessManaged {
    struct Parameter {
        uint256 value;
        uint128 minimum;
        uint128 maximum;
        Unit unit;
    }

    uint256 private constant PPM = 1_000_000;

    mapping(bytes32 key => Parameter) private _parameters;
    bytes32[] private _keys;

    /// @dev Six 32-bit lanes: the five fee shares, then the influence part. A copy of the values above, kept so that
    /// posting a batch reads one slot.
    uint256 private _packedSplit;

    /// @param authority AccessManager that decides who may call `set`.
    /// @param names Parameters whose first value differs from the default.
    /// @param values The first values of `names`, inside their bounds.
    constructor(address authority, bytes32[] memory names, uint256[] memory values) AccessManaged(authority) {
        require(names.length == values.length, LengthMismatch(names.length, values.length));

        _define(Keys.FEE_DATA, Unit.Ppm, 600_000, 0, PPM);
        _define(Keys.FEE_BUILDER, Unit.Ppm, 150_000, 0, PPM);
        _define(Keys.FEE_HOST, Unit.Ppm, 120_000, 0, PPM);
        _define(Keys.FEE_CURATORS, Unit.Ppm, 50_000, 0, PPM);
        _define(Keys.FEE_VALIDATORS, Unit.Ppm, 50_000, 0, PPM);
        _define(Keys.ATTRIBUTION_INFLUENCE, Unit.Ppm, 500_000, 0, PPM);
        _define(Keys.BOND_RECORD, Unit.Wei, 0.05 ether, 0, 100 ether);
        _define(Keys.BOND_CHALLENGE, Unit.Wei, 0.1 ether, 0.001 ether, 1_000 ether);
        _define(Keys.REVIEW_JURY, Unit.Count, 3, 1, 9);
        _define(Keys.REVIEW_EXTRA, Unit.Count, 2, 0, 4);
        _define(Keys.REVIEW_APPEAL, Unit.Count, 7, 3, 15);
        _define(Keys.REVIEW_COMMIT, Unit.Seconds, 1 hours, 1 minutes, 3 days);
        _define(Keys.REVIEW_REVEAL, Unit.Seconds, 1 hours, 1 minutes, 3 days);
        _define(Keys.REVIEW_NOREVEAL, Unit.Wei, 1 ether, 0, 1_000 ether);
        _define(Keys.REVIEW_CHALLENGE, Unit.Seconds, 1 days, 1 minutes, 14 days);
        _define(Keys.REVIEW_LAPSE, Unit.Seconds, 7 days, 1 hours, 30 days);
        _define(Keys.STAKE_REVIEWER, Unit.Wei, 1_000 ether, 1 ether, 1_000_000 ether);
        _define(Keys.STAKE_REVIEWER_CAP, Unit.Wei, 10_000 ether, 1 ether, 1_000_000_000 ether);
        _define(Keys.STAKE_VALIDATOR, Unit.Wei, 5_000 ether, 1 ether, 1_000_000 ether);
        _define(Keys.STAKE_HOST, Unit.Wei, 1_000 ether, 1 ether, 1_000_000 ether);
        _define(Keys.STAKE_UNBONDING, Unit.Seconds, 7 days, 1 days, 90 days);
        _define(Keys.PAYOUT_DELAY, Unit.Seconds, 1 hours, 1 minutes, 30 days);
        _define(Keys.WITHDRAWAL_DELAY, Unit.Seconds, 1 hours, 1 minutes, 30 days);
        _define(Keys.MODEL_APPROVAL, Unit.Switch, 0, 0, 1);
        _define(Keys.MODEL_LINEAGE, Unit.Ppm, 300_000, 0, 500_000);
        _define(Keys.DATANET_OWNER, Unit.Ppm, 300_000, 0, PPM);
        _define(Keys.SLASH_CAP, Unit.Ppm, 500_000, 0, PPM);
        _define(Keys.SLASH_ROUND, Unit.Seconds, 1 days, 1 minutes, 30 days);
        _define(Keys.VALIDATOR_DRAW, Unit.Count, 7, 1, 31);
        _define(Keys.VALIDATOR_SAMPLE, Unit.Count, 4, 1, 32);
        _define(Keys.DISPUTE_BOND, Unit.Wei, 100 ether, 1 ether, 100_000 ether);
        _define(Keys.DISPUTE_WINDOW, Unit.Seconds, 3 days, 1 minutes, 30 days);
        _define(Keys.DISPUTE_ANSWER, Unit.Seconds, 1 hours, 1 minutes, 7 days);
        _define(Keys.DISPUTE_COMMIT, Unit.Seconds, 1 hours, 1 minutes, 7 days);
        _define(Keys.DISPUTE_REVEAL, Unit.Seconds, 1 hours, 1 minutes, 7 days);
        _define(Keys.DISPUTE_JURY, Unit.Count, 5, 1, 15);
        _define(Keys.DISPUTE_SLASH, Unit.Wei, 500 ether, 0, 1_000_000 ether);
        _define(Keys.DISPUTE_NOREVEAL, Unit.Wei, 5 ether, 0, 1_000 ether);
        _define(Keys.DISPUTE_REWARD, Unit.Ppm, 500_000, 0, PPM);
        _define(Keys.DISPUTE_JURORS, Unit.Ppm, 250_000, 0, PPM);

        for (uint256 i; i < names.length; ++i) {
            _write(names[i], values[i]);
        }
        _check();
    }

    /// @inheritdoc IRuntimeParameters
    function set(bytes32 key, uint256 value) external restricted {
        _write(key, value);
        _check();
    }

    /// @inheritdoc IRuntimeParameters
    function get(bytes32 key) external view returns (uint256 value) {
        return _known(key).value;
    }

    /// @inheritdoc IRuntimeParameters
    function bounds(bytes32 key) external view returns (uint256 minimum, uint256 maximum) {
        Parameter storage parameter = _known(key);
        return (parameter.minimum, parameter.maximum);
    }

    /// @inheritdoc IRuntimeParameters
    function unitOf(bytes32 key) external view returns (Unit) {
        return _known(key).unit;
    }

    /// @inheritdoc IRuntimeParameters
    function keys() external view returns (bytes32[] memory) {
        return _keys;
    }

    /// @inheritdoc IRuntimeParameters
    function feeSplit() external view returns (uint32[5] memory split, uint32 influencePpm) {
        uint256 packed = _packedSplit;
        for (uint256 i; i < 5; ++i) {
            split[i] = uint32(packed >> (32 * i));
        }
        influencePpm = uint32(packed >> 160);
    }

    function _define(bytes32 key, Unit unit, uint256 value, uint256 minimum, uint256 maximum) private {
        _parameters[key] = Parameter(value, uint128(minimum), uint128(maximum), unit);
        _keys.push(key);
        emit ParameterSet(key, 0, value);
    }

    function _write(bytes32 key, uint256 value) private {
        Parameter storage parameter = _known(key);
        (uint256 minimum, uint256 maximum) = (parameter.minimum, parameter.maximum);
        require(value >= minimum && value <= maximum, ParameterOutOfBounds(key, value, minimum, maximum));
        emit ParameterSet(key, parameter.value, value);
        parameter.value = value;
    }

    /// @dev Rules between parameters, and the packed copy that follows from them.
    function _check() private {
        uint256[6] memory shares = [
            _parameters[Keys.FEE_DATA].value,
            _parameters[Keys.FEE_BUILDER].value,
            _parameters[Keys.FEE_HOST].value,
            _parameters[Keys.FEE_CURATORS].value,
            _parameters[Keys.FEE_VALIDATORS].value,
            _parameters[Keys.ATTRIBUTION_INFLUENCE].value
        ];
        uint256 sum = shares[0] + shares[1] + shares[2] + shares[3] + shares[4];
        require(sum <= PPM, FeeSharesExceedWhole(sum));

        uint256 packed;
        for (uint256 i; i < 6; ++i) {
            packed |= shares[i] << (32 * i);
        }
        _packedSplit = packed;

        uint256 review = _parameters[Keys.REVIEW_COMMIT].value + _parameters[Keys.REVIEW_REVEAL].value;
        uint256 payout = _parameters[Keys.PAYOUT_DELAY].value;
        uint256 needed = review > payout ? review : payout;
        uint256 dispute = _parameters[Keys.DISPUTE_WINDOW].value + _parameters[Keys.DISPUTE_ANSWER].value
            + _parameters[Keys.DISPUTE_COMMIT].value + _parameters[Keys.DISPUTE_REVEAL].value;
        if (dispute > needed) needed = dispute;
        uint256 unbonding = _parameters[Keys.STAKE_UNBONDING].value;
        require(unbonding >= needed, UnbondingTooShort(unbonding, needed));

        uint256 first = _parameters[Keys.REVIEW_JURY].value + _parameters[Keys.REVIEW_EXTRA].value;
        uint256 appeal = _parameters[Keys.REVIEW_APPEAL].value;
        require(appeal > first, AppealNotLarger(appeal, first));

        uint256 minimum = _parameters[Keys.STAKE_REVIEWER].value;
        uint256 cap = _parameters[Keys.STAKE_REVIEWER_CAP].value;
        require(cap >= minimum, CapBelowMinimum(cap, minimum));

        uint256 routed = _parameters[Keys.DISPUTE_REWARD].value + _parameters[Keys.DISPUTE_JURORS].value;
        require(routed <= PPM, DisputeSharesExceedWhole(routed));
    }

    function _known(bytes32 key) private view returns (Parameter storage parameter) {
        parameter = _parameters[key];
        require(parameter.maximum != 0, UnknownParameter(key));
    }
}
