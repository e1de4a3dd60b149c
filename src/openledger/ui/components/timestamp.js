// What is recorded is past: a time ahead of this clock means that the chain's clock runs ahead, as it does after a demo.
const STEPS = [["day", 86400], ["hour", 3600], ["minute", 60]];

export default {
  template: `<time class="timestamp" :datetime="machine" :data-tip="exact">{{ text }}</time>`,
  props: { at: Number, exact: String },
  data: () => ({ now: Date.now() / 1000 }),
  computed: {
    machine() {
      const date = new Date(this.at * 1000);
      return Number.isNaN(date.getTime()) ? undefined : date.toISOString();
    },
    text() {
      const age = this.now - this.at;
      if (age > 30 * 86400) return this.exact.slice(0, 10);
      for (const [unit, seconds] of STEPS) {
        const count = Math.floor(age / seconds);
        if (count >= 1) return `${count} ${unit}${count === 1 ? "" : "s"} ago`;
      }
      return "just now";
    },
  },
  mounted() {
    this.timer = setInterval(() => { this.now = Date.now() / 1000; }, 15000);
  },
  unmounted() {
    clearInterval(this.timer);
  },
};
