/** The bar on top of all screens but the call: the way home, who is signed in. */

import { el } from './dom.js';

/** @param {import('./app.js').App} app @returns {HTMLElement} */
export function topBar(app) {
  const name = el('span', { class: 'who', dir: 'auto', testid: 'who' });
  const bar = el(
    'header',
    { class: 'top-bar' },
    el(
      'a',
      { class: 'brand', href: '/', onclick: (/** @type {Event} */ event) => (event.preventDefault(), app.go('/')) },
      'Parley',
    ),
  );
  if (app.signIn.isSignedIn) {
    const test = el(
      'a',
      {
        class: 'quiet',
        href: '/test',
        testid: 'connection-test',
        onclick: (/** @type {Event} */ event) => (event.preventDefault(), app.go('/test')),
      },
      'Connection test',
    );
    const out = el(
      'button',
      { type: 'button', class: 'quiet', testid: 'sign-out', onclick: () => app.signOut() },
      'Sign out',
    );
    bar.append(el('div', { class: 'account' }, test, name, out));
    app.me().then(
      ({ displayName, email }) => {
        name.textContent = displayName || email || '';
      },
      () => {},
    );
  }
  return bar;
}
