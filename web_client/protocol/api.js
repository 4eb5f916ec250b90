/**
 * The REST API (contracts: docs/api.md), as much of it as a client of meetings needs.
 *
 * Every refusal becomes a `Problem` whose `code` is the slug of the problem document's `type`; a server that does not
 * answer becomes a `Problem` with code `network`. The bearer token is asked for before each request.
 */

/**
 * @typedef {object} Meeting
 * @property {string} id
 * @property {string} hostId
 * @property {string | null} [scheduledTime]
 * @property {string | null} [startTime]
 * @property {string | null} [endTime]
 * @property {'SCHEDULED' | 'ACTIVE' | 'COMPLETED'} status
 * @property {Record<string, any>} [settings]
 * @property {string} [createdAt]
 * @property {import('./messages.d.ts').ConsentNeeded[]} [consentRequired]
 * @property {boolean} [requiresPassword]
 * @property {boolean} [isHost]
 *
 * @typedef {{id: string, email?: string, displayName: string, tenantId?: string}} Profile
 *
 * @typedef {{name: 'acs' | 'livekit', roomId: string, identity: string, endpoint: string, token: string, expiresAt: string}} ProviderAccess
 *
 * @typedef {object} JoinGrant
 * @property {string} participantId
 * @property {string} token
 * @property {string} [signalingToken]
 * @property {string} signalingUrl
 * @property {RTCIceServer[]} iceServers
 * @property {string} expiresAt
 * @property {import('./messages.d.ts').Role} [role]
 * @property {string[]} [grants]
 * @property {ProviderAccess} [provider] where another provider carries the media
 */

export class Problem extends Error {
  /**
   * @param {string} code slug, for example `room-full`; `network` where nothing answered
   * @param {string} detail a sentence for a person
   * @param {{status?: number, members?: Record<string, any>, retryAfterS?: number}} [more]
   */
  constructor(code, detail, { status = 0, members = {}, retryAfterS } = {}) {
    super(detail || code);
    this.name = 'Problem';
    this.code = code;
    this.detail = detail;
    this.status = status;
    /** Extra members of the problem document. */
    this.members = members;
    this.retryAfterS = retryAfterS;
  }

  /** Whether the same request may succeed later. */
  get isRetryable() {
    return this.code === 'network' || this.status === 429 || this.status >= 500;
  }
}

/** @param {Response} response @returns {Promise<Problem>} */
async function problemOf(response) {
  const members = await response.json().catch(() => ({}));
  const slug = typeof members.type === 'string' ? members.type.split('/').pop() : '';
  const retryAfter = Number(response.headers.get('Retry-After'));
  const fallback = response.status === 401 ? 'unauthenticated' : response.status >= 500 ? 'unavailable' : 'refused';
  return new Problem(slug && slug !== 'about:blank' ? slug : fallback, members.detail ?? members.title ?? '', {
    status: response.status,
    members,
    retryAfterS: retryAfter > 0 ? retryAfter : undefined,
  });
}

export class Api {
  /**
   * @param {object} options
   * @param {() => Promise<string>} options.token the bearer token for the next request
   * @param {string} [options.base] origin of the API, empty for the page's own
   * @param {import('./messages.d.ts').Fetch} [options.fetch]
   * @param {number} [options.timeoutMs]
   */
  constructor({ token, base = '', fetch = globalThis.fetch.bind(globalThis), timeoutMs = 15_000 }) {
    this.token = token;
    this.base = base;
    this.fetch = fetch;
    this.timeoutMs = timeoutMs;
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {{body?: object, traceparent?: string, idempotencyKey?: string}} [options]
   * @returns {Promise<any>}
   */
  async request(method, path, { body, traceparent, idempotencyKey } = {}) {
    /** @type {Record<string, string>} */
    const headers = { Accept: 'application/json', Authorization: `Bearer ${await this.token()}` };
    if (body) headers['Content-Type'] = 'application/json';
    if (traceparent) headers.traceparent = traceparent;
    if (idempotencyKey) headers['Idempotency-Key'] = idempotencyKey;
    let response;
    try {
      response = await this.fetch(`${this.base}/v1${path}`, {
        method,
        headers,
        body: body ? JSON.stringify(body) : undefined,
        signal: AbortSignal.timeout(this.timeoutMs),
        cache: 'no-store',
      });
    } catch {
      throw new Problem('network', 'The server does not answer.');
    }
    if (!response.ok) throw await problemOf(response);
    return response.status === 204 ? null : response.json();
  }

  /** The caller. @returns {Promise<Profile>} */
  me() {
    return this.request('GET', '/users/me/profile');
  }

  /** TURN servers for a test of one's network, with credentials of five minutes. @returns {Promise<{iceServers: RTCIceServer[]}>} */
  iceServers() {
    return this.request('GET', '/users/me/ice-servers');
  }

  /**
   * One page of a host's meetings.
   * @param {string} hostId
   * @param {string} [cursor]
   * @returns {Promise<{items: Meeting[], nextCursor?: string | null}>}
   */
  meetings(hostId, cursor) {
    const query = new URLSearchParams({ hostId, ...(cursor ? { cursor } : {}) });
    return this.request('GET', `/meetings?${query}`);
  }

  /** @param {string} id @returns {Promise<Meeting>} */
  meeting(id) {
    return this.request('GET', `/meetings/${encodeURIComponent(id)}`);
  }

  /**
   * @param {{hostId: string, scheduledTime?: string, settings?: object, password?: string}} body
   * @param {string} [idempotencyKey]
   * @returns {Promise<Meeting>}
   */
  createMeeting(body, idempotencyKey = crypto.randomUUID()) {
    return this.request('POST', '/meetings', { body, idempotencyKey });
  }

  /**
   * @param {string} id
   * @param {{userId: string, password?: string, consentToken?: string}} body
   * @param {{traceparent?: string}} [options]
   * @returns {Promise<JoinGrant>}
   */
  join(id, body, { traceparent } = {}) {
    const path = `/meetings/${encodeURIComponent(id)}/join`;
    return this.request('POST', path, { body, traceparent, idempotencyKey: crypto.randomUUID() });
  }

  /** Ends the meeting for everybody; host only. @param {string} id */
  endMeeting(id) {
    return this.request('PUT', `/meetings/${encodeURIComponent(id)}/end`);
  }

  /**
   * @param {{meetingId: string, consentType: import('./messages.d.ts').ConsentType, status: 'accepted' | 'declined' | 'withdrawn'}} body
   * @returns {Promise<{consentId: string, consentToken: string, expiresAt: string}>}
   */
  consent(body) {
    return this.request('POST', '/users/consent', { body, idempotencyKey: crypto.randomUUID() });
  }
}
