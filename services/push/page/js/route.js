// The state that belongs into the address: #window=minute&find=cpu&series=cpu.0

import { windows } from './model.js';

/** @typedef {{window: string, find: string, series: string}} Route */

/** @returns {Route} */
export function readRoute() {
  const given = new URLSearchParams(location.hash.slice(1));
  const window = given.get('window') ?? '';
  return {
    window: windows.has(window) ? window : '10s',
    find: given.get('find') ?? '',
    series: given.get('series') ?? '',
  };
}

/**
 * @param {Partial<Route>} change
 * @param {boolean} step true: "back" undoes it
 */
export function writeRoute(change, step = false) {
  const route = { ...readRoute(), ...change };
  const hash = new URLSearchParams();
  if (route.window !== '10s') hash.set('window', route.window);
  if (route.find) hash.set('find', route.find);
  if (route.series) hash.set('series', route.series);
  const url = location.pathname + location.search + (hash.size ? `#${hash}` : '');
  if (step) history.pushState(null, '', url);
  else history.replaceState(null, '', url);
  dispatchEvent(new Event('route'));
}

/** @param {(route: Route) => void} changed */
export function onRoute(changed) {
  for (const event of ['route', 'popstate', 'hashchange']) {
    addEventListener(event, () => changed(readRoute()));
  }
}
