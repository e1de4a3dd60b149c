// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDatanetAccess} from "./interfaces/IDatanetAccess.sol";
import {IDatanetRegistry} from "./interfaces/IDatanetRegistry.sol";
import {Payer} from "./libraries/Payer.sol";

/// @title Access to Datanets, training licences, and the income from both
/// @notice See {IDatanetAccess}. The contract holds exactly the fees of open requests, what contributors have not claimed
/// (with the wei that rounding leaves), and what it owes to receivers that refused a payment.
contract DatanetAccess is IDatanetAccess, Payer {
    struct Grant {
        uint64 until;
        bool paid;
    }

    uint256 private constant PPM = 1_000_000;

    /// @notice How long access lasts where it is for sale, in seconds.
    uint64 public constant PAID_ACCESS = 365 days;

    /// @notice The registry of Datanets.
    IDatanetRegistry public immutable datanets;

    uint256 public requestCount;
    mapping(uint256 datanet => mapping(uint256 version => uint256)) public incomeOf;
    mapping(uint256 request => Request) private _requests;
    mapping(uint256 datanet => mapping(address account => Grant)) private _grants;
    mapping(uint256 datanet => mapping(uint256 version => mapping(uint256 contribution => uint256))) private
        _claimed;

    constructor(IDatanetRegistry datanets_) {
        datanets = datanets_;
    }

    /// @inheritdoc IDatanetAccess
    function requestAccess(uint256 datanet, bytes32 purpose)
        external
        payable
        nonReentrant
        returns (uint256 request)
    {
        IDatanetRegistry.Datanet memory net = datanets.datanet(datanet);
        require(net.terms.access != IDatanetRegistry.AccessRule.Open, AccessIsOpen(datanet));
        require(msg.value == net.terms.accessFee, WrongFee(msg.value, net.terms.accessFee));
        request = ++requestCount;
        Request storage entry = _requests[request];
        entry.datanet = datanet;
        entry.account = msg.sender;
        entry.state = RequestState.Open;
        entry.fee = uint128(msg.value);
        entry.purpose = purpose;
        emit AccessRequested(request, datanet, msg.sender, purpose, msg.value);
        if (net.terms.access == IDatanetRegistry.AccessRule.Paid) {
            _grant(entry, net, uint64(block.timestamp) + PAID_ACCESS);
        }
    }

    /// @inheritdoc IDatanetAccess
    function grantRequest(uint256 request, uint64 until) external nonReentrant {
        Request storage entry = _open(request);
        _grant(entry, _owned(entry.datanet), until);
    }

    /// @inheritdoc IDatanetAccess
    function denyRequest(uint256 request) external nonReentrant {
        Request storage entry = _open(request);
        _owned(entry.datanet);
        entry.state = RequestState.Denied;
        emit AccessDenied(request, entry.datanet, entry.account);
        _pay(entry.account, entry.fee);
    }

    /// @inheritdoc IDatanetAccess
    function withdrawRequest(uint256 request) external nonReentrant {
        Request storage entry = _open(request);
        require(msg.sender == entry.account, NotRequester(msg.sender, entry.account));
        entry.state = RequestState.Withdrawn;
        emit AccessWithdrawn(request, entry.datanet, entry.account);
        _pay(entry.account, entry.fee);
    }

    /// @inheritdoc IDatanetAccess
    function grantAccess(uint256 datanet, address account, uint64 until) external {
        _owned(datanet);
        _setGrant(datanet, account, until, false);
    }

    /// @inheritdoc IDatanetAccess
    function revokeAccess(uint256 datanet, address account) external {
        _owned(datanet);
        Grant storage grant = _grants[datanet][account];
        require(grant.until > block.timestamp, NoAccess(datanet, account));
        require(!grant.paid, GrantIsPaid(datanet, account, grant.until));
        grant.until = 0;
        emit AccessRevoked(datanet, account);
    }

    /// @inheritdoc IDatanetAccess
    function payLicence(uint256 datanet, uint256 version, address licensee) external payable nonReentrant {
        IDatanetRegistry.Datanet memory net = datanets.datanet(datanet);
        require(msg.value == net.terms.licenceFee, WrongFee(msg.value, net.terms.licenceFee));
        require(hasAccess(datanet, licensee), NoAccess(datanet, licensee));
        datanets.versions(datanet, version);
        emit LicencePaid(datanet, version, licensee, msg.sender, msg.value);
        _book(datanet, version, net, msg.value);
    }

    /// @inheritdoc IDatanetAccess
    function claimIncome(uint256 datanet, uint256 version, uint256 contribution) external nonReentrant {
        uint256 amount = claimable(datanet, version, contribution);
        require(amount > 0, NothingToClaim(datanet, version, contribution));
        _claimed[datanet][version][contribution] += amount;
        address contributor = datanets.contribution(contribution).contributor;
        emit IncomeClaimed(datanet, version, contribution, contributor, amount);
        _pay(contributor, amount);
    }

    /// @inheritdoc IDatanetAccess
    function grantOf(uint256 datanet, address account) external view returns (uint64 until, bool paid) {
        Grant storage grant = _grants[datanet][account];
        return (grant.until, grant.paid);
    }

    /// @inheritdoc IDatanetAccess
    function requests(uint256 request) external view returns (Request memory) {
        return _known(request);
    }

    /// @inheritdoc IDatanetAccess
    function hasAccess(uint256 datanet, address account) public view returns (bool) {
        if (_grants[datanet][account].until > block.timestamp) return true;
        IDatanetRegistry.Datanet memory net = datanets.datanet(datanet);
        return net.terms.access == IDatanetRegistry.AccessRule.Open || net.owner == account;
    }

    /// @inheritdoc IDatanetAccess
    function claimable(uint256 datanet, uint256 version, uint256 contribution) public view returns (uint256) {
        uint256 rows = datanets.rowsInVersion(datanet, version, contribution);
        if (rows == 0) return 0;
        uint256 earned = incomeOf[datanet][version] * rows / datanets.versions(datanet, version).acceptedRows;
        return earned - _claimed[datanet][version][contribution];
    }

    function _grant(Request storage entry, IDatanetRegistry.Datanet memory net, uint64 until) private {
        entry.state = RequestState.Granted;
        _setGrant(entry.datanet, entry.account, until, entry.fee > 0);
        _book(entry.datanet, net.versionCount, net, entry.fee);
    }

    /// @dev A grant never ends before one that was paid for.
    function _setGrant(uint256 datanet, address account, uint64 until, bool paid) private {
        require(until > block.timestamp, GrantEndsInThePast(until, block.timestamp));
        Grant storage grant = _grants[datanet][account];
        bool standing = grant.paid && grant.until > block.timestamp;
        require(!standing || until >= grant.until, GrantIsPaid(datanet, account, grant.until));
        grant.until = until;
        grant.paid = paid || standing;
        emit AccessGranted(datanet, account, until, grant.paid);
    }

    /// @dev Without a version there are no contributors to share with: all is the owner's.
    function _book(uint256 datanet, uint256 version, IDatanetRegistry.Datanet memory net, uint256 amount)
        private
    {
        if (amount == 0) return;
        uint256 toOwner = version == 0 ? amount : amount * net.terms.ownerPpm / PPM;
        incomeOf[datanet][version] += amount - toOwner;
        emit IncomeBooked(datanet, version, toOwner, amount - toOwner);
        _pay(net.owner, toOwner);
    }

    function _owned(uint256 datanet) private view returns (IDatanetRegistry.Datanet memory net) {
        net = datanets.datanet(datanet);
        require(msg.sender == net.owner, NotOwner(msg.sender, net.owner));
    }

    function _open(uint256 request) private view returns (Request storage entry) {
        entry = _known(request);
        require(entry.state == RequestState.Open, RequestNotOpen(request, entry.state));
    }

    function _known(uint256 request) private view returns (Request storage entry) {
        entry = _requests[request];
        require(entry.state != RequestState.None, UnknownRequest(request));
    }
}
