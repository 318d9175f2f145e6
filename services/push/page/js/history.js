// Reads history from the REST API: few requests at once, the latest wish first.

import { keepDeepPoints, toPoint } from './model.js';

/** @typedef {import('./model.js').Series} Series */

const atOnce = 4;
const sparkPoints = 120;

export class HistoryReader {
  /** @type {Map<string, {series: Series, window: string, limit: number}>} */
  #wishes = new Map();
  #running = new Set();
  #retry = 0;

  /**
   * @param {(series: Series) => void} changed
   * @param {(message: string | null) => void} failed null: it works again
   */
  constructor(changed, failed) {
    this.changed = changed;
    this.failed = failed;
  }

  /**
   * Asks for the history of one window unless it is there or on its way.
   * @param {Series} series
   * @param {string} window
   * @param {boolean} deep as much as a large chart shows
   */
  want(series, window, deep = false) {
    const limit = deep ? keepDeepPoints : sparkPoints;
    const history = series.history(window);
    if (deep) history.keep = keepDeepPoints;
    const key = `${window} ${series.name}`;
    if (history.loaded >= limit || (this.#running.has(key) && !deep)) return;
    this.#wishes.delete(key);
    this.#wishes.set(key, { series, window, limit });
    this.#next();
  }

  /** @param {Series} series its small chart left the sight: what was not begun is not needed */
  forget(series) {
    for (const [key, wish] of this.#wishes) {
      if (wish.series === series && wish.limit === sparkPoints) this.#wishes.delete(key);
    }
  }

  /** Tries at once what failed before. */
  retry() {
    clearTimeout(this.#retry);
    this.#retry = 0;
    this.#next();
  }

  #next() {
    while (!this.#retry && this.#running.size < atOnce && this.#wishes.size > 0) {
      const [key, wish] = /** @type {[string, any]} */ ([...this.#wishes].at(-1));
      this.#wishes.delete(key);
      this.#running.add(key);
      this.#read(wish).then(() => this.failed(null), (error) => {
        this.#wishes.set(key, wish);
        this.#retry ||= setTimeout(() => this.retry(), 2000 + Math.random() * 3000);
        this.failed(`History cannot be read: ${reason(error)}.`);
      }).finally(() => {
        this.#running.delete(key);
        this.#next();
      });
    }
  }

  /** @param {{series: Series, window: string, limit: number}} wish */
  async #read({ series, window, limit }) {
    const query = new URLSearchParams({ series: series.name, window, limit: String(limit) });
    const response = await fetch(`api/rollups?${query}`, { signal: AbortSignal.timeout(15000) });
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(answer.error ?? `the server answered ${response.status}`);
    const history = series.history(window);
    for (const point of answer.points) history.put(toPoint(point));
    history.loaded = Math.max(history.loaded, limit);
    this.changed(series);
  }
}

/** @param {Error} error */
function reason(error) {
  if (error.name === 'TimeoutError') return 'the server is too slow';
  return error instanceof TypeError ? 'the server cannot be reached' : error.message;
}
