// Uses the front as an application built on viem does. Input on stdin, findings on stdout, both JSON.
import { readFileSync } from "node:fs";
import {
  BaseError,
  ContractFunctionRevertedError,
  createPublicClient,
  createWalletClient,
  defineChain,
  http,
  parseEther,
  webSocket,
} from "viem";
import { privateKeyToAccount } from "viem/accounts";

const { rpcUrl, wsUrl, key, receiver, gopen } = JSON.parse(readFileSync(0, "utf8"));

const chain = defineChain({
  id: 161201,
  name: "OpenLedger",
  nativeCurrency: { name: "OPEN", symbol: "OPEN", decimals: 18 },
  rpcUrls: { default: { http: [rpcUrl], webSocket: [wsUrl] } },
});
const account = privateKeyToAccount(key);
const client = createPublicClient({ chain, transport: http(rpcUrl, { batch: true }), pollingInterval: 50 });
const wallet = createWalletClient({ account, chain, transport: http(rpcUrl) });
const socket = createPublicClient({ chain, transport: webSocket(wsUrl) });

const heads = [];
const wrapped = [];
const pending = [];
const failures = [];
const onError = (error) => failures.push(String(error));
const stops = [
  socket.watchBlockNumber({ onBlockNumber: (number) => heads.push(Number(number)), onError }),
  socket.watchContractEvent({
    ...gopen,
    eventName: "Transfer",
    args: { to: account.address },
    onLogs: (logs) => wrapped.push(...logs.map((log) => String(log.args.value))),
    onError,
  }),
  socket.watchPendingTransactions({ onTransactions: (hashes) => pending.push(...hashes), onError }),
];
await new Promise((resolve) => setTimeout(resolve, 300));

const sent = await wallet.sendTransaction({ to: receiver, value: 7n });
const transfer = await client.waitForTransactionReceipt({ hash: sent });
const [chainId, balance, block] = await Promise.all([
  client.getChainId(),
  client.getBalance({ address: receiver }),
  client.getBlock({ blockHash: transfer.blockHash }),
]);

let refusal;
try {
  await client.simulateContract({ ...gopen, account, functionName: "transfer", args: [receiver, 5n] });
} catch (error) {
  const cause = error instanceof BaseError && error.walk((each) => each instanceof ContractFunctionRevertedError);
  refusal = { name: cause.data?.errorName, arguments: cause.data?.args.map(String) };
}
const { request } = await client.simulateContract({
  ...gopen,
  account,
  functionName: "deposit",
  value: parseEther("3"),
});
const receipt = await client.waitForTransactionReceipt({ hash: await wallet.writeContract(request) });
const events = await client.getContractEvents({ ...gopen, eventName: "Transfer", fromBlock: receipt.blockNumber });

const number = Number(receipt.blockNumber);
const deadline = Date.now() + 20_000;
while ((wrapped.length === 0 || !heads.includes(number)) && Date.now() < deadline) {
  await new Promise((resolve) => setTimeout(resolve, 20));
}
for (const stop of stops) stop();
console.log(
  JSON.stringify({
    chainId,
    balance: String(balance),
    sameBlock: block.number === transfer.blockNumber,
    refusal,
    events: events.map((event) => String(event.args.value)),
    heads: heads.includes(number),
    wrapped,
    pending: pending.includes(sent),
    failures,
  }),
);
process.exit(0);
