// uPlot, told what to draw: a sparkline for the overview, a large chart for one series.

import uPlot from '../vendor/uPlot.esm.js';
import { number, tick } from './format.js';
import { windows } from './model.js';

/** @typedef {import('./model.js').Point} Point */

/**
 * Columns for uPlot: x, mean, max, min. A row of nulls breaks the lines where
 * windows are missing; how far apart points usually are decides what is missing.
 * @param {Point[]} points oldest first
 * @param {string} window
 * @returns {(number | null)[][]}
 */
export function columns(points, window) {
  /** @type {(number | null)[][]} */
  const [x, mean, max, min] = [[], [], [], []];
  const steps = points.slice(1).map((p, i) => p.start - points[i].start).sort((a, b) => a - b);
  const usual = Math.max(steps[steps.length >> 1] ?? 0, windows.get(window) ?? 0);
  points.forEach((p, i) => {
    const before = points[i - 1];
    if (before && p.start - before.start > usual * 3) {
      x.push(before.start + usual);
      for (const column of [mean, max, min]) column.push(null);
    }
    x.push(p.start);
    const empty = p.count === 0;
    mean.push(empty ? null : p.mean);
    max.push(empty ? null : p.max);
    min.push(empty ? null : p.min);
  });
  return [x, mean, max, min];
}

/** @type {WeakMap<Element, string>} Asking for a style costs a layout, so once per theme. */
let colours = new WeakMap();

/** The theme has changed. */
export const forgetColours = () => { colours = new WeakMap(); };

/**
 * Colours come from CSS: the text colour of the element a chart is in.
 * @param {HTMLElement} element
 * @param {number} opacity
 */
function colour(element, opacity) {
  let rgb = colours.get(element);
  if (!rgb) {
    rgb = (getComputedStyle(element).color.match(/[\d.]+/g) ?? ['0', '0', '0']).slice(0, 3).join(', ');
    colours.set(element, rgb);
  }
  return `rgba(${rgb}, ${opacity})`;
}

/** A single point is in the middle of a few windows.
 * @param {string} window
 * @returns {(u: uPlot, min: number, max: number) => [number, number]}
 */
const xRange = (window) => (u, min, max) => {
  if (u.data[0].length !== 1) return [min, max];
  const room = 3 * (windows.get(window) ?? 60);
  return [Number(u.data[0][0]) - room, Number(u.data[0][0]) + room];
};

/** Room above and below, and for a flat line, too.
 * @param {uPlot} _
 * @param {number | null} min
 * @param {number | null} max
 * @returns {[number, number]}
 */
function yRange(_, min, max) {
  if (min === null || max === null || !Number.isFinite(min)) return [0, 1];
  const room = (max - min) * 0.12 || Math.abs(max) * 0.1 || 1;
  const low = min >= 0 ? Math.max(0, min - room) : min - room;
  return [low, max + room];
}

/** @param {HTMLElement} element @param {number} top opacity at the line */
function fade(element, top) {
  return (/** @type {uPlot} */ u) => {
    const { top: y, height } = u.bbox;
    if (!Number.isFinite(height) || height === 0) return colour(element, 0);
    const gradient = u.ctx.createLinearGradient(0, y, 0, y + height);
    gradient.addColorStop(0, colour(element, top));
    gradient.addColorStop(1, colour(element, 0));
    return gradient;
  };
}

/**
 * @param {HTMLElement} element its text colour is the colour of the line
 * @param {(number | null)[][]} data as columns() makes it
 * @param {() => string} window
 */
export function sparkline(element, data, window) {
  const hidden = { show: false };
  return new uPlot({
    width: element.clientWidth,
    height: element.clientHeight,
    padding: [3, 0, 1, 0],
    legend: hidden,
    cursor: hidden,
    axes: [hidden, hidden],
    scales: { x: { range: (u, min, max) => xRange(window())(u, min, max) }, y: { range: yRange } },
    series: [{}, {
      fillTo,
      stroke: () => colour(element, 1),
      fill: fade(element, 0.22),
      width: 1.5,
      points: { show: fewPoints, size: 4, fill: () => colour(element, 1), width: 0 },
    }],
  }, data.slice(0, 2), element);
}

/** The shade reaches down to the edge, also below zero.
 * @param {uPlot} u
 */
const fillTo = (u) => u.scales.y.min ?? 0;

/** A line needs two points: fewer are drawn as dots.
 * @param {uPlot} u
 * @param {number} column
 */
function fewPoints(u, column) {
  return u.data[column].filter((value) => value !== null).length < 3;
}

/**
 * @param {HTMLElement} element
 * @param {(number | null)[][]} data
 * @param {string} window
 * @param {import('./units.js').Unit} unit of the values
 * @param {{cursor: (index: number | null) => void, zoom: (zoomed: boolean) => void}} on
 */
export function largeChart(element, data, window, unit, on) {
  const utc = window === 'day';
  const around = element.parentElement ?? element; // has the colour of text, not of the line
  const text = () => colour(around, 0.72);
  const grid = () => colour(around, 0.16);
  const font = '12px system-ui, sans-serif';
  const line = { stroke: grid, width: 1 };
  const edge = { stroke: () => colour(element, 0.35), width: 1, points: { show: false } };
  return new uPlot({
    width: element.clientWidth,
    height: element.clientHeight,
    padding: [10, 30, 0, 0],
    legend: { show: false },
    tzDate: (seconds) => (utc ? uPlot.tzDate(new Date(seconds * 1000), 'Etc/UTC') : new Date(seconds * 1000)),
    cursor: { y: false, points: { size: 8 }, drag: { x: true, y: false, dist: 8 } },
    scales: { x: { range: xRange(window) }, y: { range: yRange } },
    axes: [
      { stroke: text, font, grid: { show: false }, ticks: { ...line, size: 5 }, space: 72,
        values: (_, splits, __, ___, step) => splits.map((s) => tick(s, step, utc)) },
      { stroke: text, font, grid: line, ticks: { show: false }, size: axisWidth, gap: 8, space: 44,
        ...(unit.ticks && { incrs: unit.ticks }),
        values: (_, splits, __, ___, step) => splits.map((s) => number(s, unit, digitsFor(splits, step))) },
    ],
    series: [
      {},
      { stroke: () => colour(element, 1), fill: fade(element, 0.1), fillTo, width: 2,
        points: { show: fewPoints, size: 7, fill: () => colour(element, 1), width: 0 } },
      edge, edge,
    ],
    bands: [{ series: [2, 3], fill: () => colour(element, 0.13) }],
    hooks: {
      setCursor: [(u) => on.cursor(u.cursor.idx ?? null)],
      setSelect: [(u) => { if (u.select.width > 0) on.zoom(true); }],
      ready: [(u) => u.over.addEventListener('dblclick', () => on.zoom(false))],
    },
  }, data, element);
}

/** How many digits tell neighbouring ticks apart.
 * @param {number[]} splits @param {number} step
 */
function digitsFor(splits, step) {
  const largest = Math.max(...splits.map(Math.abs), step);
  return Math.min(12, Math.max(3, Math.ceil(Math.log10(largest / step)) + 1));
}

/** As wide as the widest label.
 * @param {uPlot} u
 * @param {string[] | null} values
 */
function axisWidth(u, values) {
  const longest = (values ?? []).reduce((a, b) => (b.length > a.length ? b : a), '');
  u.ctx.save();
  u.ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
  const width = u.ctx.measureText(longest).width / devicePixelRatio;
  u.ctx.restore();
  return Math.ceil(width) + 16;
}
