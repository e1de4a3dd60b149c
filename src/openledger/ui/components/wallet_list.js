// The wallets that this browser has, to sign in with; wallet.js finds them.
export default {
  template: `
    <div class="wallets">
      <button v-for="wallet in wallets" :key="wallet.id" type="button" class="button" :aria-busy="String(busy === wallet.id)"
              :disabled="busy !== '' && busy !== wallet.id" @click="choose(wallet.id)">
        <img v-if="wallet.icon" :src="wallet.icon" alt="" width="20" height="20">
        <span>{{ wallet.name }}</span>
      </button>
      <p v-if="wallets.length === 0" class="muted">
        No wallet was found in this browser. Install one as an extension, such as MetaMask, Rabby or Coinbase Wallet, and reload.
      </p>
      <p v-if="busy" class="field-note" role="status">Look at your wallet: it asks whether to connect and to sign in.</p>
      <div class="problem" role="alert">{{ problem }}</div>
    </div>`,
  data: () => ({ wallets: [], busy: "", problem: "" }),
  mounted() {
    this.refresh();
    this.stop = window.openledgerWallet?.onChange(this.refresh);
  },
  unmounted() { this.stop?.(); },
  methods: {
    refresh() { this.wallets = window.openledgerWallet?.list() ?? []; },
    async choose(id) {
      if (this.busy) return;
      this.busy = id;
      this.problem = "";
      this.problem = await window.openledgerWallet.signIn(id);
      this.busy = "";
    },
  },
};
