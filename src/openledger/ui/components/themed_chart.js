import { echarts } from "nicegui-echart";

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });
const FORMATS = {
  compact: (value) => compact.format(value),
  open: (value) => `${compact.format(value)} OPEN`,
  loss: (value) => Number(value).toPrecision(4),
  months: (value) => `${value} mo`,
};

// Strings such as "var(--accent)" become the theme's colour; {"format": name} becomes one of the functions above.
function resolve(value, style) {
  if (Array.isArray(value)) return value.map((item) => resolve(item, style));
  if (value !== null && typeof value === "object") {
    if (Object.keys(value).length === 1 && value.format in FORMATS) return FORMATS[value.format];
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolve(item, style)]));
  }
  const name = typeof value === "string" ? value.match(/^var\((--[\w-]+)\)$/) : null;
  return name ? style.getPropertyValue(name[1]).trim() : value;
}

export default {
  template: `<div class="chart" role="img" :aria-label="label"></div>`,
  props: { options: Object, label: String },
  mounted() {
    this.chart = echarts.init(this.$el);
    this.observer = new ResizeObserver(() => this.chart.resize());
    this.observer.observe(this.$el);
    addEventListener("openledger-theme", this.draw);
    this.draw();
  },
  beforeUnmount() {
    removeEventListener("openledger-theme", this.draw);
    this.observer.disconnect();
    this.chart.dispose();
  },
  watch: { options() { this.draw(); } },
  methods: {
    draw() {
      const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
      const options = resolve(this.options, getComputedStyle(document.documentElement));
      this.chart.setOption({ animation: !still, ...options });
    },
  },
};
