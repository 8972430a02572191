// Refreshes the page's sections, and shows when it cannot. The page works without it.
"use strict";

const POLL_MS = 2000;
const PATIENCE_MS = 8000;

const shown = new Map();
let lastAnswer = new Date();
let timer = 0;

async function poll() {
  clearTimeout(timer);
  try {
    const response = await fetch("/live", { signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    show(await response.json());
    lastAnswer = new Date();
    document.body.classList.remove("is-lost");
    document.getElementById("lost").hidden = true;
  } catch {
    showLost();
  }
  if (!document.hidden) timer = setTimeout(poll, POLL_MS);
}

function showLost() {
  const at = lastAnswer.toISOString().slice(0, 19).replace("T", " ");
  const words = `The status app does not answer: nothing below is newer than ${at} UTC. ` +
    "Next step: .venv/bin/supervisorctl restart status-app";
  const lost = document.getElementById("lost");
  if (lost.textContent !== words) lost.textContent = words;
  lost.hidden = false;
  document.body.classList.add("is-lost");
  document.title = "no answer – ktrdr";
}

function show(update) {
  document.title = update.title;
  document.getElementById("as-of").textContent = update.time.slice(0, 19).replace("T", " ");
  for (const [name, html] of Object.entries(update.sections)) {
    const place = document.querySelector(`[data-live="${name}"]`);
    if (shown.get(name) === html || isInUse(place)) continue;
    replace(place, html);
    shown.set(name, html);
  }
}

// Leave a section alone while a person selects text in it or has the focus there.
function isInUse(place) {
  const selection = getSelection();
  if (!selection.isCollapsed && place.contains(selection.anchorNode)) return true;
  const focus = document.activeElement;
  return place.contains(focus) && focus.matches("a, pre, button");
}

// The HTML is rendered and escaped by our own server, as on the first load.
function replace(place, html) {
  const open = new Map([...place.querySelectorAll("details")].map((one) => [one.id, one.open]));
  const focused = place.contains(document.activeElement) ? document.activeElement.closest("details") : null;
  place.innerHTML = html;
  for (const one of place.querySelectorAll("details")) {
    if (open.has(one.id)) one.open = open.get(one.id);
    if (focused && one.id === focused.id) one.querySelector("summary").focus();
  }
  scrollLogs();
}

function scrollLogs() {
  for (const log of document.querySelectorAll("pre")) log.scrollTop = log.scrollHeight;
}

async function scan(event) {
  event.preventDefault();
  const button = event.target.querySelector("button");
  const output = document.getElementById("scan-result");
  button.disabled = true;
  output.textContent = "Requesting …";
  try {
    const response = await fetch("/api/v1/system/gap-filler/force-scan", { method: "POST" });
    const answer = await response.json();
    output.textContent = response.ok ? "Scan requested." : `Not done: ${answer.reason}`;
  } catch {
    output.textContent = "Not done: the status app does not answer.";
  }
  button.disabled = false;
  poll();
}

document.getElementById("scan").addEventListener("submit", scan);
document.addEventListener("visibilitychange", () => document.hidden || poll());
scrollLogs();
timer = setTimeout(poll, POLL_MS);
