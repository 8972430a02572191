// Requests an address again and again: one tab of the browser does it for all that show the same.
"use strict";

const PATIENCE_MS = 8000;

// Of all tabs with the same address the one that requested last goes on. The others take its answers,
// and one of them goes on when it is silent: it was closed, hidden or frozen, or has crashed. This is
// done by messages, since browsers have locks for https and loopback alone. Without messages each tab
// requests for itself.
class SharedPoll {
  // `take` gets { ok, at, text } with each answer: whether the last request was answered; when one was;
  // and what is new, or undefined. `tag`: the ETag of what is shown; empty: it is requested at once.
  constructor(address, everyMs, take, tag = "") {
    Object.assign(this, { address, everyMs, take, tag, leads: false, isOpen: false, ok: true, at: new Date() });
    this.channel = null;
    this.join();
    document.addEventListener("freeze", () => this.leave());
    document.addEventListener("resume", () => this.join());
    document.addEventListener("visibilitychange", () => this.catchUp());
    this.wait();
    if (!tag) this.request();
  }

  join() {
    if (!window.BroadcastChannel) return;
    this.channel = new BroadcastChannel(`ktrdr ${this.address}`);
    this.channel.addEventListener("message", ({ data }) => this.hear(data));
  }

  // For a frozen tab the browser would keep all messages.
  leave() {
    this.channel?.close();
    this.channel = null;
  }

  // The next request is due later in those that only step in, and not in all at once.
  wait() {
    this.heard = performance.now();
    const times = this.leads || !this.channel ? 1 : 1.35 + Math.random() / 3;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.request(), this.everyMs * times);
  }

  async request() {
    if (document.hidden || this.isOpen) return;
    this.isOpen = true;
    this.channel?.postMessage(null);
    const found = await answerOf(this.address, this.tag);
    this.isOpen = false;
    const answer = { tag: this.tag, ...found };
    this.channel?.postMessage(answer);
    this.leads = true;
    this.wait();
    this.use(answer);
  }

  // null: another tab has begun a request.
  hear(answer) {
    this.leads = false;
    this.wait();
    if (!answer) return;
    const isMissing = answer.ok && answer.text === undefined && answer.tag !== this.tag;
    if (isMissing) this.request();
    else this.use(answer);
  }

  use({ ok, tag, text }) {
    this.ok = ok;
    if (ok) this.at = new Date();
    if (text !== undefined && (!tag || tag !== this.tag)) [this.tag, this.text] = [tag, text];
    this.show();
  }

  // A hidden tab keeps the newest answer for when it is looked at.
  show() {
    if (document.hidden) return;
    const { ok, at, text } = this;
    this.text = undefined;
    this.take({ ok, at, text });
  }

  catchUp() {
    this.show();
    if (performance.now() - this.heard >= this.everyMs) this.request();
  }
}

// Without `tag` and `text`: nothing has changed.
async function answerOf(address, tag) {
  try {
    const headers = tag ? { "If-None-Match": tag } : {};
    const response = await fetch(address, { headers, signal: AbortSignal.timeout(PATIENCE_MS) });
    if (response.status !== 200) return { ok: response.status === 304 };
    return { ok: true, tag: response.headers.get("ETag") ?? "", text: await response.text() };
  } catch {
    return { ok: false };
  }
}
