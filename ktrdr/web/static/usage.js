// Draws what programs and connection have used in 24 hours. The page has the figures without it.
"use strict";

const USAGE = document.getElementById("usage");
const LEAST_S = 3600;
const USAGE_EVERY_MS = 60_000;
const HEIGHT = 96;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// What is drawn: a title, an aria-label, and the columns of each chart.

function plots(kind, usage) {
  if (kind === "pace") {
    const { in_flight, requests, bars } = usage.pace;
    return [["Bars per second", bars, []], ["Requests per second", requests, []], ["Requests in flight", in_flight, []]];
  }
  return Object.entries(usage.programs)
    .filter(([, one]) => one.memory.some((value) => value !== null))
    .flatMap(([name, one]) => [[`${name}: CPU in %`, one.cpu, one.restarts], [`${name}: memory in MiB`, one.memory, one.restarts]]);
}

function options(title, restarts, width) {
  const axis = { stroke: () => colour("muted"), grid: { stroke: () => colour("line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
  return {
    title, width, height: HEIGHT,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    cursor: { sync: { key: "usage" }, drag: { x: false, y: false }, y: false },
    scales: { x: { range: (_, first, last) => [Math.min(first, last - LEAST_S), last] }, y: { range: (_, low, high) => [0, Math.max(high ?? 0, low ?? 0, 1) * 1.05] } },
    axes: [{ ...axis, size: 24, space: 60, values: (_, splits) => splits.map(timeOfDay) }, { ...axis, size: 44, space: 25 }],
    series: [
      { value: (_, seconds) => (seconds === null ? "–" : exact(seconds)) },
      { label: title.split(": ").at(-1), stroke: () => colour("link"), width: 1.5, points: { show: false } },
    ],
    hooks: { draw: [(plot) => drawRestarts(plot, restarts)] },
  };
}

const timeOfDay = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 16);
const exact = (seconds) => `${new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ")} UTC`;

function drawRestarts(plot, restarts) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.strokeStyle = colour("bad");
  ctx.setLineDash([4, 4]);
  for (const at of restarts) {
    const x = plot.valToPos(at, "x", true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}

class Charts {
  constructor(place) {
    this.place = place;
    this.usage = null;
    this.drawn = [];
    new ResizeObserver(() => this.resize()).observe(place.parentElement);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    new SharedPoll(place.dataset.usage, USAGE_EVERY_MS, (answer) => this.take(answer));
  }

  // Without an answer the page itself shows that nothing answers.
  take({ text }) {
    if (text === undefined) return;
    this.usage = JSON.parse(text);
    this.draw();
  }

  draw() {
    if (!this.usage || this.usage.times.length < 2) return;
    for (const { plot } of this.drawn) plot.destroy();
    this.place.replaceChildren();
    this.place.hidden = false;
    this.drawn = plots(this.place.dataset.charts, this.usage).map(([title, column, restarts]) => {
      const figure = document.createElement("figure");
      this.place.append(figure);
      const plot = new uPlot(options(title, restarts, figure.clientWidth), [this.usage.times, column], figure);
      this.makeReadable(figure, plot, title, column);
      return { figure, plot };
    });
  }

  // Arrow keys move the cursor; the legend under the chart has time and value.
  makeReadable(figure, plot, title, column) {
    const known = column.filter((value) => value !== null);
    const last = known.at(-1) ?? "not known";
    figure.tabIndex = 0;
    figure.setAttribute("role", "group");
    figure.setAttribute("aria-label", `${title}: now ${last}, most ${Math.max(0, ...known)} in 24 hours. Arrow keys read it.`);
    figure.querySelector(".u-legend").setAttribute("aria-live", "polite");
    figure.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -60, PageDown: 60 }[event.key];
      if (!step) return;
      event.preventDefault();
      const from = plot.cursor.idx ?? this.usage.times.length - 1;
      const to = Math.min(Math.max(from + step, 0), this.usage.times.length - 1);
      plot.setCursor({ left: plot.valToPos(this.usage.times[to], "x"), top: 0 });
    });
  }

  resize() {
    for (const { figure, plot } of this.drawn) {
      if (figure.clientWidth && figure.clientWidth !== plot.width) plot.setSize({ width: figure.clientWidth, height: HEIGHT });
    }
  }
}

if (USAGE) new Charts(USAGE);
