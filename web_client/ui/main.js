/** Starts the page: reads the configuration, takes a returning sign-in, shows the screen of the address. */

import { Problem } from '../protocol/api.js';
import { SignIn } from '../protocol/signin.js';
import { App } from './app.js';
import { el } from './dom.js';
import { notice } from './notices.js';
import { reason } from './texts.js';

/** @param {HTMLElement} root */
async function start(root) {
  const config = await readConfig(root);
  const signIn = new SignIn(config, { storage: sessionStorage });
  const app = new App({ root, config, signIn });
  if (isDebugging()) Object.assign(globalThis, { parley: { call: null, stats: async () => [] } });
  try {
    const returnTo = await signIn.finish(new URLSearchParams(location.search));
    if (returnTo) history.replaceState(null, '', returnTo);
  } catch (error) {
    history.replaceState(null, '', '/');
    const code = error instanceof Problem ? error.code : 'sign-in-failed';
    app.toasts.show(reason(code).text, { code, iconName: 'circle-alert' });
  }
  app.route();
}

/** @returns {boolean} */
function isDebugging() {
  return new URLSearchParams(location.search).has('debug') || Boolean(localStorage.getItem('parleyDebug'));
}

/** Tries until the server answers. @param {HTMLElement} root @returns {Promise<import('./app.js').Config>} */
async function readConfig(root) {
  for (;;) {
    try {
      const response = await fetch('/config.json', { cache: 'no-store' });
      if (response.ok) return await response.json();
    } catch {
      // shown below
    }
    root.replaceChildren(await retryScreen(root));
  }
}

/** @param {HTMLElement} root @returns {Promise<HTMLElement>} the waiting screen, after the wait */
function retryScreen(root) {
  return new Promise((resolve) => {
    const again = () => {
      clearTimeout(timer);
      resolve(waiting());
    };
    const timer = setTimeout(again, 5000);
    const button = el('button', { type: 'button', class: 'primary', onclick: again }, 'Try now');
    const text = 'Parley’s server does not answer. The page tries again every five seconds.';
    root.replaceChildren(
      el('main', { class: 'centred' }, el('h1', {}, 'Parley'), notice('network', { text, actions: [button] })),
    );
  });
}

function waiting() {
  return el('main', { class: 'centred' }, el('h1', {}, 'Parley'), el('p', { role: 'status' }, 'Loading …'));
}

const root = document.getElementById('app');
if (root) start(root);
