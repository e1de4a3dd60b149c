"""Putting the contracts on a chain, moving the whole supply to where the allocation says, and handing over control.

After :func:`deploy` the deployer has no rights left: the timelock owns the access manager and is the treasury, the governor
alone can queue in the timelock, the escrow alone can pay into the distributor, the Datanet registry and the court alone slash.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount
from eth_utils.address import is_checksum_address, to_checksum_address

from openledger.chain.artifacts import creation_code, load_artifact
from openledger.chain.files import write_atomic
from openledger.primitives import (
    TOTAL_SUPPLY,
    WEI_PER_OPEN,
    ConfigurationError,
    InputError,
    NotFoundError,
    VerificationError,
    from_hex,
    keccak,
)

if TYPE_CHECKING:
    from openledger.chain.client import Chain

ADMIN_ROLE, SLASHER_ROLE, SETTLER_ROLE, GUARDIAN_ROLE, COURT_ROLE = 0, 1, 2, 3, 4
"""Roles of the access manager. Admin is the timelock's; the others are named in docs/contracts.md."""

COMMUNITY_BUCKET = "community"
"""The part of the supply that a bootstrap distribution is taken from."""

ZERO_ADDRESS = "0x" + "00" * 20
_FORMAT = 1


class BucketPlan(Protocol):
    """One part of the supply as deployment needs it; amounts in wei."""

    @property
    def name(self) -> str: ...
    @property
    def free(self) -> int: ...
    @property
    def vesting(self) -> int: ...
    @property
    def cliff_months(self) -> int: ...
    @property
    def linear_months(self) -> int: ...


class AllocationPlan(Protocol):
    """The allocation as deployment needs it; ``openledger.tokenomics.load_allocation()`` gives one."""

    @property
    def month_seconds(self) -> int: ...
    @property
    def buckets(self) -> Sequence[BucketPlan]: ...


class BootstrapPlan(Protocol):
    """The community's bootstrap as deployment needs it; ``openledger.tokenomics.read_bootstrap()`` gives one."""

    @property
    def root(self) -> bytes: ...
    @property
    def total(self) -> int: ...
    @property
    def seconds(self) -> int: ...


@dataclass(frozen=True)
class GovernanceSettings:
    """How votes run. Times in seconds, ``proposal_threshold`` and ``quorum_floor`` in wei of gOPEN.

    Attributes:
        voting_delay: between a proposal and its vote.
        voting_period: length of the vote.
        late_extension: least time left to vote after the quorum is reached.
        timelock_delay: between a passed vote and its execution.
        proposal_threshold: votes needed to propose.
        quorum_percent: quorum in percent of all gOPEN.
        quorum_floor: least quorum, however little OPEN is wrapped.
    """

    voting_delay: int = 86_400
    voting_period: int = 5 * 86_400
    late_extension: int = 86_400
    timelock_delay: int = 2 * 86_400
    proposal_threshold: int = 100_000 * WEI_PER_OPEN
    quorum_percent: int = 4
    quorum_floor: int = 5_000_000 * WEI_PER_OPEN

    @classmethod
    def development(cls) -> GovernanceSettings:
        """Votes of minutes, for a chain on one's own machine."""
        return cls(voting_delay=30, voting_period=300, late_extension=60, timelock_delay=60)


@dataclass(frozen=True)
class Holders:
    """Who receives what at deployment: addresses by bucket name.

    Attributes:
        free: receiver of the part that is free at launch; the treasury where a bucket is not named.
        vesting: owner of the vesting wallet; the treasury where a bucket is not named.
    """

    free: Mapping[str, str] = field(default_factory=dict)
    vesting: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Deployment:
    """Where everything is on one chain.

    Attributes:
        chain_id: EIP-155 chain id.
        genesis: hash of block 0, so that a file of another chain with the same id is noticed.
        block: block of the first contract; no event is older.
        launch: time of the token generation event, Unix seconds.
        addresses: checksummed address by contract name; a bucket's vesting wallet is ``Vesting.<bucket>``.
        settler: account that may propose payout roots.
        guardian: account that may disable them.
    """

    chain_id: int
    genesis: str
    block: int
    launch: int
    addresses: Mapping[str, str]
    settler: str
    guardian: str

    def address(self, name: str) -> str:
        """Address of a contract.

        Raises:
            NotFoundError: the deployment has no such contract.
        """
        if name not in self.addresses:
            raise NotFoundError(f"no contract {name!r} is deployed; there are {', '.join(self.addresses)}")
        return self.addresses[name]

    def save(self, path: Path) -> None:
        """Writes the deployment as JSON."""
        content = {"format": _FORMAT, **asdict(self), "addresses": dict(self.addresses)}
        write_atomic(path, json.dumps(content, indent=2).encode() + b"\n")

    @classmethod
    def load(cls, path: Path) -> Deployment:
        """Reads a deployment.

        Raises:
            NotFoundError: the file is missing.
            InputError: it is no deployment.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise NotFoundError(f"{path} is missing; deploy the contracts first") from error
        except ValueError as error:
            raise InputError(f"{path} is not JSON: {error}") from error
        return cls._parse(content, path)

    @classmethod
    def _parse(cls, content: Any, path: Path) -> Deployment:
        expected = {"format", "chain_id", "genesis", "block", "launch", "addresses", "settler", "guardian"}
        if not isinstance(content, dict) or set(content) != expected or content["format"] != _FORMAT:
            raise InputError(f"{path} is no deployment file; it needs exactly the fields {', '.join(sorted(expected))}")
        del content["format"]
        accounts = [content["settler"], content["guardian"]]
        if not isinstance(content["addresses"], dict):
            raise InputError(f"{path}: addresses must be an object")
        for address in [*accounts, *content["addresses"].values()]:
            if not is_checksum_address(address):
                raise InputError(f"{path}: {address!r} is not a checksummed address")
        for name in ("chain_id", "block", "launch"):
            if type(content[name]) is not int or content[name] < 0:
                raise InputError(f"{path}: {name} is {content[name]!r}; it must be a whole number")
        from_hex(content["genesis"], 32)
        return cls(**content)


def deploy(
    chain: Chain,
    deployer: LocalAccount,
    allocation: AllocationPlan,
    parameters: Mapping[str, int] | None = None,
    *,
    governance: GovernanceSettings | None = None,
    holders: Holders | None = None,
    settler: str | None = None,
    guardian: str | None = None,
    launch: int | None = None,
    bootstrap: BootstrapPlan | None = None,
) -> Deployment:
    """Deploys everything and distributes the supply. ``chain`` knows the deployment afterwards.

    The deployer must hold the whole supply, less what it has paid for gas. What it pays for gas here is missing from the
    largest free part, and lies in the chain's fee vaults.

    Args:
        chain: the chain, with nothing deployed.
        deployer: account that pays; it keeps no right and no OPEN.
        allocation: buckets and their schedules.
        parameters: runtime parameters whose first value is not the default, by key.
        governance: how votes run.
        holders: who receives each bucket.
        settler: account that proposes payout roots; the deployer if none is given.
        guardian: account that can disable payout roots; the deployer if none is given.
        launch: time from which vesting counts, Unix seconds; the latest block's time if none is given.
        bootstrap: a list of accounts that claim from the community's free part for so many seconds from launch; what they
            leave goes to the receiver of that part.

    Raises:
        InputError: the allocation is not the whole supply, a bucket or parameter is unknown, or the bootstrap is more than
            the community's free part.
        ConfigurationError: the deployer does not hold the supply.
        VerificationError: the result is not as it should be.
        RevertError: a contract refused, for instance a parameter out of bounds.
    """
    work = _Deploying(chain, deployer, allocation, holders or Holders(), bootstrap)
    work.check()
    return work.run(
        parameters or {},
        governance or GovernanceSettings(),
        settler or deployer.address,
        guardian or deployer.address,
        launch,
    )


class _Deploying:
    def __init__(
        self,
        chain: Chain,
        deployer: LocalAccount,
        allocation: AllocationPlan,
        holders: Holders,
        bootstrap: BootstrapPlan | None,
    ) -> None:
        self._chain = chain
        self._deployer = deployer
        self._allocation = allocation
        self._holders = holders
        self._bootstrap = bootstrap
        self._addresses: dict[str, str] = {}

    def check(self) -> None:
        buckets = self._allocation.buckets
        total = sum(bucket.free + bucket.vesting for bucket in buckets)
        if total != TOTAL_SUPPLY:
            raise InputError(f"the allocation adds up to {total} wei; it must be {TOTAL_SUPPLY}")
        community = sum(bucket.free for bucket in buckets if bucket.name == COMMUNITY_BUCKET)
        if self._bootstrap is not None and self._bootstrap.total > community:
            raise InputError(
                f"the bootstrap gives away {self._bootstrap.total} wei, and {community} wei of the community's part are free"
            )
        unknown = {*self._holders.free, *self._holders.vesting} - {bucket.name for bucket in buckets}
        if unknown:
            raise InputError(f"holders are named for unknown buckets: {', '.join(sorted(unknown))}")
        held = self._chain.balance(self._deployer.address)
        if held > TOTAL_SUPPLY or held < TOTAL_SUPPLY - 1_000 * WEI_PER_OPEN:
            raise ConfigurationError(
                f"the deployer {self._deployer.address} holds {held} wei, not the supply of {TOTAL_SUPPLY}; deploy from "
                "the genesis account of a fresh chain"
            )

    def run(
        self,
        parameters: Mapping[str, int],
        governance: GovernanceSettings,
        settler: str,
        guardian: str,
        launch: int | None,
    ) -> Deployment:
        chain = self._chain
        head = chain.w3.eth.get_block("latest")
        launch = int(head["timestamp"]) if launch is None else launch
        self._create_core(parameters)
        self._create_governance(governance)
        self._create_registries()
        self._create_vesting(launch)
        self._create_bootstrap(launch)
        deployment = Deployment(
            chain_id=chain.chain_id,
            genesis=chain.genesis,
            block=int(head["number"]) + 1,
            launch=launch,
            addresses=dict(self._addresses),
            settler=to_checksum_address(settler),
            guardian=to_checksum_address(guardian),
        )
        chain.deployment = deployment
        self._hand_over(deployment)
        self._distribute_free()
        self._verify(deployment)
        return deployment

    def _create_core(self, parameters: Mapping[str, int]) -> None:
        authority = self._create("AccessManager", ["address"], [self._deployer.address])
        keys = [parameter_key(name) for name in parameters]
        self._create(
            "RuntimeParameters",
            ["address", "bytes32[]", "uint256[]"],
            [authority, keys, list(parameters.values())],
        )
        self._create("StakeManager", ["address", "address"], [authority, self._addresses["RuntimeParameters"]])
        self._create("GOPEN", [], [])

    def _create_governance(self, settings: GovernanceSettings) -> None:
        timelock = self._create(
            "TimelockController",
            ["uint256", "address[]", "address[]", "address"],
            [settings.timelock_delay, [], [ZERO_ADDRESS], self._deployer.address],
        )
        self._create(
            "OpenLedgerGovernor",
            ["address", "address", "(uint48,uint32,uint48,uint256,uint256,uint256)"],
            [
                self._addresses["GOPEN"],
                timelock,
                (
                    settings.voting_delay,
                    settings.voting_period,
                    settings.late_extension,
                    settings.proposal_threshold,
                    settings.quorum_percent,
                    settings.quorum_floor,
                ),
            ],
        )

    def _create_registries(self) -> None:
        at = self._addresses
        parameters, stakes = at["RuntimeParameters"], at["StakeManager"]
        # The registry asks for challenges, and the appeals take what the registry decided, each of the other only.
        registry = created_address(self._deployer.address, self._chain.nonce(self._deployer.address) + 1)
        treasury = at["TimelockController"]
        appeals = self._create("ReviewAppeals", ["address"] * 4, [parameters, stakes, registry, treasury])
        self._create("DatanetRegistry", ["address"] * 4, [parameters, stakes, appeals, treasury])
        access = self._create("DatanetAccess", ["address"], [at["DatanetRegistry"]])
        self._create("ModelRegistry", ["address"] * 4, [at["AccessManager"], parameters, at["DatanetRegistry"], access])
        self._create("InferenceLedger", ["address", "address"], [parameters, stakes])
        # The distributor takes fees from the escrow only, and the escrow pays into the distributor only.
        escrow = created_address(self._deployer.address, self._chain.nonce(self._deployer.address) + 1)
        distributor = self._create(
            "RewardsDistributor", ["address"] * 4, [at["AccessManager"], parameters, stakes, escrow]
        )
        self._create("FeeEscrow", ["address", "address"], [parameters, distributor])
        self._create(
            "InferenceMarket",
            ["address"] * 4,
            [at["InferenceLedger"], at["FeeEscrow"], at["ModelRegistry"], stakes],
        )
        self._create("HostRegistry", ["address"] * 2, [stakes, at["ModelRegistry"]])
        self._create("AgentRegistry", ["address"] * 2, [at["ModelRegistry"], stakes])
        self._create(
            "Disputes",
            ["address"] * 5,
            [parameters, stakes, at["InferenceLedger"], distributor, at["TimelockController"]],
        )

    def _create_vesting(self, launch: int) -> None:
        month = self._allocation.month_seconds
        for bucket in self._allocation.buckets:
            if bucket.vesting == 0:
                continue
            owner = self._holders.vesting.get(bucket.name, self._addresses["TimelockController"])
            cliff, linear = bucket.cliff_months * month, bucket.linear_months * month
            self._create(
                "Vesting",
                ["string", "address", "uint64", "uint64", "uint64"],
                [bucket.name, owner, launch, cliff, linear],
                value=bucket.vesting,
                name=f"Vesting.{bucket.name}",
            )

    def _create_bootstrap(self, launch: int) -> None:
        if self._bootstrap is None:
            return
        self._create(
            "CommunityDistributor",
            ["bytes32", "uint64", "address"],
            [self._bootstrap.root, launch + self._bootstrap.seconds, self._receiver(COMMUNITY_BUCKET)],
            value=self._bootstrap.total,
        )

    def _receiver(self, bucket: str) -> str:
        """Who gets what of a bucket is free."""
        return self._holders.free.get(bucket, self._addresses["TimelockController"])

    def _hand_over(self, deployment: Deployment) -> None:
        chain, at = self._chain, self._addresses
        access = chain.contract("AccessManager").functions
        selectors = (
            ("StakeManager", "slash", SLASHER_ROLE),
            ("RewardsDistributor", "proposeRoot", SETTLER_ROLE),
            ("RewardsDistributor", "disable", GUARDIAN_ROLE),
            *(("RewardsDistributor", name, COURT_ROLE) for name in ("hold", "holdRoot", "release", "strike")),
        )
        for name, function, role in selectors:
            self._send(access.setTargetFunctionRole(at[name], [selector(name, function)], role))
        grants = (
            (SLASHER_ROLE, at["DatanetRegistry"], "slasher"),
            (SLASHER_ROLE, at["Disputes"], "slasher"),
            (COURT_ROLE, at["Disputes"], "court"),
            (SETTLER_ROLE, deployment.settler, "settler"),
            (GUARDIAN_ROLE, deployment.guardian, "guardian"),
        )
        for role, account, label in grants:
            self._send(access.labelRole(role, label))
            self._send(access.grantRole(role, account, 0))
        self._send(access.grantRole(ADMIN_ROLE, at["TimelockController"], 0))
        self._send(access.renounceRole(ADMIN_ROLE, self._deployer.address))

        timelock = chain.contract("TimelockController").functions
        for role_name in ("PROPOSER_ROLE", "CANCELLER_ROLE"):
            role_id = getattr(timelock, role_name)().call()
            self._send(timelock.grantRole(role_id, at["OpenLedgerGovernor"]))
        self._send(timelock.renounceRole(timelock.DEFAULT_ADMIN_ROLE().call(), self._deployer.address))

    def _distribute_free(self) -> None:
        given = {COMMUNITY_BUCKET: 0 if self._bootstrap is None else self._bootstrap.total}
        parts = [(bucket.name, bucket.free - given.get(bucket.name, 0)) for bucket in self._allocation.buckets]
        free = [(self._receiver(name), amount) for name, amount in parts if amount > 0]
        if not free:
            return
        *others, (largest, _) = sorted(free, key=lambda part: part[1])
        for account, amount in others:
            self._chain.transfer(self._deployer, account, amount)
        self._chain.transfer_all(self._deployer, largest)

    def _verify(self, deployment: Deployment) -> None:
        chain = self._chain
        escrow = chain.contract("RewardsDistributor").functions.escrow().call()
        admin, _ = chain.contract("AccessManager").functions.hasRole(ADMIN_ROLE, self._deployer.address).call()
        timelock_admin, _ = (
            chain.contract("AccessManager")
            .functions.hasRole(ADMIN_ROLE, deployment.address("TimelockController"))
            .call()
        )
        appeals_registry = chain.contract("ReviewAppeals").functions.registry().call()
        checks = {
            "the appeals' registry is the registry": appeals_registry == deployment.address("DatanetRegistry"),
            "the distributor's escrow is the escrow": escrow == deployment.address("FeeEscrow"),
            "the deployer has no rights": not admin,
            "the timelock owns the access manager": timelock_admin,
            "the deployer has no OPEN to speak of": chain.balance(self._deployer.address) < WEI_PER_OPEN // 1_000,
        }
        if wrong := [claim for claim, holds in checks.items() if not holds]:
            raise VerificationError(f"the deployment is not as it should be; these are false: {'; '.join(wrong)}")

    def _create(
        self, contract: str, types: list[str], values: list[Any], *, value: int = 0, name: str | None = None
    ) -> str:
        data = creation_code(contract) + encode(types, values)
        address = self._chain.create(self._deployer, data, value=value)
        self._addresses[name or contract] = address
        return address

    def _send(self, call: Any) -> None:
        self._chain.send(self._deployer, call)


def created_address(creator: str, nonce: int) -> str:
    """Address of the contract that ``creator`` makes by its transaction number ``nonce``: hash of their RLP list."""
    digits = nonce.to_bytes((nonce.bit_length() + 7) // 8, "big")
    number = digits if 0 < nonce < 0x80 else bytes([0x80 + len(digits)]) + digits
    payload = b"\x94" + from_hex(creator, 20) + number
    return to_checksum_address(keccak(bytes([0xC0 + len(payload)]), payload)[12:])


def parameter_key(name: str) -> bytes:
    """A runtime parameter's key: its ASCII name, filled with zeros to 32 bytes.

    Raises:
        InputError: the name is empty, not ASCII or longer than 32 bytes.
    """
    if not name or not name.isascii() or len(name) > 32:
        raise InputError(f"{name!r} is no parameter name; it has 1 to 32 ASCII characters")
    return name.encode().ljust(32, b"\0")


def selector(contract: str, function: str) -> bytes:
    """The first four bytes of calls to a function that is not overloaded."""
    for entry in load_artifact(contract).abi:
        if entry["type"] == "function" and entry["name"] == function:
            types = ",".join(item["type"] for item in entry["inputs"])
            return keccak(f"{function}({types})".encode())[:4]
    raise NotFoundError(f"{contract} has no function {function!r}")
