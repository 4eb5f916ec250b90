/**
 * Sign-in with OpenID Connect: authorization code with PKCE (RFC 7636, S256), state and nonce, refresh tokens.
 *
 * No DOM: the caller navigates to what `begin` returns and hands the query of the redirect to `finish`. Tokens live in
 * the given storage (the page gives sessionStorage), so that closing the tab signs out.
 */

import { Problem } from './api.js';

/**
 * @typedef {{issuer: string, clientId: string, discoveryUrl?: string}} SignInConfig
 * @typedef {{idToken: string, refreshToken?: string, expiresAt: number}} Tokens `expiresAt` in epoch milliseconds
 * @typedef {{state: string, nonce: string, verifier: string, redirectUri: string, returnTo: string}} Pending
 */

const TOKENS = 'parley.tokens';
const PENDING = 'parley.signin';
/** Tokens are refreshed this long before they end. */
const EARLY_MS = 60_000;

/** @param {Uint8Array} bytes @returns {string} */
function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replaceAll('=', '');
}

function secret() {
  return base64url(crypto.getRandomValues(new Uint8Array(32)));
}

/**
 * The claims of an ID token that came straight from the token endpoint (OIDC Core 3.1.3.7: TLS then stands in for the
 * signature).
 * @param {string} token
 * @returns {Record<string, any>}
 */
export function claimsOf(token) {
  const part = token.split('.')[1]?.replaceAll('-', '+').replaceAll('_', '/') ?? '';
  const bytes = Uint8Array.from(atob(part), (character) => character.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes));
}

export class SignIn {
  /** @type {Promise<any> | undefined} */
  #discovery;
  /** @type {Promise<string> | null} */
  #refreshing = null;

  /**
   * @param {SignInConfig} config
   * @param {{storage: Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>, fetch?: import('./messages.d.ts').Fetch, now?: () => number}} env
   */
  constructor(config, { storage, fetch = globalThis.fetch.bind(globalThis), now = Date.now }) {
    this.config = config;
    this.storage = storage;
    this.fetch = fetch;
    this.now = now;
  }

  /** @returns {Tokens | null} */
  get #tokens() {
    const text = this.storage.getItem(TOKENS);
    return text ? JSON.parse(text) : null;
  }

  get isSignedIn() {
    return this.#tokens !== null;
  }

  signOut() {
    this.storage.removeItem(TOKENS);
  }

  /** The issuer's metadata, read once. @returns {Promise<any>} */
  discover() {
    const address =
      this.config.discoveryUrl || `${this.config.issuer.replace(/\/$/, '')}/.well-known/openid-configuration`;
    this.#discovery ??= this.fetch(address)
      .then((response) => {
        if (!response.ok) throw new Error(`discovery answered ${response.status}`);
        return response.json();
      })
      .catch(() => {
        this.#discovery = undefined; // the next try asks again
        throw new Problem('network', 'The sign-in service does not answer.');
      });
    return this.#discovery;
  }

  /**
   * Starts a sign-in. @param {{redirectUri: string, returnTo: string}} where
   * @returns {Promise<string>} the address to go to
   */
  async begin({ redirectUri, returnTo }) {
    const metadata = await this.discover();
    /** @type {Pending} */
    const pending = { state: secret(), nonce: secret(), verifier: secret(), redirectUri, returnTo };
    const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(pending.verifier));
    this.storage.setItem(PENDING, JSON.stringify(pending));
    const address = new URL(metadata.authorization_endpoint);
    const query = {
      response_type: 'code',
      client_id: this.config.clientId,
      redirect_uri: redirectUri,
      scope: 'openid profile email offline_access',
      state: pending.state,
      nonce: pending.nonce,
      code_challenge: base64url(new Uint8Array(digest)),
      code_challenge_method: 'S256',
    };
    for (const [name, value] of Object.entries(query)) address.searchParams.set(name, value);
    return address.href;
  }

  /**
   * Takes the redirect's query. @param {URLSearchParams} query
   * @returns {Promise<string | null>} where the person came from; null where this is no redirect of ours
   */
  async finish(query) {
    const text = this.storage.getItem(PENDING);
    if (!query.has('state') || !text) return null;
    this.storage.removeItem(PENDING);
    /** @type {Pending} */
    const pending = JSON.parse(text);
    if (query.get('state') !== pending.state)
      throw new Problem('sign-in-failed', 'The sign-in did not come from here.');
    if (!query.has('code')) {
      if (query.get('error') === 'access_denied') return pending.returnTo;
      throw new Problem('sign-in-failed', query.get('error_description') ?? 'The sign-in was refused.');
    }
    const tokens = await this.#redeem({
      grant_type: 'authorization_code',
      code: query.get('code') ?? '',
      redirect_uri: pending.redirectUri,
      code_verifier: pending.verifier,
    });
    if (claimsOf(tokens.idToken).nonce !== pending.nonce) {
      throw new Problem('sign-in-failed', 'The sign-in did not come from here.');
    }
    this.storage.setItem(TOKENS, JSON.stringify(tokens));
    return pending.returnTo;
  }

  /** A bearer token that is valid now. Throws Problem `unauthenticated`. @returns {Promise<string>} */
  async token() {
    const tokens = this.#tokens;
    if (!tokens) throw new Problem('unauthenticated', 'Sign in first.', { status: 401 });
    if (tokens.expiresAt - EARLY_MS > this.now()) return tokens.idToken;
    this.#refreshing ??= this.#refresh(tokens).finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }

  /** @param {Tokens} old @returns {Promise<string>} */
  async #refresh(old) {
    try {
      if (!old.refreshToken) throw new Problem('unauthenticated', 'Sign in again.', { status: 401 });
      const tokens = await this.#redeem({ grant_type: 'refresh_token', refresh_token: old.refreshToken });
      tokens.refreshToken ??= old.refreshToken;
      this.storage.setItem(TOKENS, JSON.stringify(tokens));
      return tokens.idToken;
    } catch (error) {
      if (error instanceof Problem && error.code === 'network') throw error;
      this.signOut();
      throw new Problem('unauthenticated', 'Your sign-in has ended. Sign in again.', { status: 401 });
    }
  }

  /** @param {Record<string, string>} form @returns {Promise<Tokens>} */
  async #redeem(form) {
    const metadata = await this.discover();
    const body = new URLSearchParams({ client_id: this.config.clientId, ...form });
    let response;
    try {
      response = await this.fetch(metadata.token_endpoint, { method: 'POST', body });
    } catch {
      throw new Problem('network', 'The sign-in service does not answer.');
    }
    if (response.status >= 500) throw new Problem('network', 'The sign-in service does not answer.');
    const answer = await response.json().catch(() => ({}));
    if (!response.ok || typeof answer.id_token !== 'string') {
      throw new Problem('sign-in-failed', answer.error_description ?? 'The sign-in was refused.');
    }
    const claims = this.#checked(answer.id_token, metadata);
    return { idToken: answer.id_token, refreshToken: answer.refresh_token, expiresAt: claims.exp * 1000 };
  }

  /** @param {string} idToken @param {any} metadata @returns {Record<string, any>} */
  #checked(idToken, metadata) {
    const claims = claimsOf(idToken);
    const audience = Array.isArray(claims.aud) ? claims.aud : [claims.aud];
    // Entra's multi-tenant issuer is a template: "{tenantid}" stands for the token's own tenant.
    const issuer = String(metadata.issuer).replace('{tenantid}', claims.tid ?? '');
    if (claims.iss !== issuer || !audience.includes(this.config.clientId) || typeof claims.exp !== 'number') {
      throw new Problem('sign-in-failed', 'The sign-in service gave a token for somebody else.');
    }
    return claims;
  }
}
