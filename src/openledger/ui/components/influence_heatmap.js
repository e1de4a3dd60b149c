// The answer's tokens coloured by the influence of one record, or of all shown records together.
// A token comes as its parts: [text, whether these words stand verbatim in a record].
const plain = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const show = (value) => {
  const size = Math.abs(value);
  const digits = size === 0 || (size >= 1e-3 && size < 1e7) ? plain.format(size) : size.toExponential(2);
  return value > 0 ? `+${digits}` : value < 0 ? `−${digits}` : digits;
};

export default {
  template: `
    <div class="heatmap">
      <div class="heatmap-answer" tabindex="0" role="group" ref="answer"
           :aria-label="'Answer, coloured by the influence of ' + name + '. Left and right arrow keys read each word part.'"
           @keydown.left.prevent="step(-1)" @keydown.right.prevent="step(1)"
           @keydown.home.prevent="current = 0" @keydown.end.prevent="current = tokens.length - 1"
           @pointerleave="current = null"><span
             v-for="(token, index) in tokens" :key="index"
             :class="['token', { current: index === current }]" :style="{ background: colour(values[index]) }"
             @pointerenter="current = index" @pointerdown="current = index"
             ><span v-for="([text, verbatim], n) in token" :key="n" :class="{ verbatim: underline && verbatim }"
             >{{ text }}</span></span></div>
      <p class="heatmap-reading" aria-live="polite">{{ reading }}</p>
      <div class="heatmap-legend">
        <span class="legend-number">{{ show(-peak) }}</span>
        <span class="legend-scale" aria-hidden="true"></span>
        <span class="legend-number">{{ show(peak) }}</span>
        <span class="muted">makes these words less likely ← → more likely</span>
        <label v-if="verbatim" class="heatmap-underline">
          <input type="checkbox" v-model="underline"> underline verbatim words
        </label>
      </div>
      <fieldset class="heatmap-records">
        <legend>Colour by</legend>
        <label v-for="(row, index) in choices" :key="index" :class="['heatmap-record', { chosen: index === chosen }]">
          <input type="radio" :name="group" :value="index" v-model="chosen">
          <span class="heatmap-record-text">{{ row.label }}</span>
          <span class="heatmap-record-note">{{ row.note }}</span>
        </label>
      </fieldset>
    </div>`,
  props: { tokens: Array, rows: Array, verbatim: Boolean },
  data: () => ({ chosen: 0, current: null, underline: false, group: `heatmap-${Math.random().toString(36).slice(2)}` }),
  computed: {
    choices() {
      if (this.rows.length === 1) return this.rows;
      const total = this.tokens.map((_, index) => this.rows.reduce((sum, row) => sum + (row.values[index] ?? 0), 0));
      return [{ label: `All ${this.rows.length} top records together`, note: "sum", values: total }, ...this.rows];
    },
    values() { return this.choices[this.chosen].values; },
    name() { return this.choices[this.chosen].label; },
    peak() { return this.values.reduce((most, value) => Math.max(most, Math.abs(value)), 0); },
    texts() { return this.tokens.map((parts) => parts.map(([text]) => text).join("")); },
    reading() {
      if (this.current === null) return "Point at a word part, or move with the arrow keys, to read its value.";
      return `“${this.texts[this.current]}”: influence ${show(this.values[this.current] ?? 0)} of ${this.name}`;
    },
  },
  methods: {
    show,
    colour(value) {
      if (!this.peak || !value) return "transparent";
      const strength = Math.round((Math.abs(value) / this.peak) * 1000) / 10;
      return `color-mix(in srgb, var(--heat-${value > 0 ? "more" : "less"}) ${strength}%, transparent)`;
    },
    step(by) {
      const last = this.tokens.length - 1;
      this.current = Math.min(last, Math.max(0, (this.current ?? (by > 0 ? -1 : 1)) + by));
    },
  },
};
