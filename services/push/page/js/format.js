// Numbers and times for people.

import { windows } from './model.js';
import { none } from './units.js';

/** @typedef {import('./units.js').Unit} Unit */

/** Between a figure and its unit, and nowhere else. */
const thinSpace = '\u202f';
const whole = new Intl.NumberFormat('en');
/** @type {Map<string, Intl.NumberFormat>} */
const figures = new Map();

/** @param {number} n @param {number} most significant digits @param {number} least */
function figure(n, most, least) {
  const key = `${most} ${least}`;
  let format = figures.get(key);
  if (!format) {
    format = new Intl.NumberFormat('en', { maximumSignificantDigits: most, minimumSignificantDigits: least });
    figures.set(key, format);
  }
  return format.format(n);
}

/**
 * Few digits that matter: 0.0427, 3.142, 9,120, 45.6 k, 16.8 GiB, 1.5 ms.
 * @param {number | null | undefined} n
 * @param {Unit} unit
 * @param {number} digits at most, 3 or more; whole numbers below 10,000 keep all of theirs
 */
export function number(n, unit = none, digits = 4) {
  if (n === null || n === undefined || !Number.isFinite(n)) return '–';
  const one = /** @type {[number, string]} */ (unit.steps.find(([size]) => size === 1));
  const size = Math.abs(n);
  const small = size === 0 || (unit === none && size < 9999.5);
  const reached = unit.steps.findLast(([step]) => size >= step * 0.9995) ?? unit.steps[0];
  let [step, name] = small ? one : reached;
  const part = size / step;
  let text;
  if (size > 0 && (part < 1e-3 || part >= 1e5)) {
    name = one[1];
    text = n.toExponential(2).replace('e-', 'e−');
  } else {
    text = figure(n / step, part < 999.5 ? digits : Math.max(digits, 4), step > 1 ? 3 : 1);
  }
  return minus(text) + (name && thinSpace + name);
}

/** Shows what number() made, the unit smaller than the figure.
 * @param {Element} element @param {string} quantity
 */
export function writeQuantity(element, quantity) {
  const [text, name] = quantity.split(thinSpace);
  element.textContent = text;
  if (name) element.append(Object.assign(document.createElement('small'), { textContent: thinSpace + name }));
}

/** Shows a name that may be broken after a dot, a slash or an underline.
 * @param {Element} element @param {string} name
 */
export function writeName(element, name) {
  element.replaceChildren(...name.split(/(?<=[./_])/).flatMap((part) => [part, document.createElement('wbr')]));
}

/** @param {string} text */
const minus = (text) => text.replace(/^-/, '−');

/** @param {number} n a whole number, all digits */
export const count = (n) => whole.format(n);

/** A window in a sentence: the newest, each ... @param {string} window */
export const wordOf = (window) => (window === '10s' ? '10 s' : window);

/** What one figure of a window is. @param {string} window */
export const meanOf = (window) => `mean of ${age(windows.get(window) ?? 0)}`;

/** @param {number} seconds */
export function age(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

/** Labels of a time axis and of a point; days are UTC days, all else is local time. */
const styles = {
  second: { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' },
  minute: { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' },
  day: { month: 'short', day: 'numeric' },
  year: { year: 'numeric', month: 'short' },
};
/** @type {Map<string, Intl.DateTimeFormat>} */
const formats = new Map();

/**
 * @param {number} seconds since 1970
 * @param {keyof styles} style
 * @param {boolean} utc
 */
function formatTime(seconds, style, utc) {
  const key = style + utc;
  let format = formats.get(key);
  if (!format) {
    const options = /** @type {Intl.DateTimeFormatOptions} */ (styles[style]);
    format = new Intl.DateTimeFormat('en', utc ? { ...options, timeZone: 'UTC' } : options);
    formats.set(key, format);
  }
  return format.format(seconds * 1000);
}

/**
 * The label of one tick of a time axis.
 * @param {number} seconds since 1970
 * @param {number} step seconds between two ticks
 * @param {boolean} utc
 */
export function tick(seconds, step, utc) {
  if (step >= 28 * 86400) return formatTime(seconds, 'year', utc);
  const label = formatTime(seconds, step < 60 ? 'second' : 'minute', utc);
  if (step >= 86400 || label === '00:00') return formatTime(seconds, 'day', utc);
  return label;
}

/**
 * The start of a window in full.
 * @param {number} seconds since 1970
 * @param {string} window
 */
export function start(seconds, window) {
  if (window === 'day') return `${formatTime(seconds, 'day', true)} ${new Date(seconds * 1000).getUTCFullYear()} UTC`;
  return `${formatTime(seconds, 'day', false)}, ${formatTime(seconds, window === '10s' ? 'second' : 'minute', false)}`;
}
