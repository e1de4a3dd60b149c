// Uses the front as an application built on ethers does. Input on stdin, findings on stdout, both JSON.
import { readFileSync } from "node:fs";
import { Contract, JsonRpcProvider, Wallet, WebSocketProvider, isError, parseEther } from "ethers";

const { rpcUrl, wsUrl, key, receiver, gopen } = JSON.parse(readFileSync(0, "utf8"));

// ethers keeps answers for 250 ms; blocks here come sooner, and the second transaction would get the first one's nonce.
const provider = new JsonRpcProvider(rpcUrl, undefined, { cacheTimeout: -1 });
const wallet = new Wallet(key, provider);
const socket = new WebSocketProvider(wsUrl);
const heads = [];
const wrapped = [];
await socket.on("block", (number) => heads.push(number));
const heard = new Contract(gopen.address, gopen.abi, socket);
await heard.on("Transfer", (from, to, value) => wrapped.push(`${from} ${to} ${value}`));

const { chainId } = await provider.getNetwork();
const transfer = await (await wallet.sendTransaction({ to: receiver, value: 7n })).wait();
// Without a pause these three go to the node as one batch.
const [balance, block, nonce] = await Promise.all([
  provider.getBalance(receiver),
  provider.getBlock(transfer.blockNumber),
  provider.getTransactionCount(wallet.address),
]);

const contract = new Contract(gopen.address, gopen.abi, wallet);
let refusal;
try {
  await contract.transfer.staticCall(receiver, 5n);
} catch (error) {
  refusal = isError(error, "CALL_EXCEPTION") ? error.revert : String(error);
}
const receipt = await (await contract.deposit({ value: parseEther("3") })).wait();
const events = await contract.queryFilter(contract.filters.Transfer(null, wallet.address), receipt.blockNumber);

const deadline = Date.now() + 20_000;
while ((wrapped.length === 0 || !heads.includes(receipt.blockNumber)) && Date.now() < deadline) {
  await new Promise((resolve) => setTimeout(resolve, 20));
}
await socket.destroy();
provider.destroy();
console.log(
  JSON.stringify({
    chainId: Number(chainId),
    balance: String(balance),
    sameBlock: block.hash === transfer.blockHash,
    nonce,
    refusal: { name: refusal.name, arguments: [...refusal.args].map(String) },
    events: events.map((event) => String(event.args.value)),
    heads: heads.includes(receipt.blockNumber),
    wrapped,
  }),
);
