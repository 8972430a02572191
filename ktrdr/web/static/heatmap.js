// The heat map: a row a series, a column a trading day, one year. The table below it says the same.
"use strict";

const ROOT = document.documentElement.dataset.root;
const POLL_MS = 3000;
const DAY_MS = 86400000;
const FRAMES = ["1m", "5m", "15m", "30m", "1h", "4h", "1d"];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const HEAD = 18;
const LEAST_CELL = 3;
const LEAST_DAYS = 30;

// A state's colour, and its pattern: whether the pixel at x, y of its cells is of the second colour.
const STATES = {
  c: { words: "complete", pattern: () => false },
  f: { words: "filling", pattern: (x) => x % 4 < 2 },
  w: { words: "waiting or unproven", pattern: (x, y) => x % 4 < 2 && y % 4 < 2 },
  "!": { words: "failed or not understood", pattern: (x, y) => (x + y) % 6 < 2 },
  x: { words: "failed: contract or permission", pattern: (x, y) => (x + y) % 6 < 2 || (x - y + 600) % 6 < 2 },
  n: { words: "no trades, verified", pattern: (x, y) => y % 6 < 1 },
  ".": { words: "closed", pattern: () => false },
};
const NAMES = { c: "complete", f: "filling", w: "waiting", "!": "failed", x: "refused", n: "none", ".": "closed" };

class HeatMap {
  constructor(place) {
    this.place = place;
    this.grid = null;
    this.rows = [];
    this.cursor = null;
    this.build();
    new SharedPoll(`${ROOT}/api/v1/data/coverage/grid`, POLL_MS, (answer) => this.take(answer));
  }

  build() {
    this.scroller = this.add(this.place, "div", "scroller");
    this.spacer = this.add(this.scroller, "div", "spacer");
    this.canvas = this.add(this.spacer, "canvas", "");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-label",
      "Heat map: a row a series, a column a trading day. Arrow keys move, Enter opens the day; " +
      "the table below has the same series.");
    this.canvas.setAttribute("aria-describedby", "heatmap-cell");
    this.said = this.add(this.place, "p", "muted");
    this.said.id = "heatmap-cell";
    this.said.setAttribute("aria-live", "polite");
    this.old = this.add(this.place, "p", "notice warn");
    this.old.hidden = true;
    this.place.prepend(this.old);
    this.legend = this.add(this.place, "ul", "legend");
    for (const [letter, state] of Object.entries(STATES)) {
      const item = this.add(this.legend, "li", "");
      const sample = this.add(item, "canvas", "");
      sample.dataset.state = letter;
      sample.setAttribute("aria-hidden", "true");
      item.append(` ${state.words}`);
    }
    this.scroller.addEventListener("scroll", () => this.draw());
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", () => this.focusOn(null));
    this.canvas.addEventListener("click", (event) => this.open(this.cellAt(event)));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.place);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  add(parent, tag, name) {
    const element = document.createElement(tag);
    if (name) element.className = name;
    parent.append(element);
    return element;
  }

  // Data. Without an answer the page says that the status app does not answer.

  take({ text }) {
    if (text === undefined) return;
    const grid = JSON.parse(text);
    this.place.hidden = false; // before the first answer there is nothing to be seen
    if (grid.series) this.show(grid);
    else this.say(`The days are not known: ${grid.reason}`);
    this.scroller.hidden = this.legend.hidden = !this.rows.length;
    this.draw();
  }

  show(grid) {
    const { state, timeframe, text } = this.place.dataset;
    const words = text.replaceAll("_", " ").trim().split(/\s+/).join(" ").toLowerCase();
    const takes = (one) => (!state || one.state === state) && (!timeframe || one.timeframe === timeframe) &&
      `${one.symbol} ${one.timeframe}`.replaceAll("_", " ").toLowerCase().includes(words);
    const order = (a, b) => a.symbol < b.symbol ? -1 : a.symbol > b.symbol ? 1 :
      FRAMES.indexOf(a.timeframe) - FRAMES.indexOf(b.timeframe);
    this.grid = grid;
    this.showAge(grid);
    this.first = Date.parse(`${grid.first}T00:00:00Z`);
    const named = (row) => Object.fromEntries(grid.columns.map((name, place) => [name, row[place]]));
    this.rows = grid.series.map(named).filter(takes).sort(order);
    const begins = this.rows.map((one) => one.row.search(/\S/)).filter((begin) => begin >= 0);
    this.kept = Math.max(LEAST_DAYS, grid.days - Math.min(grid.days, ...begins));
    if (this.cursor) this.focusOn(this.cursor);
  }

  // Without the gap filler these are the days as they were: greyed, framed, and said so.
  showAge({ known_at: at }) {
    this.place.classList.toggle("is-old", Boolean(at));
    this.old.hidden = !at;
    if (at) this.old.textContent = `OLD: the days as they were known at ${at.slice(0, 16).replace("T", " ")} UTC.`;
  }

  // Drawing: only what is in sight, as whole lines of pixels.

  measure() {
    const ratio = Math.min(2, devicePixelRatio || 1);
    const width = this.place.clientWidth;
    const gutter = Math.min(130, Math.max(84, Math.round(width * 0.12)));
    const columns = Math.min(this.grid.days, this.kept, Math.floor((width - gutter) / LEAST_CELL));
    const cell = Math.floor((width - gutter) * ratio / columns);
    const line = this.rows.length > 40 ? 14 : 18;
    return { ratio, width, gutter, columns, cell, line, skipped: this.grid.days - columns };
  }

  draw() {
    if (!this.grid || !this.place.clientWidth) return;
    const size = this.size = this.measure();
    const total = HEAD + this.rows.length * size.line;
    const height = Math.min(total, Math.round(innerHeight * 0.7));
    this.scroller.style.maxHeight = `${height}px`;
    this.spacer.style.height = `${total}px`;
    this.canvas.style.width = `${size.width}px`;
    this.canvas.style.height = `${height}px`;
    this.canvas.width = size.width * size.ratio;
    this.canvas.height = height * size.ratio;
    this.top = this.scroller.scrollTop / size.line;
    const pen = this.canvas.getContext("2d");
    const style = getComputedStyle(this.place);
    this.colors = Object.fromEntries(Object.entries(NAMES).map(([letter, name]) => [letter, [
      pixel(style.getPropertyValue(`--map-${name}`)), pixel(style.getPropertyValue(`--map-${name}-mark`)),
    ]]));
    this.drawCells(pen, height);
    this.drawWords(pen, style, height);
    this.drawCursor(pen, style);
    for (const sample of this.legend.querySelectorAll("canvas")) this.drawSample(sample);
  }

  drawCells(pen, height) {
    const { ratio, columns, cell, line, gutter, skipped } = this.size;
    const tall = Math.round(line * ratio), wide = columns * cell;
    const begin = Math.floor(this.top);
    const end = Math.min(this.rows.length, begin + Math.ceil((height - HEAD) / line) + 1);
    if (end <= begin) return;
    const image = new ImageData(wide, (end - begin) * tall);
    const pixels = new Uint32Array(image.data.buffer);
    const lines = {};
    const lineOf = (letter, y) => {
      const key = letter + y;
      return lines[key] ??= this.patternLine(letter, y, wide, cell);
    };
    for (let row = begin; row < end; row++) {
      const states = this.rows[row].row;
      for (let from = skipped; from < states.length;) {
        const letter = states[from];
        let to = from + 1;
        while (to < states.length && states[to] === letter) to++;
        if (letter in STATES) {
          const left = (from - skipped) * cell, right = (to - skipped) * cell;
          for (let y = 0; y < tall - ratio; y++) {
            const at = ((row - begin) * tall + y) * wide;
            pixels.set(lineOf(letter, y).subarray(left, right), at + left);
          }
        }
        from = to;
      }
    }
    const y = Math.round(HEAD * ratio - (this.top - begin) * tall);
    pen.putImageData(image, gutter * ratio, y);
    pen.clearRect(0, 0, this.canvas.width, HEAD * ratio);
  }

  patternLine(letter, y, wide, cell) {
    const [plain, mark] = this.colors[letter];
    const found = new Uint32Array(wide);
    for (let x = 0; x < wide; x++) {
      if (cell > 3 && x % cell === cell - 1) continue;
      found[x] = STATES[letter].pattern(x, y) ? mark : plain;
    }
    return found;
  }

  drawSample(sample) {
    sample.width = 24;
    sample.height = 24;
    const image = new ImageData(24, 24);
    const pixels = new Uint32Array(image.data.buffer);
    const [plain, mark] = this.colors[sample.dataset.state];
    for (let at = 0; at < pixels.length; at++) {
      pixels[at] = STATES[sample.dataset.state].pattern(at % 24, Math.floor(at / 24)) ? mark : plain;
    }
    sample.getContext("2d").putImageData(image, 0, 0);
  }

  drawWords(pen, style, height) {
    const { ratio, columns, cell, line, gutter, skipped } = this.size;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.font = `${Math.min(12, line - 3)}px ${style.fontFamily}`;
    pen.textBaseline = "middle";
    pen.fillStyle = style.color;
    for (let row = Math.floor(this.top); row < this.rows.length; row++) {
      const y = HEAD + (row - this.top) * line + line / 2;
      if (y > height + line) break;
      if (y < HEAD) continue;
      const { symbol, timeframe } = this.rows[row];
      pen.fillText(`${symbol} ${timeframe}`, 0, y, gutter - 6);
    }
    let last = -100;
    for (let column = 0; column < columns; column++) {
      const day = new Date(this.first + (column + skipped) * DAY_MS);
      const x = gutter + column * cell / ratio;
      if (day.getUTCDate() !== 1 || x - last < 34 || x > this.size.width - 30) continue;
      const year = day.getUTCMonth() === 0 ? ` ${day.getUTCFullYear()}` : "";
      pen.fillText(MONTHS[day.getUTCMonth()] + year, x, HEAD / 2);
      last = x + (year ? 30 : 0);
    }
  }

  drawCursor(pen, style) {
    if (!this.cursor) return;
    const { ratio, cell, line, gutter, skipped } = this.size;
    const x = gutter + (this.cursor.day - skipped) * cell / ratio;
    const y = HEAD + (this.cursor.row - this.top) * line;
    pen.strokeStyle = style.color;
    pen.lineWidth = 2;
    pen.strokeRect(x - 1, y - 1, cell / ratio + 2, line + 1);
  }

  // Pointing, keys, and words on the cell in focus.

  cellAt(event) {
    if (!this.grid) return null;
    const box = this.canvas.getBoundingClientRect();
    const { ratio, cell, line, gutter, skipped } = this.size;
    const x = event.clientX - box.left, y = event.clientY - box.top - HEAD;
    const row = Math.floor(y / line + this.top);
    const day = x < gutter ? null : skipped + Math.floor((x - gutter) * ratio / cell);
    if (y < 0 || row >= this.rows.length || day >= this.grid.days) return null;
    return { row, day };
  }

  point(event) {
    const cell = this.cellAt(event);
    this.canvas.style.cursor = cell ? "pointer" : "";
    this.focusOn(cell && cell.day !== null ? cell : null);
  }

  key(event) {
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0],
      PageUp: [-10, 0], PageDown: [10, 0], Home: [0, -9999], End: [0, 9999] };
    if (!this.grid || !this.rows.length) return;
    if (event.key === "Enter" && this.cursor) this.open(this.cursor);
    if (!(event.key in steps)) return;
    event.preventDefault();
    const now = this.cursor ?? { row: Math.floor(this.top), day: this.grid.days };
    const [down, right] = steps[event.key];
    const row = between(0, now.row + down, this.rows.length - 1);
    const day = between(this.size.skipped, now.day + right, this.grid.days - 1);
    this.keepInSight(row);
    this.focusOn({ row, day });
  }

  keepInSight(row) {
    const { line } = this.size;
    const seen = this.scroller.clientHeight - HEAD - line;
    if (row * line < this.scroller.scrollTop) this.scroller.scrollTop = row * line;
    if (row * line > this.scroller.scrollTop + seen) this.scroller.scrollTop = row * line - seen;
  }

  focusOn(cell) {
    if (cell && cell.row >= this.rows.length) cell = null;
    this.cursor = cell;
    if (this.grid) this.draw();
    if (!cell) return;
    const { symbol, timeframe, row } = this.rows[cell.row];
    const when = new Date(this.dayOf(cell));
    const date = `${WEEKDAYS[when.getUTCDay()]} ${when.getUTCDate()} ${MONTHS[when.getUTCMonth()]} ${when.getUTCFullYear()}`;
    this.say(`${symbol} ${timeframe}, ${date}: ${STATES[row[cell.day]]?.words ?? "not kept"}`);
  }

  say(words) {
    if (this.said.textContent !== words) this.said.textContent = words;
  }

  dayOf(cell) {
    return this.first + cell.day * DAY_MS;
  }

  open(cell) {
    if (!cell) return;
    const { symbol, timeframe, row } = this.rows[cell.row];
    const series = `${ROOT}/series/${encodeURIComponent(symbol)}/${encodeURIComponent(timeframe)}`;
    const isDay = cell.day !== null && row[cell.day] in STATES;
    location.href = isDay ? `${series}/${new Date(this.dayOf(cell)).toISOString().slice(0, 10)}` : series;
  }
}

const between = (low, value, high) => Math.max(low, Math.min(value, high));

// `#rrggbb` as the four bytes of a pixel, the lowest first.
function pixel(color) {
  const value = Number.parseInt(color.trim().slice(1), 16);
  return (0xff000000 | ((value & 0xff) << 16) | (value & 0xff00) | (value >> 16)) >>> 0;
}

const place = document.getElementById("heatmap");
if (place) new HeatMap(place);
