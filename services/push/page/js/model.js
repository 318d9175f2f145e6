// What is known about every series: its newest points and the history read so far.

import { unitOf } from './units.js';

/**
 * One roll-up of one window. Times are seconds since 1970.
 * @typedef {{start: number, count: number, sum: number, min: number, max: number,
 *   mean: number, last: number, rev: number}} Point
 */

/** @typedef {{series: string, window: string, start: string} & Omit<Point, 'start'>} LivePoint */

/** The windows, shortest first, with their length in seconds. */
export const windows = new Map([['10s', 10], ['minute', 60], ['hour', 3600], ['day', 86400]]);

/** Series kept; a mesh with more is searched by /api/rollups. */
export const maxSeries = 5000;

const keepPoints = 360;
export const keepDeepPoints = 1000;

const collator = new Intl.Collator('en', { numeric: true });
export const compareNames = collator.compare;

/** The points of one series and window, oldest first, the newest `keep` of them. */
export class History {
  /** @type {Point[]} */
  points = [];
  /** How many points were asked for from the server; 0: none yet, or gaps are possible. */
  loaded = 0;
  keep = keepPoints;

  /** @param {Point} point an older rev of a start that is known changes nothing */
  put(point) {
    const points = this.points;
    let at = points.length;
    while (at > 0 && points[at - 1].start > point.start) at--;
    const same = points[at - 1];
    if (same && same.start === point.start) {
      if (same.rev < point.rev) points[at - 1] = point;
      return;
    }
    points.splice(at, 0, point);
    if (points.length > this.keep) points.splice(0, points.length - this.keep);
  }

  get newest() {
    return this.points.at(-1);
  }
}

export class Series {
  /** @param {string} name */
  constructor(name) {
    this.name = name;
    const cut = name.search(/[./]/);
    this.group = cut > 0 ? name.slice(0, cut) : name;
    this.short = cut > 0 && cut + 1 < name.length ? name.slice(cut + 1) : name;
    this.unit = unitOf(name);
    /** @type {Map<string, History>} */
    this.histories = new Map();
  }

  /** @param {string} window */
  history(window) {
    let history = this.histories.get(window);
    if (!history) this.histories.set(window, history = new History());
    return history;
  }
}

export class Model {
  /** @type {Map<string, Series>} */
  series = new Map();
  /** Series left out because there are more than maxSeries. */
  refused = 0;

  /**
   * @param {LivePoint} live
   * @returns {Series | undefined} the series that changed
   */
  put(live) {
    let series = this.series.get(live.series);
    if (!series) {
      if (this.series.size >= maxSeries) {
        this.refused++;
        return undefined;
      }
      this.series.set(live.series, series = new Series(live.series));
    }
    series.history(live.window).put(toPoint(live));
    return series;
  }

  /** What was read may have gaps now: charts ask for it again when they are seen. */
  forgetLoaded() {
    for (const series of this.series.values()) {
      for (const history of series.histories.values()) history.loaded = 0;
    }
  }

  /** All series in the order of the page. */
  sorted() {
    return [...this.series.values()].sort((a, b) =>
      compareNames(a.group, b.group) || compareNames(a.name, b.name));
  }
}

/**
 * @param {{start: string} & Omit<Point, 'start'>} p as the server writes it
 * @returns {Point}
 */
export function toPoint(p) {
  return {
    start: Date.parse(p.start) / 1000,
    count: p.count, sum: p.sum, min: p.min, max: p.max, mean: p.mean, last: p.last, rev: p.rev,
  };
}
