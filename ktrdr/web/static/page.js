// Keeps the live part of a page new, and shows when it cannot. The page works without it.
"use strict";

const LIVE = document.getElementById("live");
const RENEWED_MS = 2000;
const TICK_MS = 1000;

// Live updates: requested every two seconds, answered with 304 while nothing has changed.

const NO_ANSWER = "no answer – ktrdr";

let title = document.title;

function renew({ ok, at, text }) {
  if (text !== undefined) htmx.swap({ sourceElement: LIVE, target: LIVE, swap: "innerMorph", text });
  if (!ok) return showLost(at);
  document.body.classList.remove("is-lost");
  document.getElementById("lost").hidden = true;
  if (document.title === NO_ANSWER) document.title = title;
}

document.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
  if (ctx.sourceElement === LIVE) freshen();
});

function showLost(lastAnswer) {
  const at = lastAnswer.toISOString().slice(0, 19).replace("T", " ");
  const words = `The status app does not answer: nothing below is newer than ${at} UTC. ` +
    "Next step: .venv/bin/supervisorctl restart status-app";
  const lost = document.getElementById("lost");
  if (lost.textContent !== words) lost.textContent = words;
  lost.hidden = false;
  document.body.classList.add("is-lost");
  if (document.title !== NO_ANSWER) title = document.title;
  document.title = NO_ANSWER;
}

function freshen() {
  const icon = document.querySelector("[data-icon]");
  const link = document.getElementById("icon");
  if (icon && link.getAttribute("href") !== icon.dataset.icon) link.href = icon.dataset.icon;
  for (const log of document.querySelectorAll("pre.log:not(:hover)")) log.scrollTop = log.scrollHeight;
  for (const code of document.querySelectorAll("code.copy:not([tabindex])")) {
    code.tabIndex = 0;
    code.title = "Click or press Enter to copy";
  }
  showTimes();
}

// Times: how long ago, or in the zone of exchange, machine or UTC; all of these when pointed at or in focus.

const ZONES = { ago: "how long ago", exchange: "exchange time", local: "local time", utc: "UTC" };
const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
const LOCAL = Intl.DateTimeFormat().resolvedOptions().timeZone;
let zone = localStorage.getItem("zone");
if (!(zone in ZONES)) zone = "ago";

function showTimes() {
  const now = Date.now();
  for (const time of document.querySelectorAll("time[datetime]")) {
    const when = new Date(time.dateTime);
    const isFixed = "clock" in time.dataset || "minute" in time.dataset;
    const isDue = "due" in time.dataset && when <= now;
    const words = isDue ? time.dataset.due :
      zone === "ago" && !isFixed ? distance((when - now) / 1000) : inChosenZone(time, when);
    if (time.textContent !== words) time.textContent = words;
    const all = [inZone(when, "UTC"), inZone(when, LOCAL), inZone(when, time.dataset.zone)];
    const title = [...new Set(all.filter(Boolean))].join("\n");
    if (time.title !== title) time.title = title;
    if (!("minute" in time.dataset)) time.tabIndex = 0; // it is exact as it stands
  }
}

// Where no exchange is known, and for the starts of bars while distances are shown: in UTC.
function inChosenZone(time, when) {
  const name = zone === "local" ? LOCAL : zone === "exchange" ? time.dataset.zone ?? "UTC" : "UTC";
  if ("clock" in time.dataset) return clock(when, name);
  return inZone(when, name, "minute" in time.dataset ? "short" : "medium") || inZone(when, "UTC");
}

function distance(seconds) {
  if (Math.abs(seconds) < 1) return "now";
  let left = Math.round(Math.abs(seconds));
  const parts = [];
  for (const [length, unit] of UNITS) {
    const whole = Math.floor(left / length);
    left -= whole * length;
    if (whole || parts.length) parts.push(whole ? `${whole}\u202f${unit}` : "");
  }
  const words = parts.slice(0, 2).filter(Boolean).join(" ") || "0\u202fs";
  return seconds > 0 ? `in ${words}` : `${words} ago`;
}

// Empty: the browser does not know the zone.
function inZone(when, name, timeStyle = "medium") {
  if (!name) return "";
  const how = { timeZone: name, dateStyle: "short", timeStyle, hourCycle: "h23" };
  try {
    return `${formatter("sv-SE", how).format(when)} ${name}`;
  } catch {
    return "";
  }
}

// The time of day, with its day.
function clock(when, timeZone) {
  const how = { timeZone, weekday: "short", day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  const parts = Object.fromEntries(formatter("en-GB", how).formatToParts(when).map((part) => [part.type, part.value]));
  return `${parts.weekday} ${parts.day} ${parts.month}, ${parts.hour}:${parts.minute} ${timeZone}`;
}

// Each is made once: a browser needs some 20 KB for one, and frees them late.
const FORMATTERS = new Map();

function formatter(language, how) {
  const key = language + JSON.stringify(how);
  if (!FORMATTERS.has(key)) FORMATTERS.set(key, new Intl.DateTimeFormat(language, how));
  return FORMATTERS.get(key);
}

function addZones() {
  const place = document.getElementById("zones");
  place.textContent = "";
  for (const [name, words] of Object.entries(ZONES)) {
    const label = document.createElement("label");
    const input = document.createElement("input");
    Object.assign(input, { type: "radio", name: "zone", value: name, checked: name === zone });
    input.addEventListener("change", () => {
      zone = name;
      localStorage.setItem("zone", name);
      showTimes();
    });
    label.append(input, ` ${words}`);
    place.append(label, " ");
  }
}

// A time in focus or tapped is shown exactly, and so is what stands in a title where nobody can point.

function showExact(event) {
  const time = event.target.closest?.("time[title], [data-exact]");
  document.querySelector(".exact")?.remove();
  if (!time) return;
  const exact = document.createElement("span");
  exact.className = "exact";
  exact.setAttribute("role", "tooltip");
  exact.textContent = time.dataset.exact ?? time.title;
  document.body.append(exact);
  const box = time.getBoundingClientRect();
  const left = Math.min(box.left, document.documentElement.clientWidth - exact.offsetWidth - 8);
  exact.style.left = `${Math.max(8, left) + scrollX}px`;
  exact.style.top = `${box.bottom + scrollY + 4}px`;
}

document.addEventListener("focusin", showExact);
document.addEventListener("click", showExact);

// Copying, and keys.

async function copy(event) {
  const code = event.target.closest?.("code.copy");
  if (!code || !navigator.clipboard) return;
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    return;
  }
  code.classList.add("is-copied");
  setTimeout(() => code.classList.remove("is-copied"), 1200);
}

document.addEventListener("click", copy);
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "Enter") copy(event);
  if (event.key === "Escape") document.querySelector(".exact")?.remove();
  const search = document.getElementById("q");
  if (event.key === "/" && search && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    search.focus();
    search.select();
  }
});

addZones();
freshen();
setInterval(showTimes, TICK_MS);
if (LIVE.dataset.live) new SharedPoll(LIVE.dataset.live, RENEWED_MS, renew, LIVE.dataset.tag);
