// One series large: chart with its range, the figures of one window, recent windows.

import { columns, largeChart } from './chart.js';
import { age, count, meanOf, number, start, wordOf, writeName, writeQuantity } from './format.js';
import { windows } from './model.js';
import { hueOf, windowSwitch } from './overview.js';
import { writeRoute } from './route.js';

/** @typedef {import('./model.js').Series} Series */
/** @typedef {import('./model.js').Point} Point */
/** @typedef {import('./history.js').HistoryReader} HistoryReader */
/** @typedef {import('./overview.js').Overview} Overview */

const recentRows = 30;

/** @param {string} id */
const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

export class Detail {
  /** @type {Series | null} */
  series = null;
  window = '10s';
  #dialog = /** @type {HTMLDialogElement} */ (byId('detail'));
  #box = byId('detail-chart');
  /** @type {import('../vendor/uPlot.esm.js').default | null} */
  #chart = null;
  #zoomed = false;
  /** @type {(number | null)[][]} */
  #data = [];
  #showWindow;

  /** @param {HistoryReader} reader @param {Overview} overview */
  constructor(reader, overview) {
    this.reader = reader;
    this.overview = overview;
    this.#showWindow = windowSwitch(byId('detail-windows'), (window) => writeRoute({ window }));
    byId('detail-close').addEventListener('click', () => this.#dialog.close());
    byId('detail-previous').addEventListener('click', () => this.#go(-1));
    byId('detail-next').addEventListener('click', () => this.#go(1));
    byId('zoom-reset').addEventListener('click', () => this.#zoom(false));
    this.#dialog.addEventListener('close', () => { if (this.series) writeRoute({ series: '' }, true); });
    this.#dialog.addEventListener('click', (event) => {
      if (event.target === this.#dialog) this.#dialog.close(); // beside it
    });
    this.#box.addEventListener('keydown', (event) => this.#step(event));
    new ResizeObserver(() => this.#resize()).observe(this.#box);
  }

  /** @param {Series} series @param {string} window */
  open(series, window) {
    if (this.series === series && this.window === window && this.#dialog.open) return;
    this.series = series;
    this.window = window;
    this.#dialog.dataset.hue = String(hueOf(series.group));
    writeName(byId('detail-name'), series.name);
    this.#showWindow(window);
    if (!this.#dialog.open) {
      this.#dialog.showModal();
      byId('detail-close').focus();
    }
    this.#forgetChart();
    this.refresh();
  }

  close() {
    const before = this.series;
    this.series = null;
    this.#forgetChart();
    if (this.#dialog.open) this.#dialog.close();
    if (before) this.overview.focus(before.name);
  }

  /** Asks for the history again if it may have gaps, and draws. */
  refresh() {
    if (!this.series) return;
    this.reader.want(this.series, this.window, true);
    this.draw();
  }

  draw() {
    if (!this.series) return;
    const { points, loaded } = this.series.history(this.window);
    this.#data = columns(points, this.window);
    writeQuantity(byId('detail-value'), this.#text(points.findLast((p) => p.count > 0)?.mean));
    byId('detail-kind').textContent = meanOf(this.window);
    this.#note(points, loaded > 0);
    this.#facts(points);
    this.#recent(points);
    if (this.#chart) {
      this.#chart.setData(this.#data, !this.#zoomed);
    } else if (points.length > 0) {
      this.#chart = largeChart(this.#box, this.#data, this.window, this.series.unit, {
        cursor: (index) => this.#readout(index),
        zoom: (zoomed) => this.#zoom(zoomed),
      });
    }
    this.#readout(this.#chart?.cursor.idx ?? null);
  }

  /** @param {number | null | undefined} n */
  #text(n) {
    return number(n, this.series?.unit);
  }

  repaint() {
    this.#chart?.redraw(false, true);
  }

  /** @param {Point[]} points @param {boolean} loaded */
  #note(points, loaded) {
    const length = age(windows.get(this.window) ?? 0);
    const zone = this.window === 'day' ? 'days are UTC days' : 'times are local';
    byId('detail-note').textContent = points.length > 0
      ? `Line: mean of each ${wordOf(this.window)}. Band: lowest to highest value in it. ${zone[0].toUpperCase()}${zone.slice(1)}. Drag to zoom, arrow keys to read.`
      : loaded ? 'No roll-ups of this length yet.' : 'Reading the history …';
    this.#box.setAttribute('aria-label', points.length > 0
      ? `Chart of ${this.series?.name}, ${points.length} windows of ${length}. Arrow keys read the values.`
      : 'Chart without points');
  }

  /** The newest window in figures. @param {Point[]} points */
  #facts(points) {
    const p = points.at(-1);
    const facts = p ? [
      ['mean', this.#text(p.mean)], ['min', this.#text(p.min)], ['max', this.#text(p.max)], ['last', this.#text(p.last)],
      ['sum', this.#text(p.sum)], ['count', count(p.count)], ['window began', start(p.start, this.window)],
    ] : [];
    const list = byId('facts');
    if (list.children.length !== facts.length) {
      list.replaceChildren(...facts.map(([name]) => {
        const box = document.createElement('div');
        box.append(Object.assign(document.createElement('dt'), { textContent: name }), document.createElement('dd'));
        return box;
      }));
    }
    facts.forEach(([, text], i) => {
      const value = /** @type {Element} */ (list.children[i].lastElementChild);
      if (value.textContent !== text) value.textContent = text;
    });
  }

  /** @param {Point[]} points */
  #recent(points) {
    const body = byId('recent');
    if (!(/** @type {HTMLDetailsElement} */ (body.closest('details'))).open) return;
    body.replaceChildren(...points.slice(-recentRows).reverse().map((p) => {
      const row = document.createElement('tr');
      const cells = [start(p.start, this.window), count(p.count), ...[p.min, p.mean, p.max, p.last].map((n) => this.#text(n))];
      row.append(...cells.map((text, i) => {
        const cell = document.createElement(i === 0 ? 'th' : 'td');
        if (i === 0) cell.scope = 'row';
        cell.textContent = text;
        return cell;
      }));
      return row;
    }));
  }

  /** @param {number | null} index of a column */
  #readout(index) {
    const [x, mean, max, min] = this.#data;
    const points = this.series?.history(this.window).points ?? [];
    let text = points.length > 0 ? `${count(points.length)} ${points.length === 1 ? 'window' : 'windows'} since ${start(points[0].start, this.window)}` : '';
    if (index !== null && x?.[index] !== undefined && mean[index] !== null) {
      text = [start(Number(x[index]), this.window), `mean ${this.#text(mean[index])}`,
        `min ${this.#text(min[index])}`, `max ${this.#text(max[index])}`].join('   ');
    }
    byId('readout').textContent = text;
  }

  /** @param {KeyboardEvent} event */
  #step(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    const chart = this.#chart;
    if (step === undefined || !chart) return;
    event.preventDefault();
    const last = this.#data[0].length - 1;
    let at = Math.min(last, Math.max(0, (chart.cursor.idx ?? last) + step));
    while (this.#data[1][at] === null && at > 0 && at < last) at += Math.sign(step);
    chart.setCursor({ left: chart.valToPos(Number(this.#data[0][at]), 'x'), top: chart.bbox.height / 2 });
  }

  /** @param {boolean} zoomed */
  #zoom(zoomed) {
    this.#zoomed = zoomed;
    byId('zoom-reset').hidden = !zoomed;
    if (!zoomed) this.draw();
  }

  /** @param {1 | -1} step */
  #go(step) {
    const next = this.series && this.overview.neighbour(this.series.name, step);
    if (next) writeRoute({ series: next.name });
  }

  #resize() {
    this.#chart?.setSize({ width: this.#box.clientWidth, height: this.#box.clientHeight });
  }

  #forgetChart() {
    this.#chart?.destroy();
    this.#chart = null;
    this.#zoomed = false;
    byId('zoom-reset').hidden = true;
  }
}
