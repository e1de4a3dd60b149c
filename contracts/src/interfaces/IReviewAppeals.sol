// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IPayer} from "./IPayer.sol";

/// @title Challenges of review decisions, under bonds on both sides
/// @notice After a jury has decided on a contribution, anybody may challenge the decision record by record and anybody
/// else may stand by it, each with `bond.challenge` wei a record. A larger jury then decides in {IDatanetRegistry}; the
/// side that it does not follow pays, record by record.
interface IReviewAppeals is IPayer {
    /// @dev `records` is the bitmap of those whose decision shall be turned around. Each side has put up `bond` wei.
    struct Challenge {
        address challenger;
        address defender;
        uint32 count;
        bool settled;
        uint256 bond;
        bytes records;
    }

    event DecisionChallenged(
        uint256 indexed id, uint256 indexed number, address indexed challenger, bytes records, uint256 bond
    );
    event DecisionDefended(uint256 indexed id, uint256 indexed number, address indexed defender);
    event ChallengeSettled(
        uint256 indexed id,
        uint256 indexed number,
        uint256 overturned,
        uint256 toChallenger,
        uint256 toDefender
    );

    error ZeroAddress();
    error UnknownChallenge(uint256 id, uint256 number);
    /// @notice The contribution's decision is not open to challenges, or not final yet.
    error NotInState(uint256 id, uint8 state, uint8 needed);
    error ChallengeWindowOver(uint256 challengeEnd);
    error DefenceWindowOver(uint256 defendEnd);
    error EmptyChallenge(uint256 id);
    /// @notice `overlapping` of the records are challenged already.
    error AlreadyChallenged(uint256 id, uint256 overlapping);
    error WrongChallengeBond(uint256 sent, uint256 needed);
    /// @notice A reviewer with stake judges and does not take sides.
    error PartyIsReviewer(address account);
    error AlreadyDefended(uint256 id, uint256 number);
    error ChallengerCannotDefend(address account);
    error AlreadySettled(uint256 id, uint256 number);
    /// @notice Only the registry pays in without a challenge.
    error NotRegistry(address account);

    /// @notice Challenges a decision on the records in the bitmap `records`, with `bond.challenge` wei for each. Until
    /// `challengeEnd`, by anybody without stake as a reviewer. A record can be challenged once.
    /// @custom:misuse A challenge that the larger jury does not share loses its bond, record by record.
    /// @return number Of the challenge, from 1 for each contribution.
    function challenge(uint256 id, bytes calldata records) external payable returns (uint256 number);

    /// @notice Stands by the decision against a challenge, with the same bond. Until `defendEnd`, by one account.
    /// @custom:misuse A defence of a wrong decision loses its bond, record by record.
    function defend(uint256 id, uint256 number) external payable;

    /// @notice Puts what a larger jury `judged` in the place of what was decided `before`, on challenged records alone.
    /// From the registry only.
    /// @custom:misuse Refused to anybody else; it decides who wins challenges.
    /// @return accepted Bitmap of the records that are accepted now.
    /// @return turnedDown How many records are rejected now that were accepted before.
    function judge(uint256 id, bytes calldata before, bytes calldata judged)
        external
        returns (bytes memory accepted, uint256 turnedDown);

    /// @notice Pays both sides of a challenge after the contribution is final. For each record overturned the challenger
    /// gets its bond back and half of the defender's; for each upheld the defender likewise; the other half of what
    /// is lost goes to the appeal's jurors. A challenger also gets half of the bond of each record rejected thanks to it.
    /// @custom:misuse Anyone may call it; money goes to the parties alone, so calling for others costs only gas.
    function settleChallenge(uint256 id, uint256 number) external;

    /// @notice A challenge as it stands.
    /// @custom:misuse `bond` says what each side put up, not what the contract still holds for it.
    function challenges(uint256 id, uint256 number) external view returns (Challenge memory);

    /// @notice How many challenges a contribution's decision met.
    /// @custom:misuse Can still rise until `challengeEnd`.
    function challengeCount(uint256 id) external view returns (uint256);

    /// @notice Bitmap of the records on which an appeal turned the first decision around; empty where there was none.
    /// @custom:misuse Says nothing of records that nobody challenged.
    function overturned(uint256 id) external view returns (bytes memory);

    /// @notice Bitmap of the challenged records; empty where there is none.
    /// @custom:misuse Can still grow until `challengeEnd`.
    function disputed(uint256 id) external view returns (bytes memory);
}
