// The chart of a series' page: candles and volume, gaps hatched, sessions shaded, revisions as dots.
"use strict";

{
const CHUNK = 1500;
const MOST_BARS = 50000;
const MOST_REFRESHED = 5000;
const MOST_PAGES = 50;
const MOST_REVISIONS = 1000; // as many as are on record
const MOST_DRAWN = 300; // of one gap; a wider one is drawn narrower
const NEAR_EDGE = 100;
const DECIMALS_OF = 500; // bars whose prices are looked at
const MOST_DECIMALS = 8;
const LENGTHS = { "1m": 60, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "4h": 14400, "1d": 86400 };

const PLACE = document.getElementById("chart");
const facts = () => document.getElementById("chart-data").dataset;
const seconds = (text) => Math.floor(Date.parse(text) / 1000);
const iso = (time) => new Date(time * 1000).toISOString();

// What is loaded.

let bars = new Map(); // start (UTC seconds) → bar
let gaps = []; // [first, last, bars, why]
let revisions = new Map(); // start → its revisions, the newest first
let loadedFrom = 0;
let isBusy = false;
let shownVersion = "";
let shownRevised = "";
let bands = []; // [first, last] of each session that is shaded
let hatched = []; // [first, last] of each gap that is drawn

async function fetchBars(start, end) {
  const query = new URLSearchParams({ start: iso(start), end: iso(end), format: "json" });
  const found = [];
  let url = `${facts().bars}?${query}`;
  for (let page = 0; url && page < MOST_PAGES; page++) {
    const answer = await fetch(url, { headers: { Accept: "application/json" } });
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.detail ?? body.reason ?? body.title ?? `HTTP ${answer.status}`);
    const place = Object.fromEntries(body.columns.map((name, at) => [name, at]));
    for (const row of body.bars) {
      const bar = { time: seconds(row[place.timestamp]) };
      for (const name of ["open", "high", "low", "close", "volume"]) bar[name] = row[place[name]];
      found.push(bar);
    }
    url = nextPage(body);
  }
  return found;
}

function nextPage(body) {
  const next = body.next ? new URL(body.next, location.href) : null;
  return next ? `${next.pathname}${next.search}` : "";
}

async function fetchGaps(start) {
  const query = new URLSearchParams({ start: iso(start), end: iso(Date.now() / 1000) });
  const answer = await fetch(`${facts().gaps}?${query}`);
  return answer.ok ? (await answer.json()).gaps : gaps;
}

async function fetchRevisions(start) {
  const query = new URLSearchParams({ start: iso(start), limit: MOST_REVISIONS });
  const answer = await fetch(`${facts().revisions}?${query}`, { headers: { Accept: "application/json" } });
  const found = answer.ok ? (await answer.json()).revisions : null;
  if (!found) return revisions; // those that were known
  const byStart = new Map();
  for (const one of found.filter(({ timestamp }) => timestamp)) {
    const time = seconds(one.timestamp);
    byStart.set(time, [...(byStart.get(time) ?? []), one]);
  }
  return byStart;
}

/** Load the bars in [start, end) in place of those that are there. */
async function load(start, end) {
  isBusy = true;
  try {
    const found = await fetchBars(start, end);
    for (const time of [...bars.keys()]) if (time >= start && time < end) bars.delete(time);
    for (const bar of found) bars.set(bar.time, bar);
    loadedFrom = Math.min(loadedFrom, start);
    [gaps, revisions] = await Promise.all([fetchGaps(loadedFrom), fetchRevisions(loadedFrom)]);
    show();
    say("");
    return found.length;
  } catch (error) {
    say(`The bars could not be loaded: ${error.message}`);
    return null;
  } finally {
    isBusy = false;
  }
}

async function loadNewest() {
  const last = seconds(facts().last);
  const start = facts().start ? seconds(facts().start) : last - CHUNK * length();
  loadedFrom = start;
  shownVersion = facts().version;
  shownRevised = facts().revised;
  await load(start, last + length());
}

async function loadOlder() {
  const [first, last] = [seconds(facts().first), seconds(facts().last)];
  for (let width = 1; !isBusy && loadedFrom > first && bars.size < MOST_BARS; width *= 4) {
    const spacing = bars.size ? (last - loadedFrom) / bars.size : length();
    const start = Math.max(first, Math.floor(loadedFrom - CHUNK * Math.max(spacing, length()) * width));
    if ((await load(start, loadedFrom)) !== 0) return;
  }
}

async function refresh() {
  const { version, revised, last } = facts();
  const isRevised = revised !== shownRevised; // any of the bars may be another one
  if (isBusy || (version === shownVersion && !isRevised) || !last) return;
  if (!bars.size) return loadNewest();
  shownVersion = version;
  shownRevised = revised;
  const times = [...bars.keys()].sort((a, b) => a - b);
  await load((!isRevised && times.at(-MOST_REFRESHED)) || loadedFrom, seconds(last) + length());
}

const length = () => LENGTHS[facts().timeframe] ?? 60;

function say(words) {
  const place = document.getElementById("chart-trouble");
  place.textContent = words;
  place.hidden = !words;
  PLACE.hidden = Boolean(words) && !bars.size; // an empty chart says nothing
}

// From bars and gaps to the points of the time axis, which has no place for what has no point.

function startsOf([first, last, count]) {
  const step = length();
  if ((last - first) / step + 1 <= count) return range(first, step, count);
  const drawn = Math.min(count, MOST_DRAWN);
  const apart = drawn > 1 ? (last - first) / (drawn - 1) : 0;
  return range(0, 1, drawn).map((at) => first + Math.round((at * apart) / step) * step);
}

const range = (first, step, count) => Array.from({ length: count }, (_, at) => first + at * step);

function points() {
  const found = new Map(bars);
  for (const gap of gaps) {
    if (gap[1] < loadedFrom) continue;
    for (const time of startsOf(gap)) {
      if (time >= loadedFrom && !found.has(time)) found.set(time, { time });
    }
  }
  return [...found.values()].sort((a, b) => a.time - b.time);
}

/** Every other session: one ends where the next point is further away than a bar is long. */
function sessions(all) {
  const found = [];
  for (const { time } of all) {
    const session = found.at(-1);
    if (session && time - session[1] <= length()) session[1] = time;
    else found.push([time, time]);
  }
  return found.filter(([first], at) => (isDaily() ? weekOf(first) : at) % 2 === 1);
}

const isDaily = () => facts().timeframe === "1d";
const weekOf = (time) => Math.floor((time / 86400 + 3) / 7); // weeks begin on Mondays

// The chart.

let chart;
let candles;
let volume;
let dots;

function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  probe.style.forcedColorAdjust = "none";
  PLACE.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function build() {
  PLACE.hidden = false;
  const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
  chart = LightweightCharts.createChart(PLACE, {
    autoSize: true,
    localization: { dateFormat: "yyyy-MM-dd", timeFormatter: inUtcWords },
    timeScale: { timeVisible: !isDaily(), secondsVisible: false, rightOffset: 3 },
    rightPriceScale: { scaleMargins: { top: 0.08, bottom: 0.24 } },
    handleScroll: { vertTouchDrag: false },
    kineticScroll: { touch: !isStill, mouse: false },
  });
  candles = chart.addSeries(LightweightCharts.CandlestickSeries, { priceLineVisible: false });
  volume = chart.addSeries(LightweightCharts.HistogramSeries, {
    priceScaleId: "", priceFormat: { type: "volume" }, priceLineVisible: false, lastValueVisible: false,
  });
  volume.priceScale().applyOptions({ scaleMargins: { top: 0.82, bottom: 0 } });
  candles.attachPrimitive(backdrop);
  dots = LightweightCharts.createSeriesMarkers(candles, []);
  chart.timeScale().subscribeVisibleLogicalRangeChange((visible) => {
    if (visible && visible.from < NEAR_EDGE && bars.size) loadOlder();
  });
  chart.subscribeCrosshairMove(({ time }) => showBar(time));
  paint();
}

function paint() {
  const ink = colour("--ink");
  const line = colour("--line");
  chart.applyOptions({
    layout: { background: { color: colour("--card") }, textColor: ink, attributionLogo: true },
    grid: { vertLines: { color: line }, horzLines: { color: line } },
    rightPriceScale: { borderColor: line },
    timeScale: { borderColor: line },
  });
  candles.applyOptions({ // hollow if it rose, so that it does not show by colour alone
    upColor: colour("--card"), borderUpColor: colour("--good"), wickUpColor: colour("--good"),
    downColor: colour("--bad"), borderDownColor: colour("--bad"), wickDownColor: colour("--bad"),
  });
  volume.applyOptions({ color: colour("--chart-volume") });
  hatchOf = null;
  showDots();
}

/** How many decimals the prices have: two of a stock, five of a currency. */
function decimals() {
  const closes = [...bars.values()].slice(-DECIMALS_OF).map(({ close }) => `${close}`.split(".")[1] ?? "");
  return Math.min(MOST_DECIMALS, Math.max(2, ...closes.map((part) => part.length)));
}

function show() {
  const all = points();
  const precision = decimals();
  candles.applyOptions({ priceFormat: { type: "price", precision, minMove: 10 ** -precision } });
  bands = sessions(all);
  hatched = gaps.flatMap((gap) => {
    const starts = startsOf(gap).filter((time) => time >= loadedFrom && !bars.has(time));
    return starts.length ? [[starts[0], starts.at(-1)]] : [];
  });
  candles.setData(all);
  volume.setData(all.map((bar) => (bar.volume > 0 ? { time: bar.time, value: bar.volume } : { time: bar.time })));
  showDots();
}

function showDots() {
  const times = [...revisions.keys()].filter((time) => bars.has(time)).sort((a, b) => a - b);
  const look = { position: "aboveBar", shape: "circle", color: colour("--busy") };
  dots.setMarkers(times.map((time) => ({ time, ...look })));
}

const inUtcWords = (time) =>
  isDaily() ? iso(time).slice(0, 10) : `${iso(time).slice(0, 16).replace("T", " ")} UTC`;

function showBar(time) {
  const place = document.getElementById("chart-bar");
  const bar = bars.get(time);
  const gap = bar ? null : gaps.find(([first, last]) => first <= time && time <= last);
  place.hidden = !bar && !gap;
  if (gap) place.textContent = `${inUtcWords(time)}: missing, ${gap[2]} bars ${gap[3]}`;
  if (!bar) return;
  const { open, high, low, close } = bar;
  const words = Object.entries({ open, high, low, close, volume: bar.volume });
  const revised = (revisions.get(time) ?? []).map(inWords).join("");
  place.textContent = `${inUtcWords(time)}: ${words.map(([name, value]) => `${name} ${value}`).join(", ")}${revised}`;
}

function inWords({ corrected_at: at, old, new: now, is_left: isLeft }) {
  const changes = Object.keys(old).filter((name) => old[name] !== now[name]).map((name) => `${name} ${old[name]} → ${now[name]}`);
  const when = `${at.slice(0, 16).replace("T", " ")} UTC`;
  return `; ${isLeft ? `left as it is, by IB on ${when}` : `corrected ${when}`}: ${changes.join(", ")}`;
}

// Behind the candles: sessions as bands, gaps as hatching.

let hatchOf = null;

function hatch(context, ratio) {
  if (hatchOf) return hatchOf;
  const size = Math.round(8 * ratio);
  const tile = document.createElement("canvas");
  tile.width = tile.height = size;
  const pen = tile.getContext("2d");
  pen.strokeStyle = colour("--warn");
  pen.lineWidth = ratio;
  pen.beginPath();
  for (const shift of [-size, 0, size]) {
    pen.moveTo(shift, size);
    pen.lineTo(shift + size, 0);
  }
  pen.stroke();
  hatchOf = { lines: context.createPattern(tile, "repeat"), back: colour("--warn-back"), band: colour("--chart-band") };
  return hatchOf;
}

function drawBackdrop({ context, bitmapSize, horizontalPixelRatio: ratio }) {
  const { lines, back, band } = hatch(context, ratio);
  for (const [first, last] of bands) fillBetween(context, bitmapSize, ratio, first, last, [band]);
  for (const [first, last] of hatched) fillBetween(context, bitmapSize, ratio, first, last, [back, lines]);
}

function fillBetween(context, { width, height }, ratio, first, last, fills) {
  const scale = chart.timeScale();
  const [left, right] = [scale.timeToCoordinate(first), scale.timeToCoordinate(last)];
  if (left === null || right === null) return;
  const half = scale.options().barSpacing / 2;
  const [from, to] = [Math.max(0, (left - half) * ratio), Math.min(width, (right + half) * ratio)];
  if (to <= 0 || from >= width) return;
  for (const fill of fills) {
    context.fillStyle = fill;
    context.fillRect(from, 0, Math.max(1, to - from), height);
  }
}

const backdrop = {
  updateAllViews() {},
  paneViews: () => [{
    zOrder: () => "bottom",
    renderer: () => ({ draw: (target) => target.useBitmapCoordinateSpace(drawBackdrop) }),
  }],
};

// Keys.

function press(event) {
  const scale = chart.timeScale();
  const visible = scale.getVisibleLogicalRange();
  if (!visible || event.ctrlKey || event.metaKey || event.altKey) return;
  const width = visible.to - visible.from;
  const moves = {
    ArrowLeft: () => move(visible, -width / 10),
    ArrowRight: () => move(visible, width / 10),
    "+": () => zoom(visible, 0.8), "=": () => zoom(visible, 0.8),
    "-": () => zoom(visible, 1.25), "−": () => zoom(visible, 1.25),
    Home: () => move(visible, -visible.from),
    End: () => scale.scrollToRealTime(),
  };
  if (!moves[event.key]) return;
  event.preventDefault();
  moves[event.key]();
}

function move({ from, to }, by) {
  chart.timeScale().setVisibleLogicalRange({ from: from + by, to: to + by });
}

/** Zoom at the right edge. */
function zoom({ from, to }, by) {
  chart.timeScale().setVisibleLogicalRange({ from: to - Math.max(5, (to - from) * by), to });
}

function begin() {
  if (!facts().last) return;
  build();
  loadNewest();
}

if (PLACE && window.LightweightCharts) {
  begin();
  PLACE.addEventListener("keydown", press);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => chart && paint());
  document.addEventListener("htmx:after:swap", () => (chart ? refresh() : begin()));
}
}
