// All series as small charts, in groups. Only what is in sight is drawn.

import { Card } from './card.js';
import { wordOf } from './format.js';
import { windows } from './model.js';

/** @typedef {import('./model.js').Series} Series */
/** @typedef {import('./model.js').Model} Model */
/** @typedef {import('./history.js').HistoryReader} HistoryReader */
/** @typedef {{section: HTMLElement, count: HTMLElement, grid: HTMLElement}} Group */

/** Groups a machine always has keep their colours; others get one by their name. */
const hues = { cpu: 0, memory: 1, mem: 1, disk: 2, net: 3, load: 4, mesh: 5, process: 6, proc: 6 };
const hueCount = 8;

/** @param {string} group */
export function hueOf(group) {
  if (group in hues) return hues[/** @type {keyof hues} */ (group)];
  let sum = 0;
  for (const letter of group) sum = (sum * 31 + (letter.codePointAt(0) ?? 0)) % 9973;
  return sum % hueCount;
}

/** A switch between the windows.
 * @param {HTMLElement} fieldset
 * @param {(window: string) => void} chosen
 * @returns {(window: string) => void} shows another choice
 */
export function windowSwitch(fieldset, chosen) {
  const inputs = [...windows.keys()].map((window) => {
    const label = document.createElement('label');
    const input = document.createElement('input');
    input.type = 'radio';
    input.name = fieldset.id;
    input.value = window;
    input.addEventListener('change', () => chosen(window));
    const text = document.createElement('span');
    text.textContent = wordOf(window);
    label.append(input, text);
    fieldset.append(label);
    return input;
  });
  return (window) => inputs.forEach((input) => { input.checked = input.value === window; });
}

export class Overview {
  window = '10s';
  /** @type {string[]} */
  #words = [];
  /** @type {Map<Series, Card>} */
  #cards = new Map();
  /** @type {Map<Element, Card>} */
  #byElement = new Map();
  /** @type {Map<string, Group>} */
  #groups = new Map();
  #seen;
  #sized;

  /**
   * @param {HTMLElement} root
   * @param {HistoryReader} reader
   * @param {(series: Series) => void} open
   */
  constructor(root, reader, open) {
    this.root = root;
    this.reader = reader;
    this.#seen = new IntersectionObserver((entries) => this.#look(entries), { rootMargin: '240px' });
    this.#sized = new ResizeObserver((entries) => {
      for (const entry of entries) this.#byElement.get(entry.target)?.resize();
    });
    root.addEventListener('click', (event) => {
      const element = /** @type {Element} */ (event.target).closest('.card');
      const card = element && this.#byElement.get(element);
      if (card) open(card.series);
    });
    root.addEventListener('keydown', (event) => this.#move(event));
  }

  /** Brings the cards in line with the model when series were added. @param {Model} model */
  sync(model) {
    /** @type {Map<string, Series[]>} */
    const byGroup = new Map();
    for (const series of model.sorted()) {
      const group = byGroup.get(series.group);
      if (group) group.push(series);
      else byGroup.set(series.group, [series]);
    }
    let before = null;
    for (const [name, list] of byGroup) {
      const { section, grid } = this.#group(name);
      const expected = before ? before.nextElementSibling : this.root.firstElementChild;
      if (expected !== section) this.root.insertBefore(section, expected);
      before = section;
      let at = grid.firstElementChild;
      for (const series of list) {
        const { element } = this.#card(series);
        if (at === element) at = element.nextElementSibling;
        else grid.insertBefore(element, at);
      }
    }
    this.find(this.#words.join(' '));
  }

  /** @param {string} name @returns {Group} */
  #group(name) {
    let group = this.#groups.get(name);
    if (group) return group;
    const section = document.createElement('section');
    section.className = 'group';
    section.dataset.hue = String(hueOf(name));
    const heading = document.createElement('h2');
    const title = document.createElement('span');
    title.textContent = name;
    const count = document.createElement('small');
    heading.append(title, count);
    const grid = document.createElement('div');
    grid.className = 'grid';
    section.append(heading, grid);
    this.#groups.set(name, group = { section, count, grid });
    return group;
  }

  /** @param {Series} series */
  #card(series) {
    let card = this.#cards.get(series);
    if (!card) {
      card = new Card(series);
      this.#cards.set(series, card);
      this.#byElement.set(card.element, card);
      this.#seen.observe(card.element);
      this.#sized.observe(card.element);
    }
    return card;
  }

  /** @param {IntersectionObserverEntry[]} entries */
  #look(entries) {
    for (const entry of entries) {
      const card = this.#byElement.get(entry.target);
      if (!card) continue;
      card.visible = entry.isIntersecting;
      if (card.visible) this.#show(card);
      else this.reader.forget(card.series);
    }
  }

  /** @param {Card} card */
  #show(card) {
    this.reader.want(card.series, this.window);
    card.draw(this.window);
  }

  /** @param {Iterable<Series>} changed */
  draw(changed) {
    for (const series of changed) {
      const card = this.#cards.get(series);
      if (card?.visible) card.draw(this.window);
    }
  }

  /** Draws everything in sight anew, and asks again for history that may have gaps. */
  refresh() {
    for (const card of this.#cards.values()) if (card.visible) this.#show(card);
  }

  repaint() {
    for (const card of this.#cards.values()) card.repaint();
  }

  /**
   * Shows the series whose name has every word.
   * @param {string} text
   * @returns {number} how many
   */
  find(text) {
    this.#words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const tally = new Map();
    let shown = 0;
    for (const [series, card] of this.#cards) {
      const name = series.name.toLowerCase();
      const hit = this.#words.every((word) => name.includes(word));
      card.element.hidden = !hit;
      const group = tally.get(series.group) ?? { hits: 0, all: 0 };
      group.all++;
      if (hit) { group.hits++; shown++; }
      tally.set(series.group, group);
    }
    for (const [name, { section, count }] of this.#groups) {
      const { hits, all } = tally.get(name);
      section.hidden = hits === 0;
      count.textContent = hits === all ? `${all}` : `${hits} of ${all}`;
    }
    return shown;
  }

  /** The series beside another one among those shown.
   * @param {string} name @param {1 | -1} step
   */
  neighbour(name, step) {
    const cards = this.#shown();
    const at = cards.findIndex((card) => card.series.name === name);
    return cards[(at + step + cards.length) % cards.length]?.series;
  }

  /** Gives the keyboard back to the card of a series. @param {string} name */
  focus(name) {
    this.#shown().find((card) => card.series.name === name)?.element.focus({ preventScroll: false });
  }

  #shown() {
    return [...this.root.querySelectorAll('.card:not([hidden])')]
      .map((element) => /** @type {Card} */ (this.#byElement.get(element)));
  }

  /** Arrow keys go from card to card. @param {KeyboardEvent} event */
  #move(event) {
    const element = /** @type {Element} */ (event.target).closest('.card');
    const columnsInRow = element && getComputedStyle(/** @type {Element} */ (element.parentElement))
      .gridTemplateColumns.split(' ').length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -Number(columnsInRow), ArrowDown: Number(columnsInRow) }[event.key];
    if (!element || step === undefined) return;
    const cards = this.#shown();
    const next = cards[cards.findIndex((card) => card.element === element) + step];
    if (!next) return;
    event.preventDefault();
    next.element.focus();
  }
}
