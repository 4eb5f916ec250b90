/**
 * The page: which screen is shown, who is signed in, and the address bar.
 *
 * A screen is `{element, close?}`. `/` is the home screen, `/m/<meeting id>` leads to the preview of that meeting; the
 * call keeps that address, so that a reload leads back.
 */

import { Api, Problem } from '../protocol/api.js';
import { Devices } from './devices.js';
import { homeScreen, signInScreen } from './home.js';
import { Toasts } from './notices.js';
import { prejoinScreen } from './prejoin.js';

/**
 * @typedef {{element: HTMLElement, close?: () => void}} Screen
 * @typedef {{issuer: string, clientId: string, signalingUrl?: string, version?: string, discoveryUrl?: string}} Config
 */

export class App {
  /** @type {Screen | null} */
  #screen = null;
  /** @type {import('../protocol/api.js').Profile | null} */
  profile = null;

  /**
   * @param {object} options
   * @param {HTMLElement} options.root
   * @param {Config} options.config
   * @param {import('../protocol/signin.js').SignIn} options.signIn
   * @param {import('../protocol/messages.d.ts').Fetch} [options.fetch]
   * @param {import('../protocol/call.js').CallEnv} [options.env]
   * @param {Devices} [options.devices]
   */
  constructor({ root, config, signIn, fetch, env = {}, devices = new Devices() }) {
    this.root = root;
    this.config = config;
    this.signIn = signIn;
    this.env = env;
    this.devices = devices;
    this.api = new Api({ token: () => signIn.token(), fetch });
    this.toasts = new Toasts();
    document.body.append(this.toasts.element);
    addEventListener('popstate', () => this.route());
  }

  /** @param {string} id @returns {string} */
  linkOf(id) {
    return `${location.origin}/m/${id}`;
  }

  /** @param {string} path */
  go(path) {
    if (location.pathname !== path) history.pushState(null, '', path);
    this.route();
  }

  /** Shows what the address says. */
  route() {
    const meetingId = /^\/m\/([\w-]+)\/?$/.exec(location.pathname)?.[1];
    if (this.signIn.isSignedIn && location.pathname === '/test') this.#test();
    else if (!this.signIn.isSignedIn) this.show(signInScreen(this, { meetingId }));
    else if (meetingId) this.show(prejoinScreen(this, meetingId));
    else this.show(homeScreen(this));
  }

  /** Few come here: it is loaded when somebody does. */
  async #test() {
    const { connectionScreen } = await import('./test/connection_screen.js');
    if (location.pathname === '/test') this.show(connectionScreen(this));
  }

  /** @param {Screen} screen */
  show(screen) {
    this.#screen?.close?.();
    this.#screen = screen;
    this.root.replaceChildren(screen.element);
    const heading = /** @type {HTMLElement | null} */ (screen.element.querySelector('h1'));
    document.title = heading?.textContent ? `${heading.textContent} · Parley` : 'Parley';
    heading?.setAttribute('tabindex', '-1');
    heading?.focus({ preventScroll: true });
  }

  /** The caller's profile, read once. @returns {Promise<import('../protocol/api.js').Profile>} */
  async me() {
    this.profile ??= await this.api.me();
    return this.profile;
  }

  /** To the sign-in service, and back to where we are. */
  async startSignIn() {
    const returnTo = location.pathname + location.search;
    location.assign(await this.signIn.begin({ redirectUri: `${location.origin}/`, returnTo }));
  }

  signOut() {
    this.signIn.signOut();
    this.profile = null;
    this.go('/');
  }

  /** The slug of an error; a lost sign-in leads to the sign-in screen. @param {unknown} error @returns {string} */
  codeOf(error) {
    if (!(error instanceof Problem)) return 'other';
    if (error.code === 'unauthenticated' || (error.code === 'token-refused' && error.status === 401)) {
      this.signIn.signOut();
      this.profile = null;
      this.route();
    }
    return error.code;
  }

  /** @param {string} text @param {string} said */
  async copy(text, said) {
    try {
      await navigator.clipboard.writeText(text);
      this.toasts.show(said, { code: 'copied', iconName: 'check' });
    } catch {
      this.toasts.show(text, { code: 'copy-by-hand', iconName: 'link' });
    }
  }
}
