// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Consumers' deposits and the vouchers that draw on them
/// @notice A voucher is the consumer's signature under a growing total for one host. Whoever redeems it moves the
/// increase since the last redemption to the rewards distributor. Money leaves a deposit only by such a signature or by
/// the consumer's own withdrawal, which waits long enough for hosts to redeem what they have served.
/// @dev A deposit is not split among hosts: a host that serves without redeeming bears the risk that others redeem first.
interface IFeeEscrow {
    /// @dev Signed as EIP-712 by the consumer or one of its session keys.
    struct Voucher {
        address consumer;
        address host;
        uint128 cumulative;
    }

    /// @dev `cap` bounds what may ever be redeemed by the key's signature, `spent` counts it, both in wei. The key is
    /// valid through the second `expiry`.
    struct SessionKey {
        uint128 cap;
        uint128 spent;
        uint64 expiry;
    }

    event Deposited(address indexed consumer, address indexed payer, uint256 amount, uint256 deposit);
    event SessionKeySet(address indexed consumer, address indexed key, uint128 cap, uint64 expiry);
    event SessionKeyRevoked(address indexed consumer, address indexed key, uint64 expiry);
    event VoucherRedeemed(
        address indexed consumer,
        address indexed host,
        address indexed signer,
        uint256 amount,
        uint256 cumulative
    );
    event WithdrawalRequested(address indexed consumer, uint256 amount, uint256 releaseTime);
    event Withdrawn(address indexed consumer, uint256 amount);

    error AmountIsZero();
    error ZeroAddress();
    error ExpiryInPast(uint64 expiry);
    /// @notice A key's cap and expiry can be raised, not lowered: hosts rely on them. Revoke the key instead.
    error SessionKeyCannotShrink(uint128 cap, uint64 expiry);
    error UnknownSessionKey(address consumer, address key);
    /// @notice The voucher's total is not above what was redeemed before.
    error VoucherNotHigher(uint128 cumulative, uint128 redeemed);
    /// @notice `signer` is neither the consumer nor one of its session keys.
    error VoucherSignerNotAuthorised(address consumer, address signer);
    error SessionKeyExpired(address key, uint64 expiry);
    error SessionKeyCapExceeded(address key, uint256 wanted, uint256 left);
    error InsufficientDeposit(uint256 wanted, uint256 available);
    error NoWithdrawalRequested(address consumer);
    error WithdrawalNotReady(uint256 releaseTime);

    /// @notice Adds the value sent to the deposit of `consumer`. Anyone may pay.
    /// @custom:misuse A mistyped consumer's deposit is that account's: only it can ask it back.
    function deposit(address consumer) external payable;

    /// @notice Lets `key` sign the caller's vouchers up to `cap` wei in all and until `expiry`.
    /// @custom:misuse Whoever gets the key can spend all of the cap with any host: keep cap and expiry as small as the
    /// use.
    function setSessionKey(address key, uint128 cap, uint64 expiry) external;

    /// @notice Ends a key `withdrawal.delay` seconds from now, or at its expiry if that is sooner.
    /// @custom:misuse Does not end the key at once: until the delay is over its vouchers are still good.
    function revokeSessionKey(address key) external;

    /// @notice Moves what a voucher adds to the distributor. Anyone may call it.
    /// @return amount The increase in wei.
    /// @custom:misuse A host that waits takes the risk that the deposit is spent or withdrawn meanwhile; redeem early
    /// and often.
    function redeem(Voucher calldata voucher, bytes calldata signature) external returns (uint256 amount);

    /// @notice Asks for `amount` of the caller's deposit back, after `withdrawal.delay` seconds. A new request replaces
    /// the old one.
    /// @custom:misuse A second request replaces the first and starts the delay anew, for its own amount alone.
    function requestWithdrawal(uint256 amount) external;

    /// @notice Pays the requested amount, or what is left of the deposit if that is less.
    /// @custom:misuse What hosts redeemed in the meantime is gone: less than was asked for may be paid.
    function withdraw() external returns (uint256 amount);

    /// @notice What `consumer` has deposited and not spent or withdrawn, in wei.
    /// @custom:misuse No promise to one host: every host that serves this consumer draws on the same deposit.
    function depositOf(address consumer) external view returns (uint256);
    /// @notice Total redeemed so far for a consumer and a host.
    /// @custom:misuse Vouchers are cumulative: sign a total above this, not the price of one answer.
    function redeemed(address consumer, address host) external view returns (uint128);
    /// @notice Cap, spending and expiry of one of a consumer's keys; all 0 if it is none.
    /// @custom:misuse A key with money left may be expired: compare `expiry` with the time.
    function sessionKey(address consumer, address key) external view returns (SessionKey memory);
    /// @notice Amount that was asked back and when it can be withdrawn; 0 if none.
    /// @custom:misuse The deposit may be smaller by then; the lesser of both is paid.
    function pendingWithdrawal(address consumer) external view returns (uint256 amount, uint256 releaseTime);
    /// @notice EIP-712 digest that the consumer or its session key signs.
    /// @custom:misuse Signing it for a wrong host or total pays that host: show both to whoever signs.
    function voucherDigest(Voucher calldata voucher) external view returns (bytes32);
}
