// One small chart of the overview. All its figures are of one kind, the mean of each
// window: the newest one large, a line of them, and the lowest and highest of the
// line. The card is light: its canvas comes with the first look at it.

import { columns, sparkline } from './chart.js';
import { age, meanOf, number, writeName, writeQuantity } from './format.js';
import { windows } from './model.js';

/** @typedef {import('./model.js').Series} Series */

const sparkPoints = 120;

export class Card {
  visible = false;
  /** @type {import('../vendor/uPlot.esm.js').default | null} */
  #chart = null;
  #shown = '';
  #window = '';

  /** @param {Series} series */
  constructor(series) {
    this.series = series;
    const template = /** @type {HTMLTemplateElement} */ (Card.#template());
    this.element = /** @type {HTMLButtonElement} */ (template.content.firstElementChild?.cloneNode(true));
    const [name, value, kind, spark, range] = this.element.children;
    this.value = value;
    [this.mean, this.span] = kind.children;
    this.spark = /** @type {HTMLElement} */ (spark);
    [this.low, this.high] = [...range.children].map((part) => /** @type {Element} */ (part.lastElementChild));
    writeName(name, series.short);
    this.element.title = series.name;
    this.element.dataset.series = series.name;
  }

  /** @type {HTMLTemplateElement | undefined} */
  static #made;
  static #template() {
    if (!Card.#made) {
      Card.#made = document.createElement('template');
      Card.#made.innerHTML = '<button type="button" class="card"><span class="card-name"></span>'
        + '<span class="card-value"></span><span class="card-note"><span></span> <span></span></span>'
        + '<span class="spark" aria-hidden="true"></span>'
        + '<span class="card-range"><span>low <b></b></span> <span>high <b></b></span></span></button>';
    }
    return Card.#made;
  }

  /** @param {string} window draws what is known now */
  draw(window) {
    const points = this.series.history(window).points.slice(-sparkPoints);
    this.#write(points, window);
    const data = columns(points, window);
    this.#window = window;
    if (this.#chart) this.#chart.setData(data.slice(0, 2));
    else if (this.spark.clientWidth > 0) this.#chart = sparkline(this.spark, data, () => this.#window);
  }

  /** @param {import('./model.js').Point[]} points @param {string} window */
  #write(points, window) {
    const means = points.filter((p) => p.count > 0).map((p) => p.mean);
    const [value, low, high] = [means.at(-1), Math.min(...means), Math.max(...means)]
      .map((n) => number(n, this.series.unit, 3));
    const length = windows.get(window) ?? 0;
    const span = points.length > 0 ? `over ${age(points[points.length - 1].start + length - points[0].start)}` : '';
    const mean = meanOf(window);
    const shown = [value, low, high, span, mean].join();
    if (shown === this.#shown) return;
    this.#shown = shown;
    writeQuantity(this.value, value);
    this.mean.textContent = mean;
    this.span.textContent = span;
    this.low.textContent = low;
    this.high.textContent = high;
    this.element.setAttribute('aria-label',
      `${this.series.name}: ${value}, ${mean}; low ${low}, high ${high} ${span}. Open the large chart`);
  }

  resize() {
    if (this.#chart) this.#chart.setSize({ width: this.spark.clientWidth, height: this.spark.clientHeight });
  }

  /** Colours have changed. */
  repaint() {
    this.#chart?.redraw(false, false);
  }
}
