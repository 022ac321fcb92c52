// The feed: a socket that comes back by itself, and the status as the server last told it.

const SILENT_MS = 11_000; // the server beats every 4 s
const FIRST_MS = 400;
const LONGEST_MS = 5_000;
const FULL_MS = 10_000; // where there is no place: who knocks more often is only told so more often
const TRY_LATER = 1013;

// `told(status, transitions, isWhole)` with each news; `lost(at, why)` while it is not live, with
// the time of the last word, and why there is no place for us, where the server said so.
export class Feed {
  constructor(status, { told, live, lost }) {
    Object.assign(this, { status, told, live, lost, failures: 0 });
    this.skew = Date.parse(status.at) - Date.now();
    this.heardAt = status.at;
    this.connect();
    addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.hurry());
  }

  // Milliseconds since the epoch by the server's clock.
  now() {
    return Date.now() + this.skew;
  }

  connect() {
    clearTimeout(this.timer);
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws/v1/status`);
    this.socket = socket;
    socket.onmessage = (event) => this.hear(JSON.parse(event.data));
    socket.onclose = (event) => socket === this.socket && this.retry(event);
    this.watch();
  }

  // A connection that is silent is as good as none: proxies keep dead ones open for minutes.
  watch() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => {
      this.socket.onclose = null;
      this.socket.close();
      this.retry();
    }, SILENT_MS);
  }

  hurry() {
    if (this.socket.readyState > WebSocket.OPEN) this.connect();
  }

  retry({ code, reason } = {}) {
    clearTimeout(this.silence);
    clearTimeout(this.timer);
    const why = code === TRY_LATER ? reason : "";
    const longest = why ? FULL_MS : Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(this.failures, 10));
    this.failures += 1;
    this.lost(this.heardAt, why);
    this.timer = setTimeout(() => this.connect(), longest * (0.5 + Math.random() / 2));
  }

  hear(message) {
    this.watch();
    this.failures = 0;
    if (message.at) {
      this.skew = Date.parse(message.at) - Date.now();
      this.heardAt = message.at;
    }
    if (message.type === "snapshot") this.take(message, [], true);
    else if (message.type === "change") this.change(message);
    else if (message.type === "beat" && message.version > this.status.version) this.resync();
    this.live();
  }

  change(message) {
    if (message.previous !== this.status.version) return this.resync();
    const named = (row) => `${row.kind}/${row.provider}`;
    const rows = new Map(this.status.breakers.map((row) => [named(row), row]));
    message.gone.forEach((row) => rows.delete(named(row)));
    message.breakers.forEach((row) => rows.set(named(row), row));
    const breakers = [...rows.keys()].sort().map((name) => rows.get(name));
    const { type, previous, transition, transitions, gone, ...news } = message;
    return this.take({ ...this.status, ...news, breakers }, transitions, false);
  }

  take(status, transitions, isWhole) {
    this.status = status;
    this.told(status, transitions, isWhole);
  }

  resync() {
    this.socket.send('{"type":"resync"}');
  }
}
