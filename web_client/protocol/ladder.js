/**
 * The ladder of a call: which way its signaling and media take, and when they take another.
 *
 * The upper rungs (UDP, ICE over TCP, TURN over UDP, TCP and TLS) are WebRTC's own, and ICE tries them all at once. Below
 * them is the HTTP tunnel by a WebSocket, streaming or long-poll. A call that is not up in time by WebRTC looks whether a
 * wire of the tunnel passes, and joins again by it; what comes up first wins. Where nothing but WebSockets is shut, only
 * signaling takes the tunnel. In the tunnel it looks upward in the background: for WebRTC, where signaling and a relay
 * pass, and else for a better wire, which is taken in mid-call. What worked last is taken at once the next time.
 */

const LOOK_MS = 500;
/** A call that was never up may take so long, and one that was up so long to come back, before it takes the tunnel. */
const FIRST_MS = 4000;
const AGAIN_MS = 8000;
/** So long before it is looked whether there is one. */
const AHEAD_MS = 2500;
/** Nothing passed: when to look again. */
const SEEK_AGAIN_MS = 4000;
/** How often the way upward is looked for: between one and two of these; longer, where WebRTC did not hold what it promised. */
const PROBE_MS = 30_000;
const MAX_PROBE_MS = 600_000;
const SOON_MS = 2000;
/** What holds for so long is good. */
const SETTLED_MS = 10_000;
const PROBE_LIMIT_MS = 4000;
/** The same while somebody waits. */
const QUICK_LIMIT_MS = 2500;
/** A network is another one after so long. */
const REMEMBERED_MS = 86_400_000;
const KEY = 'parley.way';

/**
 * @typedef {import('./tunnel/wires.js').WireKind} WireKind
 * @typedef {'direct' | 'signaling' | 'tunnel'} Way WebRTC; the same with signaling by the tunnel; all by the tunnel
 * @typedef {object} LadderEnv what a test or another runtime may replace
 * @property {() => number} [now] ms, monotonic
 * @property {() => number} [date] ms since 1970
 * @property {() => number} [random]
 * @property {Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>} [storage]
 * @property {() => Promise<WireKind | null>} [bestWire]
 * @property {() => Promise<boolean>} [probeDirect] whether signaling and media pass
 * @property {() => Promise<boolean>} [probeMedia]
 * @property {(options: any) => Promise<import('./tunnel/way.js').TunnelWay>} [loadTunnel]
 * @typedef {object} LadderOptions
 * @property {string} url of `/v1/tunnel/sessions`, absolute
 * @property {WireKind} [forced] the tunnel by this wire and nothing else, for tests
 * @property {LadderEnv} [env]
 */

export class Ladder {
  /** @type {Way} */
  way = 'direct';
  /** Of the tunnel. @type {WireKind | null} */
  wire = null;
  #call;
  #media;
  #WebSocket;
  /** @type {import('./tunnel/way.js').TunnelWay | null} */
  #tunnel = null;
  #isSeeking = false;
  #foundNothing = false;
  #seekAt = 0;
  #wasUp = false;
  /** @type {number | null} */
  #downSince = null;
  /** @type {number | null} */
  #upSince = null;
  #probeAt = 0;
  #pause = PROBE_MS;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;

  /**
   * Looks after a call from now on: signaling opens its sockets by the way that is taken.
   * @param {LadderOptions & {call: import('./call.js').Call, media: import('./switched_media.js').SwitchedMedia}} options
   */
  constructor({ url, forced, env = {}, call, media }) {
    this.url = url;
    this.forced = forced ?? null;
    this.env = env;
    this.now = env.now ?? (() => performance.now());
    this.date = env.date ?? Date.now;
    this.random = env.random ?? Math.random;
    this.storage = env.storage ?? globalThis.localStorage;
    this.#call = call;
    this.#media = media;
    this.#WebSocket = call.signaling.WebSocket;
    call.signaling.WebSocket = this.#socketClass();
    call.signaling.on('lost', ({ reason }) => {
      // A socket that does not even open tells at once what a time limit tells late.
      if (reason === 'not-joined' && this.way === 'direct' && !this.#wasUp) this.#descend();
    });
    media.on('failed', () => this.way === 'direct' && this.#descend());
    call.on('state', (state) => {
      if (state === 'ended' || state === 'idle') this.#stop();
      else this.#timer ??= setInterval(() => this.look(), LOOK_MS);
    });
  }

  // --- the call -------------------------------------------------------------------------------------------------------
  /** Before a join: what worked last here is taken at once. @returns {Promise<void>} */
  async begin() {
    const { way, wire } = this.forced ? { way: /** @type {Way} */ ('tunnel'), wire: this.forced } : this.#remembered();
    if (!wire || this.way !== 'direct') return;
    this.#probeAt = this.now() + SOON_MS;
    try {
      await this.#take(way, wire);
    } catch (error) {
      if (this.forced) throw error; // what is only remembered is no more than a hint
    }
  }

  /** A socket by the way that is taken when it is opened. @returns {import('./messages.d.ts').SocketClass} */
  #socketClass() {
    const open = (/** @type {string} */ url, /** @type {string[]} */ protocols) => {
      const tunnel = this.way === 'direct' ? null : this.#tunnel;
      this.#media.take(tunnel?.media ?? null); // only now: what came by the former way was heard until here
      return tunnel ? new tunnel.Socket(url) : new this.#WebSocket(url, protocols);
    };
    /** @param {string} url @param {string[]} protocols */
    function LadderSocket(url, protocols) {
      return open(url, protocols);
    }
    return /** @type {any} */ (LadderSocket);
  }

  /** The network is another one. */
  networkChanged() {
    this.#seekAt = 0;
    if (this.way === 'direct' || this.forced) return;
    this.#pause = PROBE_MS;
    this.#probeAt = this.now() + SOON_MS;
  }

  /** A wire of the tunnel is looked for, and the last time there was one, or there was no last time. */
  get mayHelp() {
    return this.#isSeeking && !this.#foundNothing;
  }

  // --- looking --------------------------------------------------------------------------------------------------------
  /** What is due; called twice a second. */
  look() {
    const now = this.now();
    if (this.way !== 'direct' && !this.forced && now >= this.#probeAt) this.#climb();
    if (this.way === 'tunnel') return;
    if (!this.#isDown()) {
      this.#downSince = null;
      this.#upSince ??= now;
      this.#wasUp ||= this.#isUp();
      if (this.way === 'direct' && this.#wasUp && now - this.#upSince >= SETTLED_MS) this.#settle();
      return;
    }
    this.#upSince = null;
    this.#downSince ??= now;
    const due = this.#downSince + (this.#wasUp ? AGAIN_MS : FIRST_MS);
    if (now >= due - AHEAD_MS) this.#descend(due);
  }

  /** Neither signaling nor media could do better by the tunnel. */
  #isUp() {
    const { topology, transports } = this.#call;
    if (topology.side === 'mesh') return [...topology.mesh.links.values()].some(({ isUp }) => isUp);
    const { publish, subscribe } = transports.state;
    // Where there is nothing to receive nothing is offered, and that connection stays new.
    return publish === 'connected' && (subscribe === 'connected' || subscribe === 'new');
  }

  /** A tunnel might help: no server, or a media server or peers that are there and not reached. */
  #isDown() {
    const { signaling, topology, transports } = this.#call;
    if (signaling.state !== 'connected' || this.#media.isTunnelled) return true;
    const isAlone = topology.side === 'mesh' ? topology.mesh.links.size === 0 : !transports.publisher;
    return !isAlone && !this.#isUp();
  }

  #settle() {
    this.#pause = PROBE_MS;
    this.#forget();
  }

  // --- down -----------------------------------------------------------------------------------------------------------
  /** @param {number} [due] when the tunnel may be taken, if it is needed then */
  async #descend(due = 0) {
    if (this.#isSeeking || this.now() < this.#seekAt) return;
    this.#isSeeking = true;
    try {
      this.#foundNothing = !(await this.#seek(due));
    } catch {
      this.#foundNothing = true; // what is loaded for it did not come: it is looked for again
    }
    this.#isSeeking = false;
    this.#seekAt = this.now() + SEEK_AGAIN_MS;
  }

  /** Takes the best wire, where that is needed when it is due. @param {number} due @returns {Promise<boolean>} whether one passes */
  async #seek(due) {
    const { signaling, topology } = this.#call;
    const isConnected = signaling.state === 'connected';
    const [wire, isPeersFault, isMediaOpen] = await Promise.all([
      this.#bestWire(),
      // A peer that does not answer may be to blame itself; the room leaves the mesh by itself then.
      isConnected && topology.side === 'mesh' && this.#probeDirect().catch(() => false),
      !isConnected && this.way === 'direct' && this.#probeMedia(QUICK_LIMIT_MS),
    ]);
    await sleep(due - this.now());
    const isOver = this.#timer === undefined || this.way === 'tunnel';
    if (!wire || isOver || !this.#isDown() || (isPeersFault && topology.side === 'mesh')) return wire !== null;
    const way = isMediaOpen ? 'signaling' : 'tunnel';
    this.#probeAt = this.now() + this.#nextPause();
    await this.#take(way, wire);
    this.#remember(way, wire);
    this.#call.rejoin('way');
    return true;
  }

  /** @returns {Promise<WireKind | null>} */
  async #bestWire() {
    if (this.env.bestWire) return this.env.bestWire();
    const { bestWire } = await import('./probes/wires.js');
    return bestWire(this.url, this.#network);
  }

  /** For probes. */
  get #network() {
    return { fetch: globalThis.fetch.bind(globalThis), WebSocket: this.#WebSocket };
  }

  /** @param {Way} way @param {WireKind | null} wire */
  async #take(way, wire) {
    if (way !== 'direct') this.#tunnel = await this.#loadTunnel(way === 'tunnel');
    this.way = way;
    this.wire = wire;
    this.#wasUp = false;
    this.#downSince = this.#upSince = null;
  }

  /** @param {boolean} hasMedia */
  async #loadTunnel(hasMedia) {
    const options = {
      url: this.url,
      hasMedia,
      choose: async () => {
        this.wire ??= await this.#bestWire();
        if (this.wire) return this.wire;
        this.#take('direct', null); // neither of them: one after the other is tried
        throw new Error('no wire of the tunnel passes');
      },
      failed: (/** @type {WireKind} */ kind) => {
        if (!this.forced && this.wire === kind) this.wire = null;
      },
    };
    if (this.env.loadTunnel) return this.env.loadTunnel(options);
    const { tunnelWay } = await import('./tunnel/way.js');
    return tunnelWay(options);
  }

  // --- up -------------------------------------------------------------------------------------------------------------
  async #climb() {
    if (this.#call.signaling.state !== 'connected') return; // it is joining as it is
    this.#probeAt = this.now() + this.#nextPause();
    const former = this.way;
    const isOpen = await this.#probeDirect().catch(() => false);
    if (this.#timer === undefined || this.way !== former) return;
    if (isOpen) {
      this.#pause = Math.min(MAX_PROBE_MS, this.#pause * 2); // for the case that it does not hold
      await this.#take('direct', null);
      this.#call.rejoin('way');
      return;
    }
    if (this.wire === 'websocket' || this.way === 'signaling') return;
    const better = await this.#bestWire().catch(() => null);
    const { tunnel } = this.#media;
    if (!better || !tunnel || better === this.wire || rank(better) > rank(this.wire)) return;
    await tunnel.use(better).then(
      () => {
        this.wire = better;
        this.#remember(this.way, better);
      },
      () => {}, // the former one goes on
    );
  }

  async #probeDirect() {
    if (this.env.probeDirect) return this.env.probeDirect();
    const { probeSignaling } = await import('./probes/wires.js');
    await limited(PROBE_LIMIT_MS, (signal) => probeSignaling(this.#call.signaling.url, this.#network, signal));
    return this.#probeMedia();
  }

  /** Whether a relay passes; without one it is worth a try. @param {number} [limitMs] @returns {Promise<boolean>} */
  async #probeMedia(limitMs = PROBE_LIMIT_MS) {
    if (this.env.probeMedia) return this.env.probeMedia();
    const { probeRelay } = await import('./probes/relay.js');
    const { iceServers, RTCPeerConnection } = this.#media.direct;
    const relays = iceServers.filter(({ urls }) => [urls].flat().some((url) => url.startsWith('turn')));
    if (!relays.length) return true;
    return limited(limitMs, (signal) => probeRelay(relays, RTCPeerConnection, signal)).then(
      () => true,
      () => false,
    );
  }

  #nextPause() {
    return this.#pause * (1 + this.random());
  }

  // --- what worked ----------------------------------------------------------------------------------------------------
  /** @returns {{way: Way, wire: WireKind | null}} */
  #remembered() {
    try {
      const { way, wire, at } = JSON.parse(this.storage.getItem(KEY) ?? 'null') ?? {};
      const isFresh = Math.abs(this.date() - at) < REMEMBERED_MS;
      const isKnown = rank(wire) < RANKS.length && (way === 'tunnel' || way === 'signaling');
      if (isFresh && isKnown) return { way, wire };
    } catch {
      // It is a hint, never needed.
    }
    return { way: 'direct', wire: null };
  }

  /** @param {Way} way @param {WireKind} wire */
  #remember(way, wire) {
    try {
      this.storage.setItem(KEY, JSON.stringify({ way, wire, at: this.date() }));
    } catch {
      // The next call finds out for itself.
    }
  }

  #forget() {
    try {
      this.storage.removeItem(KEY);
    } catch {
      // Likewise.
    }
  }

  #stop() {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

/** @template T @param {number} limitMs @param {(signal: AbortSignal) => Promise<T>} attempt @returns {Promise<T>} */
async function limited(limitMs, attempt) {
  const signal = AbortSignal.timeout(limitMs);
  const late = new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('late'))));
  return Promise.race([attempt(signal), /** @type {Promise<never>} */ (late)]);
}

/** @param {number} ms */
function sleep(ms) {
  return ms > 0 ? new Promise((resolve) => setTimeout(resolve, ms)) : Promise.resolve();
}

const RANKS = ['websocket', 'streaming', 'longpoll'];

/** Best first; what is no wire comes last. @param {string | null} wire */
function rank(wire) {
  const place = RANKS.indexOf(wire ?? '');
  return place < 0 ? RANKS.length : place;
}
