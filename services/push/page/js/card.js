// One small chart of the overview. The card is light: its canvas comes with the
// first look at it.

import { columns, sparkline } from './chart.js';
import { number } from './format.js';

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
    const [name, value, range, spark] = this.element.children;
    this.value = value;
    this.range = range;
    this.spark = /** @type {HTMLElement} */ (spark);
    name.textContent = series.short;
    this.element.title = series.name;
    this.element.dataset.series = series.name;
  }

  /** @type {HTMLTemplateElement | undefined} */
  static #made;
  static #template() {
    if (!Card.#made) {
      Card.#made = document.createElement('template');
      Card.#made.innerHTML = '<button type="button" class="card"><span class="card-name"></span>'
        + '<span class="card-value"></span><span class="card-range"></span>'
        + '<span class="spark" aria-hidden="true"></span></button>';
    }
    return Card.#made;
  }

  /** @param {string} window draws what is known now */
  draw(window) {
    const points = this.series.history(window).points.slice(-sparkPoints);
    this.#write(points);
    const data = columns(points, window);
    this.#window = window;
    if (this.#chart) this.#chart.setData(data.slice(0, 2));
    else if (this.spark.clientWidth > 0) this.#chart = sparkline(this.spark, data, () => this.#window);
  }

  /** @param {import('./model.js').Point[]} points */
  #write(points) {
    const value = number(this.series.value);
    const full = points.filter((p) => p.count > 0);
    const low = number(full.reduce((a, p) => Math.min(a, p.min), Infinity), 3);
    const high = number(full.reduce((a, p) => Math.max(a, p.max), -Infinity), 3);
    const shown = `${value} ${low} ${high}`;
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.value.textContent = value;
    this.range.textContent = full.length ? `${low} … ${high}` : '';
    this.element.setAttribute('aria-label', `${this.series.name}: ${value}. Open the large chart`);
  }

  resize() {
    if (this.#chart) this.#chart.setSize({ width: this.spark.clientWidth, height: this.spark.clientHeight });
  }

  /** Colours have changed. */
  repaint() {
    this.#chart?.redraw(false, false);
  }
}
