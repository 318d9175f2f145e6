// The unit of a series, where its name tells one: the names hostmetrics makes, and
// endings such as _ms, _bytes, .percent or _per_second.

/**
 * Steps are sizes in the series' own numbers and their names, smallest first; one
 * of them is 1. Ticks are the distances a value axis may have, where those of the
 * decimal system would be odd.
 * @typedef {{steps: [number, string][], ticks?: number[]}} Unit
 */

const prefixes = ['', 'k', 'M', 'G', 'T', 'P', 'E'];

/** @param {string} name @returns {Unit} */
const decimal = (name) => ({ steps: prefixes.map((prefix, i) => [1000 ** i, prefix + name]) });

/** @type {Unit} */
const octets = {
  steps: prefixes.map((prefix, i) => [1024 ** i, i === 0 ? 'B' : `${prefix.toUpperCase()}iB`]),
  ticks: Array.from({ length: 70 }, (_, i) => 2 ** i),
};

/** @type {[number, string][]} */
const times = [[1e-9, 'ns'], [1e-6, 'µs'], [1e-3, 'ms'], [1, 's'], [60, 'min'], [3600, 'h'], [86400, 'd']];
const timeTicks = [
  ...Array.from({ length: 10 }, (_, i) => [1, 2, 5].map((n) => n * 10 ** (i - 9))).flat(),
  15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200,
  ...Array.from({ length: 6 }, (_, i) => [1, 2, 5].map((n) => n * 86400 * 10 ** i)).flat(),
];

/** @param {number} seconds that a 1 of the series means @returns {Unit} */
const time = (seconds) => ({
  steps: times.map(([size, name]) => [size / seconds, name]),
  ticks: timeTicks.map((size) => size / seconds),
});

/** Of a series whose name tells none; small counts keep all their digits. */
export const none = decimal('');
const percent = { steps: /** @type {[number, string][]} */ ([[1, '%']]) };
const octetsPerSecond = decimal('B/s');

/** The first that fits. @type {[RegExp, Unit][]} */
const byName = [
  [/(^|\.)(cpu\.(total|\d+)|mesh\..+\.cpu)$|(^|[._/])(percent|pct)$/, percent],
  [/(^|\.)(disk|net)\..+\.(read|write|rx|tx)_bytes$|(^|[._/])(bytes|octets)_per_second$/, octetsPerSecond],
  [/(^|[._/])(bytes|octets)$/, octets],
  [/(^|[._/])per_second$/, decimal('/s')],
  [/(^|[._/])seconds$/, time(1)],
  [/(^|[._/])(ms|milliseconds)$/, time(1e-3)],
  [/(^|[._/])(us|microseconds)$/, time(1e-6)],
  [/(^|[._/])(ns|nanoseconds)$/, time(1e-9)],
];

/** @param {string} series */
export const unitOf = (series) => byName.find(([pattern]) => pattern.test(series))?.[1] ?? none;
