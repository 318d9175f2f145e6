// Numbers and times for people. Numbers carry no unit: a series may be anything.

const thinSpace = '\u202f';
const suffixes = ['', 'k', 'M', 'G', 'T', 'P', 'E'];
const plain = [1, 2, 3, 4].map((digits) => new Intl.NumberFormat('en', { maximumSignificantDigits: digits }));
const short = new Intl.NumberFormat('en', { maximumSignificantDigits: 3, minimumSignificantDigits: 3 });
const whole = new Intl.NumberFormat('en');

/**
 * Few digits that matter: 0.0427, 3.142, 9,120, 45.6 k, 16.8 G.
 * @param {number | null | undefined} n
 * @param {number} digits at most, 1 to 4; whole numbers below 10,000 keep all of theirs
 */
export function number(n, digits = 4) {
  if (n === null || n === undefined || !Number.isFinite(n)) return '–';
  const size = Math.abs(n);
  if (size === 0) return '0';
  if (size < 1e-3) return minus(n.toExponential(2).replace('e-', 'e−'));
  if (size < 9999.5) return minus(plain[(size < 999.5 ? digits : 4) - 1].format(n));
  let power = Math.min(Math.floor(Math.log10(size) / 3), suffixes.length - 1);
  if (size / 1000 ** power >= 999.5 && power < suffixes.length - 1) power++;
  if (size / 1000 ** power >= 1000) return minus(n.toExponential(2));
  return minus(short.format(n / 1000 ** power)) + thinSpace + suffixes[power];
}

/** @param {string} text */
const minus = (text) => text.replace(/^-/, '−');

/** @param {number} n a whole number, all digits */
export const count = (n) => whole.format(n);

/** @param {number} seconds */
export function age(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h`;
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
