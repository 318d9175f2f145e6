// The websocket: stays connected, comes back after random pauses, tells its state.

/** @typedef {import('./model.js').LivePoint} LivePoint */
/**
 * @typedef {object} Listener
 * @property {(series: number) => void} hello a connection begins; how many series the server has
 * @property {(points: LivePoint[], gap: boolean) => void} points gap: some were left out before
 * @property {() => void} state `connected` or `retryAt` has changed
 */

const firstPause = 500;
const longestPause = 15_000;
const quietLimit = 30_000;

export class Socket {
  connected = false;
  /** When the next attempt is due (ms since 1970), 0 while connecting or connected. */
  retryAt = 0;
  /** When something was last heard (ms since 1970), 0 for never. */
  heardAt = 0;

  #attempt = 0;
  #timer = 0;
  /** @type {WebSocket | null} */
  #socket = null;

  /** @param {Listener} listener */
  constructor(listener) {
    this.listener = listener;
    setInterval(() => this.#check(), 10_000);
    addEventListener('online', () => this.connect());
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden && this.retryAt) this.connect();
    });
  }

  /** Connects now, unless it is connected. */
  connect() {
    if (this.#socket) return;
    clearTimeout(this.#timer);
    this.retryAt = 0;
    this.listener.state();
    const url = new URL('ws', location.href);
    url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
    url.hash = '';
    const socket = this.#socket = new WebSocket(url);
    socket.onmessage = (event) => this.#take(JSON.parse(event.data));
    socket.onclose = () => this.#lost(socket);
  }

  /** @param {any} message */
  #take(message) {
    this.heardAt = Date.now();
    if (message.type === 'hello') {
      this.#attempt = 0;
      this.connected = true;
      this.listener.hello(message.series);
      this.listener.state();
    } else if (message.type === 'points') {
      this.listener.points(message.points, Boolean(message.gap));
    }
  }

  /** @param {WebSocket} socket */
  #lost(socket) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    this.connected = false;
    // Full jitter: pages that lost the same server do not come back together.
    const pause = Math.random() * Math.min(longestPause, firstPause * 2 ** this.#attempt++);
    this.retryAt = Date.now() + pause;
    this.#timer = setTimeout(() => this.connect(), pause);
    this.listener.state();
  }

  /** A connection may be dead without a sign: ask the server when it is quiet for long. */
  async #check() {
    const socket = this.#socket;
    if (!this.connected || !socket || Date.now() - this.heardAt < quietLimit) return;
    try {
      await fetch('healthz', { signal: AbortSignal.timeout(5000), cache: 'no-store' });
    } catch {
      socket.close();
      this.#lost(socket);
    }
  }
}
