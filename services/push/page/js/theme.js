// The theme: the system's, until the reader chooses the other one.

const key = 'mdmesh.theme';
const system = matchMedia('(prefers-color-scheme: dark)');
const root = document.documentElement;

/** @returns {'light' | 'dark'} */
function current() {
  const chosen = root.dataset.theme;
  if (chosen === 'light' || chosen === 'dark') return chosen;
  return system.matches ? 'dark' : 'light';
}

/** @param {string | null} theme null goes back to the system's */
function remember(theme) {
  try {
    if (theme) localStorage.setItem(key, theme);
    else localStorage.removeItem(key);
  } catch {
    // storage is switched off: the choice lasts until the page is left
  }
}

/**
 * @param {HTMLButtonElement} button
 * @param {() => void} changed called when colours have changed, to redraw canvases
 */
export function setUpTheme(button, changed) {
  const show = () => {
    button.setAttribute('aria-label', `Switch to ${current() === 'dark' ? 'light' : 'dark'} theme`);
    changed();
  };
  button.addEventListener('click', () => {
    const wanted = current() === 'dark' ? 'light' : 'dark';
    const same = wanted === (system.matches ? 'dark' : 'light');
    if (same) delete root.dataset.theme;
    else root.dataset.theme = wanted;
    remember(same ? null : wanted);
    show();
  });
  system.addEventListener('change', show);
  show();
}
