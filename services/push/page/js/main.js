// Wires the page: websocket -> model -> one redraw per frame of what changed.

import { forgetColours } from './chart.js';
import { Detail } from './detail.js';
import { wordOf } from './format.js';
import { HistoryReader } from './history.js';
import { Model, maxSeries } from './model.js';
import { Overview, windowSwitch } from './overview.js';
import { onRoute, readRoute, writeRoute } from './route.js';
import { Socket } from './socket.js';
import { Status } from './status.js';
import { setUpTheme } from './theme.js';

/** @typedef {import('./model.js').Series} Series */

/** @param {string} id */
const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

const model = new Model();
const status = new Status();
/** @type {Set<Series>} */
const changed = new Set();
let known = 0; // series the overview has
let greeted = false; // the server has said how many series there are
let expected = 0; // series it said
let frame = 0;

const reader = new HistoryReader(mark, (message) => status.problem(message));
const overview = new Overview(byId('groups'), reader, (series) => writeRoute({ series: series.name }, true));
const detail = new Detail(reader, overview);
const showWindow = windowSwitch(byId('windows'), (window) => writeRoute({ window }));
const find = /** @type {HTMLInputElement} */ (byId('find'));

/** @param {Series} series */
function mark(series) {
  changed.add(series);
  frame ||= requestAnimationFrame(draw);
}

function draw() {
  frame = 0;
  if (model.series.size !== known) {
    known = model.series.size;
    overview.sync(model);
    status.series(known);
    follow(readRoute());
  }
  overview.draw(changed);
  if (detail.series && changed.has(detail.series)) detail.draw();
  changed.clear();
  notices();
}

function notices() {
  const found = known > 0 && byId('groups').querySelector('.group:not([hidden])') !== null;
  byId('connecting').hidden = known > 0 || (greeted && expected === 0);
  byId('empty').hidden = known > 0 || !greeted || expected > 0;
  byId('legend').hidden = !found;
  byId('nothing-found').hidden = known === 0 || found;
}

/** @param {import('./route.js').Route} route brings the page in line with the address */
function follow(route) {
  showWindow(route.window);
  const word = wordOf(route.window);
  byId('legend').textContent = `Large: the mean of the newest ${word} so far. Line: the means up to it, with the lowest and highest of them below. `
    + `Open a card for the lowest and highest values within each ${word}.`;
  if (overview.window !== route.window) {
    overview.window = route.window;
    overview.refresh();
  }
  if (find.value !== route.find) find.value = route.find;
  overview.find(route.find);
  const series = model.series.get(route.series);
  if (series) detail.open(series, route.window);
  else if (!route.series) detail.close();
  document.title = series ? `${series.name} · mdmesh` : 'mdmesh';
  notices();
}

const socket = new Socket({
  hello(series) {
    const again = greeted;
    greeted = true;
    expected = series;
    if (again) model.forgetLoaded(); // something may have been missed meanwhile
    overview.refresh();
    detail.refresh();
    notices();
  },
  points(points, gap) {
    if (gap) {
      model.forgetLoaded();
      overview.refresh();
      detail.refresh();
    }
    for (const point of points) {
      const series = model.put(point);
      if (series) mark(series);
    }
    status.received(points.length);
    if (model.refused) status.problem(`Only the first ${maxSeries} series are shown; ask /api/rollups for the others.`);
  },
  state: () => status.show(),
});

find.addEventListener('input', () => writeRoute({ find: find.value }));
byId('find-clear').addEventListener('click', () => { writeRoute({ find: '' }); find.focus(); });
byId('banner-retry').addEventListener('click', () => { status.problem(null); reader.retry(); });
document.querySelector('[data-skip]')?.addEventListener('click', (event) => {
  event.preventDefault();
  byId('overview').focus();
});
document.querySelector('.recent')?.addEventListener('toggle', () => detail.draw());
addEventListener('keydown', (event) => {
  const typing = /** @type {Element} */ (event.target).closest?.('input[type=search]');
  if (event.key === '/' && !typing && !detail.series) {
    event.preventDefault();
    find.focus();
    find.select();
  } else if (event.key === 'Escape' && typing && find.value) {
    event.preventDefault();
    writeRoute({ find: '' });
  }
});

setUpTheme(/** @type {HTMLButtonElement} */ (byId('theme')), () => {
  forgetColours();
  overview.repaint();
  detail.repaint();
});
onRoute(follow);
follow(readRoute());
status.follow(socket);
socket.connect();
