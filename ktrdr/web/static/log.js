// Follows a log: requests what was added, and shows what matches. The page shows the end without it.
"use strict";

const LOG = document.getElementById("log");
const KEPT = 5000;
const FOLLOWS_MS = 1500;
const LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];

class Log {
  constructor(place) {
    this.place = place;
    this.find = (id) => document.getElementById(id);
    this.shown = this.find("log-lines");
    this.lines = [];
    this.cursor = "";
    this.isPaused = false;
    this.takes = () => true;
    place.querySelector(".with-script").hidden = false;
    place.querySelector("button[type=submit]").hidden = true;
    place.querySelector("form").addEventListener("submit", (event) => { event.preventDefault(); this.choose(); });
    for (const id of ["q", "level", "regex"]) this.find(id).addEventListener("input", () => this.choose());
    this.find("pause").addEventListener("click", () => this.pause());
    this.find("follow").addEventListener("change", () => this.toEnd());
    this.shown.addEventListener("scroll", () => this.noteScroll());
    this.choose();
    this.poll();
  }

  async poll() {
    let isMore = false;
    if (!this.isPaused && !document.hidden) isMore = await this.request();
    setTimeout(() => this.poll(), isMore ? 0 : FOLLOWS_MS);
  }

  async request() {
    try {
      const response = await fetch(`${this.place.dataset.lines}?after=${encodeURIComponent(this.cursor)}`);
      if (response.status === 400) this.forget(); // a cursor of an earlier run
      if (!response.ok) return false;
      const found = await response.json();
      const isFirst = !this.cursor;
      this.cursor = found.cursor;
      if (found.reason) this.say(`No lines: ${found.reason}.`);
      const added = found.is_new_file ? [["INFO", "— a new file —"], ...found.lines] : found.lines;
      this.add(added);
      return found.lines.length > 0 && !isFirst;
    } catch {
      return false; // the page itself shows that nothing answers
    }
  }

  forget() {
    this.cursor = "";
    this.lines = [];
    this.draw();
  }

  add(added) {
    if (!added.length) return;
    this.lines.push(...added);
    if (this.lines.length > KEPT) {
      this.lines = this.lines.slice(-KEPT);
      this.draw();
      return;
    }
    const chosen = added.filter(this.takes);
    this.shown.append(...chosen.map(row));
    this.tell();
    this.toEnd();
  }

  // What is shown. A regular expression that is wrong is told, and the one before stays.

  choose() {
    const least = LEVELS.indexOf(this.find("level").value);
    const text = this.find("q").value;
    let matches = (line) => line.toLowerCase().includes(text.toLowerCase());
    let wrong = "";
    if (this.find("regex").checked && text) {
      try {
        const pattern = new RegExp(text, "i");
        matches = (line) => pattern.test(line);
      } catch (error) {
        wrong = `Not a regular expression: ${error.message}`;
      }
    }
    this.find("log-error").textContent = wrong;
    this.find("q").setAttribute("aria-invalid", String(Boolean(wrong)));
    if (wrong) return;
    this.takes = ([level, line]) => LEVELS.indexOf(level) >= least && matches(line);
    this.draw();
  }

  draw() {
    this.shown.replaceChildren(...this.lines.filter(this.takes).map(row));
    this.tell();
    this.toEnd();
  }

  tell() {
    this.say(`${this.shown.childElementCount} of ${this.lines.length} lines match${this.isPaused ? "; paused" : ""}.`);
  }

  say(words) {
    this.find("log-said").textContent = words;
  }

  pause() {
    this.isPaused = !this.isPaused;
    this.find("pause").textContent = this.isPaused ? "Resume" : "Pause";
    this.tell();
  }

  toEnd() {
    if (this.find("follow").checked) this.shown.scrollTop = this.shown.scrollHeight;
  }

  // Who scrolls up wants to read; who is at the end again follows.
  noteScroll() {
    const left = this.shown.scrollHeight - this.shown.scrollTop - this.shown.clientHeight;
    this.find("follow").checked = left < 8;
  }
}

function row([level, text]) {
  const line = document.createElement("span");
  if (level === "ERROR" || level === "CRITICAL") line.className = "is-error";
  if (level === "WARNING") line.className = "is-warning";
  line.textContent = `${text}\n`;
  return line;
}

if (LOG) new Log(LOG);
