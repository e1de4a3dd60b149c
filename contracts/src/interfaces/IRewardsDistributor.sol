// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Payouts: collected fees against cumulative earnings
/// @notice A payout root commits to what each account has earned since the beginning. A settler proposes it, validators
/// who recomputed it attest, and it becomes active after `payout.delay` seconds or as soon as two thirds of the
/// validators' weight have attested. Claims are made against the active root.
/// @dev Leaves are keccak256(keccak256(abi.encode(account, cumulative))). Whatever a root says, no more than its `total` is
/// ever paid under it, and `total` is never above what was collected.
interface IRewardsDistributor {
    /// @dev `total` is the sum of all cumulative earnings in wei, `lastBatch` the last batch counted in, `dataHash` the hash
    /// of the published payout data. `activationTime` is when the root can be activated without attestations.
    struct Root {
        bytes32 root;
        bytes32 dataHash;
        uint256 total;
        uint256 lastBatch;
        uint64 proposedTime;
        uint64 activationTime;
        uint64 proposedBlock;
        bool disabled;
        uint256 attestedWeight;
        address proposer;
    }

    event FeesCollected(uint256 amount, uint256 totalCollected);
    event RootProposed(
        uint256 indexed rootId,
        bytes32 root,
        uint256 total,
        uint256 lastBatch,
        bytes32 dataHash,
        uint256 activationTime
    );
    event RootAttested(uint256 indexed rootId, address indexed validator, uint256 weight);
    event RootActivated(uint256 indexed rootId, bytes32 root, uint256 total);
    event RootDisabled(uint256 indexed rootId);
    event Claimed(address indexed account, address indexed to, uint256 amount, uint256 cumulative);
    /// @notice `claimer` may claim for `account`, and nobody else but its holder; anyone may again if it is 0.
    event ClaimerSet(address indexed account, address indexed claimer);
    /// @notice What `account` earned and will earn belongs to `successor` from now on.
    event WalletRotated(address indexed account, address indexed successor);
    /// @notice Links of `account` that were signed before and not used are worth nothing.
    event LinksCancelled(address indexed account, uint256 nonce);
    event RootsHeld(uint256 indexed holdId, uint256 fromRoot, uint256 throughRoot, uint256 batchId);
    event HoldReleased(uint256 indexed holdId);

    error NotEscrow(address account);
    error ZeroAddress();
    /// @notice `total` is not within [`least`, `most`]: the active root's total and claims, and what was collected.
    error TotalOutOfBounds(uint256 total, uint256 least, uint256 most);
    error LastBatchDecreases(uint256 lastBatch, uint256 active);
    error UnknownRoot(uint256 rootId);
    error RootIsDisabled(uint256 rootId);
    /// @notice A root activated after `rootId` was proposed, or `rootId` itself, is active.
    error RootSuperseded(uint256 rootId, uint256 activeRootId);
    error RootNotReady(uint256 rootId, uint256 activationTime);
    error ValidatorNotActive(address account);
    error AlreadyAttested(uint256 rootId, address validator);
    /// @notice A dispute keeps the root from activation.
    error RootIsHeld(uint256 rootId);
    /// @notice `sender` may not claim for `account`: it has a claimer, or the money was to go to another account.
    error NotClaimer(address sender, address account);
    /// @notice Only the wallet that holds the account now decides about it.
    error NotHolder(address sender, address holder);
    error LinkExpired(uint64 deadline);
    error AlreadyRotated(address account, address successor);
    /// @notice A wallet cannot follow itself, nor one that it has left behind.
    error InvalidSuccessor(address successor);
    /// @notice `account` did not sign this link to the caller, or it was used or cancelled.
    error InvalidLinkSignature(address account);
    error NoActiveRoot();
    error InvalidProof(address account, uint256 cumulative);
    error NothingToClaim(address account, uint256 claimed);
    /// @notice The root promises more than its total.
    error RootOverdrawn(uint256 wanted, uint256 left);

    /// @notice Takes in fees. Only from the escrow.
    /// @custom:misuse OPEN that arrives in any other way is not counted and cannot be paid out.
    function collect() external payable;

    /// @notice Proposes a payout root. Restricted to settlers.
    /// @custom:misuse A root whose data nobody can fetch cannot be recomputed, so validators refuse it and anyone can
    /// dispute it.
    function proposeRoot(bytes32 root, uint256 total, uint256 lastBatch, bytes32 dataHash)
        external
        returns (uint256 rootId);

    /// @notice Attests that the caller recomputed the root. Needs the stake of a validator, now and when it was proposed.
    /// @custom:misuse Attesting a root that was not recomputed costs stake if a jury finds it wrong; it cannot be taken
    /// back.
    function attestRoot(uint256 rootId) external;

    /// @notice Makes a root the active one. Anyone may call it.
    /// @custom:misuse Activating an older root is impossible once a later one is active: what it alone paid is not
    /// lost, since earnings are cumulative.
    function activate(uint256 rootId) external;

    /// @notice Stops a root, before or after its activation. Restricted to guardians. While no root is active nobody can
    /// claim; a settler can propose a right one.
    /// @custom:misuse Disabling the active root stops every claim until another is active.
    function disable(uint256 rootId) external;

    /// @notice Pays what `account` has earned under the active root and not claimed before to the wallet that holds it. Anyone
    /// may call it, unless a claimer is set.
    /// @custom:misuse Pays by the active root only: a proof for an older root fails. Leaves say cumulative totals, not
    /// what is due now.
    function claim(address account, uint256 cumulative, bytes32[] calldata proof)
        external
        returns (uint256 amount);

    /// @notice {claim}, paid to `to`. Only by the account's holder or claimer.
    /// @custom:misuse A wrong `to` is paid all the same; nothing can be called back.
    function claimTo(address account, address to, uint256 cumulative, bytes32[] calldata proof)
        external
        returns (uint256 amount);

    /// @notice Lets `claimer` claim for `account` to any receiver, and ends claims by strangers; 0 takes it back. Only by the
    /// account's holder. A claimer can take all earnings: appoint nobody but yourself or a contract that you know.
    /// @custom:misuse A claimer can take all earnings, to anywhere; a claimer contract that breaks blocks strangers'
    /// claims until it is replaced.
    function setClaimer(address account, address claimer) external;

    /// @notice Moves all that `account` has earned and will earn to the caller, for good. `account` must have signed
    /// `WalletLink(account, successor, nonce, deadline)` with the caller as successor: a link is worth nothing to anyone
    /// else, in another contract or on another chain, twice, or after its deadline.
    /// @dev Whoever has the account's key can sign a link: rotate before a key that may be known to others is used by them.
    /// What the account did outside this contract (stakes, models, Datanets) stays where it is.
    /// @custom:misuse Linking to a wallet whose key is lost loses all past and future earnings; a rotation has no way
    /// back.
    function rotate(address account, uint64 deadline, bytes calldata signature) external;

    /// @notice Makes every link that the caller has signed and nobody has used worthless.
    /// @custom:misuse Cancels all links of the caller, also those meant to be used.
    function cancelLinks() external;

    /// @notice Keeps all roots that are proposed, not activated, and count in batch `batchId` from activation.
    /// Restricted to the court of disputes.
    /// @return holdId Number of the hold; 0 if there is no such root.
    /// @custom:misuse A hold that is never released keeps its roots from activation; only proposed roots are held, not
    /// later ones.
    function hold(uint256 batchId) external returns (uint256 holdId);

    /// @notice Keeps one root from activation. Restricted to the court of disputes.
    /// @custom:misuse Fails for a root that is active or superseded: what it paid cannot be held back.
    function holdRoot(uint256 rootId) external returns (uint256 holdId);

    /// @notice Ends a hold; an unknown one is no matter. Restricted to the court of disputes.
    /// @custom:misuse Releases what another dispute still holds only as far as this hold goes.
    function release(uint256 holdId) external;

    /// @notice Disables the roots under a hold, 64 at a time, and ends the hold with the last. Restricted to the court of
    /// disputes.
    /// @custom:misuse One call may not be enough: go on until it says that it is done.
    function strike(uint256 holdId) external returns (bool done);

    /// @notice All fees that ever came in, in wei.
    /// @custom:misuse Not the balance: what was claimed has left.
    function totalCollected() external view returns (uint256);
    /// @notice All that was ever paid out, in wei.
    /// @custom:misuse Counts what a root paid that was disabled afterwards, too.
    function totalClaimed() external view returns (uint256);
    /// @notice What `account` was ever paid, to whatever wallet, in wei.
    /// @custom:misuse Subtract it from a leaf to get what is due; do not pay it again.
    function claimed(address account) external view returns (uint256);
    /// @notice Number of proposed roots; ids run from 1 to it.
    /// @custom:misuse The last one need not be active, nor become so.
    function rootCount() external view returns (uint256);
    /// @notice Wallet that holds what `account` earns: itself, or the last of its successors.
    /// @custom:misuse Walks the whole line of successors: its cost grows with the number of rotations.
    function holderOf(address account) external view returns (address holder);
    /// @notice Wallet to which `account` was rotated; 0 if it was not.
    /// @custom:misuse May itself have been left behind: use {holderOf}.
    function successorOf(address account) external view returns (address);
    /// @notice Who may claim for `account` to any receiver; 0 if nobody was named.
    /// @custom:misuse The account's holder may always claim as well.
    function claimerOf(address account) external view returns (address);
    /// @notice Nonce of the next link of `account`.
    /// @custom:misuse A link signed for another nonce is void; read it right before signing.
    function linkNonces(address account) external view returns (uint256);
    /// @notice EIP-712 digest of a link.
    /// @custom:misuse Whoever signs it hands all earnings to `successor`: show that address to whoever signs.
    function linkDigest(address account, address successor, uint256 nonce, uint64 deadline)
        external
        view
        returns (bytes32);
    /// @notice Id of the root that was activated last, even if it is disabled since.
    /// @custom:misuse Its claims may be stopped: {activeRootId} says which root pays.
    function lastActivated() external view returns (uint256);
    /// @notice Whether a dispute keeps the root from activation.
    /// @custom:misuse False does not mean that it can be activated: ask {isReady}.
    function isHeld(uint256 rootId) external view returns (bool);
    /// @notice Id of the active root; 0 if there is none.
    /// @custom:misuse Read it in the same block as the proof is made for: another root may be activated before the
    /// claim.
    function activeRootId() external view returns (uint256);
    /// @notice A proposed root with its times, total and attestations.
    /// @custom:misuse A root is a promise up to `total`, whatever its leaves add up to.
    function rootOf(uint256 rootId) external view returns (Root memory);
    /// @notice Whether `validator` attested the root.
    /// @custom:misuse Says nothing about its weight, which counts as of the proposal.
    function hasAttested(uint256 rootId, address validator) external view returns (bool);
    /// @notice Whether {activate} would succeed now.
    /// @custom:misuse True now may be false in the next block, when a dispute holds the root.
    function isReady(uint256 rootId) external view returns (bool);
}
