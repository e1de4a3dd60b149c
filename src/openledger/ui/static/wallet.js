// A person's own wallet: found by EIP-6963, spoken to by EIP-1193. Its keys stay in it; this page only asks.
// What a page needs stands on window.openledgerWallet; every failure becomes one sentence.
const REMEMBERED = "openledger.wallet";
const NOTICE = "openledger.notice";
const SEARCH_MS = 1500;
const UNKNOWN_CHAIN = 4902;

const found = new Map();
const listeners = new Set();

addEventListener("eip6963:announceProvider", (event) => {
  const { info, provider } = event.detail ?? {};
  if (typeof info?.uuid !== "string" || typeof info.name !== "string" || typeof provider?.request !== "function") return;
  if (found.has(info.uuid)) return;
  const icon = typeof info.icon === "string" && info.icon.startsWith("data:image/") ? info.icon : "";
  found.set(info.uuid, { id: info.uuid, name: info.name.slice(0, 60), rdns: String(info.rdns ?? ""), icon, provider });
  for (const listener of listeners) listener();
});
dispatchEvent(new Event("eip6963:requestProvider"));

class Problem extends Error {}

const stored = (store, key) => { try { return store.getItem(key); } catch { return null; } };
const store = (where, key, value) => { try { where.setItem(key, value); } catch { /* private browsing: not remembered */ } };
const same = (left, right) => String(left).toLowerCase() === String(right).toLowerCase();
const short = (account) => `${account.slice(0, 6)}…${account.slice(-4)}`;

function sentence(error) {
  if (error instanceof Problem) return error.message;
  const said = String(error?.data?.originalError?.message ?? error?.data?.message ?? error?.message ?? "").split("\n")[0].slice(0, 240);
  const known = {
    4001: "You declined in the wallet. Nothing was sent, and nothing is kept here.",
    4100: "The wallet has not allowed this page to use the account you signed in with. Choose that account in the wallet.",
    4200: "This wallet cannot do that. Use another wallet.",
    4900: "The wallet is connected to no chain. Check its network and try again.",
    4901: "The wallet is not connected to this chain. Switch its network and try again.",
    [-32002]: "The wallet waits for an answer to an earlier question. Open it and answer that first.",
  };
  const code = error?.code === -32603 ? error?.data?.originalError?.code ?? error.code : error?.code;
  return known[code] ?? `The wallet did not do it${said ? `: ${said}` : "."}`;
}

async function chosen() {
  const rdns = stored(localStorage, REMEMBERED);
  const find = () => [...found.values()].find((wallet) => wallet.rdns === rdns) ?? (found.size === 1 ? [...found.values()][0] : undefined);
  const until = Date.now() + SEARCH_MS;
  while (!find() && Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 50));
  const wallet = find();
  if (!wallet) throw new Problem("The wallet that you signed in with is not in this browser. Unlock or install it, or sign in again.");
  return wallet;
}

async function authorise(provider, account) {
  for (const method of ["eth_accounts", "eth_requestAccounts"]) {
    const accounts = await provider.request({ method });
    if (accounts.some((one) => same(one, account))) return;
  }
  throw new Problem(`The wallet does not offer ${short(account)}, the account you signed in with. Choose it there, or sign in again.`);
}

async function ensureChain(provider, network) {
  const present = async () => Number(await provider.request({ method: "eth_chainId" }));
  const chainId = `0x${network.chainId.toString(16)}`;
  const change = () => provider.request({ method: "wallet_switchEthereumChain", params: [{ chainId }] });
  if (await present() === network.chainId) return;
  try {
    await change();
  } catch (error) {
    if (error?.code !== UNKNOWN_CHAIN && error?.data?.originalError?.code !== UNKNOWN_CHAIN) throw error;
    await provider.request({
      method: "wallet_addEthereumChain",
      params: [{
        chainId,
        chainName: network.name,
        nativeCurrency: { name: "OPEN", symbol: "OPEN", decimals: 18 },
        rpcUrls: [network.rpcUrl],
        blockExplorerUrls: [network.pageUrl],
      }],
    });
    if (await present() !== network.chainId) await change();
  }
  const now = await present();
  if (now !== network.chainId) {
    throw new Problem(`The wallet is on chain ${now}; this is chain ${network.chainId} (${network.name}). Switch it there and try again.`);
  }
}

async function post(path, body) {
  const reply = await fetch(path, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  });
  const answer = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Problem(typeof answer.error === "string" ? answer.error : "This node did not answer as it should. Try again.");
  return answer;
}

const hex = (text) => `0x${[...new TextEncoder().encode(text)].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;

// Signs in with one of the wallets found; gives a sentence where that failed, nothing where the next page loads.
async function signIn(id) {
  const wallet = found.get(id);
  try {
    const [account] = await wallet.provider.request({ method: "eth_requestAccounts" });
    if (!account) throw new Problem("The wallet gave no account. Unlock it and try again.");
    const asked = await post("/sign-in/wallet/message", { address: account });
    await ensureChain(wallet.provider, asked.network);
    const signature = await wallet.provider.request({ method: "personal_sign", params: [hex(asked.message), account] });
    await post("/sign-in/wallet", { address: account, nonce: asked.nonce, signature });
    store(localStorage, REMEMBERED, wallet.rdns);
    location.replace("/wallet");
    return "";
  } catch (error) {
    return sentence(error);
  }
}

// Asks the wallet for one thing as the account that signed in: {value} or {error: sentence}.
async function ask(account, network, method, params) {
  try {
    const { provider } = await chosen();
    await authorise(provider, account);
    await ensureChain(provider, network);
    return { value: await provider.request({ method, params }) };
  } catch (error) {
    return { error: sentence(error), declined: error?.code === 4001 };
  }
}

async function leave(notice) {
  if (notice) store(sessionStorage, NOTICE, notice);
  await fetch("/sign-out", { method: "POST" }).catch(() => undefined);
  location.reload();
}

// Whoever changes the account in the wallet is somebody else from then on, so this page lets the old one go.
async function watch() {
  const account = document.querySelector("[data-wallet-account]")?.dataset.walletAccount;
  if (!account) return;
  const wallet = await chosen().catch(() => undefined);
  if (!wallet) return;
  const check = (accounts) => {
    if (accounts.length === 0) leave("The wallet was disconnected, so you are signed out here.");
    else if (!same(accounts[0], account)) leave(`The wallet now uses ${short(accounts[0])}, so ${short(account)} is signed out here.`);
  };
  wallet.provider.on?.("accountsChanged", check);
  const now = await wallet.provider.request({ method: "eth_accounts" }).catch(() => []);
  if (now.length > 0) check(now);
}

function begin() {
  if (!document.querySelector("main h1") || window.Quasar === undefined) return setTimeout(begin, 50);
  const notice = stored(sessionStorage, NOTICE);
  if (notice) {
    try { sessionStorage.removeItem(NOTICE); } catch { /* nothing is kept then */ }
    window.Quasar.Notify.create({ message: notice, type: "info", position: "bottom", timeout: 15000 });
  }
  watch();
}

window.openledgerWallet = {
  list: () => [...found.values()].map(({ id, name, icon }) => ({ id, name, icon })),
  onChange: (listener) => { listeners.add(listener); return () => listeners.delete(listener); },
  signIn,
  ask,
  leave,
};
begin();
