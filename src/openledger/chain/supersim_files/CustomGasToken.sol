// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

// The two predeploys of custom gas token v2, by its specification, for an L2 whose genesis lacks them: test code. `supersim` has
// plain proxies at these addresses, and no package ships the OP Stack's own bytecode.

address constant LIQUIDITY = 0x4200000000000000000000000000000000000029;
address constant CONTROLLER = 0x420000000000000000000000000000000000002a;

/// @dev Pays without calling the receiver.
contract SafeSend {
    constructor(address payable to) payable {
        selfdestruct(to);
    }
}

/// @notice Holds the native asset that is not in circulation.
contract NativeAssetLiquidity {
    error NativeAssetLiquidity_Unauthorized();
    error NativeAssetLiquidity_InsufficientBalance();

    event LiquidityDeposited(address indexed caller, uint256 value);
    event LiquidityWithdrawn(address indexed caller, uint256 value);

    modifier onlyController() {
        require(msg.sender == CONTROLLER, NativeAssetLiquidity_Unauthorized());
        _;
    }

    function deposit() external payable onlyController {
        emit LiquidityDeposited(msg.sender, msg.value);
    }

    function withdraw(uint256 amount) external onlyController {
        require(amount <= address(this).balance, NativeAssetLiquidity_InsufficientBalance());
        new SafeSend{value: amount}(payable(msg.sender));
        emit LiquidityWithdrawn(msg.sender, amount);
    }
}

/// @notice Lets authorised minters take from, and give back to, {NativeAssetLiquidity}.
contract LiquidityController {
    error LiquidityController_Unauthorized();

    event MinterAuthorized(address indexed minter);
    event MinterDeauthorized(address indexed minter);
    event LiquidityMinted(address indexed minter, address indexed to, uint256 amount);
    event LiquidityBurned(address indexed minter, uint256 amount);

    address public owner;
    mapping(address minter => bool) public minters;

    modifier onlyOwner() {
        require(msg.sender == owner, LiquidityController_Unauthorized());
        _;
    }

    function initialize(address owner_) external {
        require(owner == address(0), LiquidityController_Unauthorized());
        owner = owner_;
    }

    function authorizeMinter(address minter) external onlyOwner {
        minters[minter] = true;
        emit MinterAuthorized(minter);
    }

    function deauthorizeMinter(address minter) external onlyOwner {
        delete minters[minter];
        emit MinterDeauthorized(minter);
    }

    function mint(address to, uint256 amount) external {
        require(minters[msg.sender], LiquidityController_Unauthorized());
        NativeAssetLiquidity(LIQUIDITY).withdraw(amount);
        new SafeSend{value: amount}(payable(to));
        emit LiquidityMinted(msg.sender, to, amount);
    }

    function burn() external payable {
        require(minters[msg.sender], LiquidityController_Unauthorized());
        NativeAssetLiquidity(LIQUIDITY).deposit{value: msg.value}();
        emit LiquidityBurned(msg.sender, msg.value);
    }
}
