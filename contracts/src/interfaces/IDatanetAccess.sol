// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IPayer} from "./IPayer.sol";

/// @title Who may read a Datanet, who may train on it, and who earns from both
/// @notice Access is asked for and granted as the Datanet's rule says; a training licence is paid once for each
/// fine-tuning job on a version. Of what comes in the owner keeps its part, and contributors share the rest by their
/// accepted records in the version (access fees: in the newest one).
interface IDatanetAccess is IPayer {
    enum RequestState {
        None,
        Open,
        Granted,
        Denied,
        Withdrawn
    }

    /// @dev `fee` wei wait here while the request is open. `purpose` is the hash of what the reader wants it for.
    struct Request {
        uint256 datanet;
        address account;
        RequestState state;
        uint128 fee;
        bytes32 purpose;
    }

    event AccessRequested(
        uint256 indexed request,
        uint256 indexed datanet,
        address indexed account,
        bytes32 purpose,
        uint256 fee
    );
    event AccessGranted(uint256 indexed datanet, address indexed account, uint256 until, bool paid);
    event AccessDenied(uint256 indexed request, uint256 indexed datanet, address indexed account);
    event AccessWithdrawn(uint256 indexed request, uint256 indexed datanet, address indexed account);
    event AccessRevoked(uint256 indexed datanet, address indexed account);
    event LicencePaid(
        uint256 indexed datanet, uint256 indexed version, address indexed licensee, address payer, uint256 fee
    );
    event IncomeBooked(
        uint256 indexed datanet, uint256 indexed version, uint256 toOwner, uint256 toContributors
    );
    event IncomeClaimed(
        uint256 indexed datanet,
        uint256 indexed version,
        uint256 indexed contribution,
        address contributor,
        uint256 amount
    );

    error UnknownRequest(uint256 request);
    error NotOwner(address account, address owner);
    error NotRequester(address account, address requester);
    error RequestNotOpen(uint256 request, RequestState state);
    /// @notice Everybody may read this Datanet; there is nothing to ask for.
    error AccessIsOpen(uint256 datanet);
    error WrongFee(uint256 sent, uint256 needed);
    error GrantEndsInThePast(uint256 until, uint256 now_);
    /// @notice Access that was paid for is not taken back before it ends.
    error GrantIsPaid(uint256 datanet, address account, uint256 until);
    error NoAccess(uint256 datanet, address account);
    error NothingToClaim(uint256 datanet, uint256 version, uint256 contribution);

    /// @notice Asks for access with the Datanet's `accessFee`. Where the rule is Paid it is granted at once for a year;
    /// where it is Granted the fee waits until the owner grants or denies, or the reader withdraws.
    /// @custom:misuse Access on chain opens nothing by itself: it is what a host of the records asks for. Records once
    /// read cannot be unread.
    function requestAccess(uint256 datanet, bytes32 purpose) external payable returns (uint256 request);

    /// @notice Grants a request until a time. Only by the Datanet's owner.
    /// @custom:misuse An end in the near future keeps the fee for little; the reader can withdraw before, not after.
    function grantRequest(uint256 request, uint64 until) external;

    /// @notice Denies a request; its fee returns. Only by the Datanet's owner.
    /// @custom:misuse Not answering at all blocks nobody: the reader can withdraw.
    function denyRequest(uint256 request) external;

    /// @notice Takes an open request back; its fee returns. Only by who asked.
    /// @custom:misuse Too late once granted.
    function withdrawRequest(uint256 request) external;

    /// @notice Grants access without a fee until a time. Only by the Datanet's owner.
    /// @custom:misuse Never shortens access that was paid for.
    function grantAccess(uint256 datanet, address account, uint64 until) external;

    /// @notice Takes back access that was granted without a fee. Only by the Datanet's owner.
    /// @custom:misuse Does not unread what was read.
    function revokeAccess(uint256 datanet, address account) external;

    /// @notice Pays the `licenceFee` for one training job of `licensee`, who must have access. Anyone may pay.
    /// @custom:misuse Paid here alone it is in no job's name; {IModelRegistry-recordTraining} pays and records in one.
    function payLicence(uint256 datanet, uint256 version, address licensee) external payable;

    /// @notice Pays a contribution's part of a version's income so far to its contributor. Anyone may call it.
    /// @custom:misuse Parts are rounded down on the whole income of a version, so that claiming often loses nothing.
    function claimIncome(uint256 datanet, uint256 version, uint256 contribution) external;

    /// @notice Whether `account` may read the Datanet's records now.
    /// @custom:misuse Ask at the time of reading; a grant ends.
    function hasAccess(uint256 datanet, address account) external view returns (bool);

    /// @notice When the account's grant ends, 0 without one, and whether it was paid for.
    /// @custom:misuse Owners and readers of open Datanets have access without a grant; see {hasAccess}.
    function grantOf(uint256 datanet, address account) external view returns (uint64 until, bool paid);

    /// @notice A request as it stands.
    /// @custom:misuse `account` asked for itself; somebody else's request grants you nothing.
    function requests(uint256 request) external view returns (Request memory);

    /// @notice How many requests there were.
    /// @custom:misuse Counts closed ones too.
    function requestCount() external view returns (uint256);

    /// @notice What contributors of a version have earned together, in wei.
    /// @custom:misuse Includes what is claimed already.
    function incomeOf(uint256 datanet, uint256 version) external view returns (uint256);

    /// @notice What {claimIncome} would pay now, in wei.
    /// @custom:misuse 0 for a contribution that is no part of the version.
    function claimable(uint256 datanet, uint256 version, uint256 contribution) external view returns (uint256);
}
