// The head of the page: how the connection is, how much comes, what went wrong.

import { age, count } from './format.js';

/** @typedef {import('./socket.js').Socket} Socket */

const staleAfter = 15; // seconds without a point, while connected
const rateOver = 5; // seconds

/** @param {string} id */
const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
const root = document.documentElement;

export class Status {
  /** Points in each of the last seconds, the current one first. */
  #perSecond = new Array(rateOver + 1).fill(0);
  #received = 0;
  #pointAt = 0;
  /** @type {Socket | null} */
  #socket = null;

  /** @param {Socket} socket */
  follow(socket) {
    this.#socket = socket;
    byId('state').addEventListener('click', () => socket.connect());
    setInterval(() => {
      const rate = this.#perSecond.slice(1).reduce((a, b) => a + b) / rateOver;
      byId('total-rate').textContent = rate < 10 ? String(Math.round(rate * 10) / 10) : count(Math.round(rate));
      this.#perSecond.pop();
      this.#perSecond.unshift(0);
      this.show();
    }, 1000);
  }

  /** @param {number} points that came by websocket */
  received(points) {
    if (points === 0) return;
    this.#received += points;
    this.#perSecond[0] += points;
    this.#pointAt = Date.now();
    root.dataset.rollups = String(this.#received);
    if (root.dataset.state === 'stale') this.show();
  }

  /** @param {number} series */
  series(series) {
    byId('total-series').textContent = count(series);
  }

  show() {
    const socket = this.#socket;
    if (!socket) return;
    const old = this.#pointAt ? (Date.now() - this.#pointAt) / 1000 : 0;
    let [state, text] = ['live', 'live'];
    if (!socket.connected) {
      const wait = Math.ceil((socket.retryAt - Date.now()) / 1000);
      const again = this.#pointAt || socket.retryAt;
      state = again ? 'reconnecting' : 'connecting';
      text = again ? (wait > 0 ? `reconnecting ${wait} s` : 'reconnecting') : 'connecting';
      if (old > staleAfter) text += ` · stale ${age(old)}`;
    } else if (old > staleAfter) {
      [state, text] = ['stale', `stale ${age(old)}`];
    }
    if (root.dataset.state !== state) byId('state-spoken').textContent = state;
    root.dataset.state = state;
    byId('state-text').textContent = text;
    byId('state').title = text;
    /** @type {HTMLButtonElement} */ (byId('state')).disabled = !socket.retryAt;
  }

  /** @param {string | null} message null takes it away */
  problem(message) {
    byId('banner').hidden = !message;
    if (message) byId('banner-text').textContent = message;
  }
}
