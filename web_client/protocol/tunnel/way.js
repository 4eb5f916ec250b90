/**
 * The tunnel as a call's way: the socket that carries its signaling, and its media, unless that goes by WebRTC all the same.
 * Loaded only where it is taken.
 *
 * A tunnel with media that ends otherwise than by the meeting's decision has lost its session at the gateway: the call
 * joins again by a new one. Signaling alone is resumed.
 */

import { CLOSE_TOKEN_REFUSED, FINAL_CLOSE } from '../wire.js';
import { Tunnel, socketClass } from './tunnel.js';
import { TunnelMedia } from './tunnel_media.js';

/** A wire that has not opened by then does not pass. */
const OPEN_MS = 4000;

/**
 * @typedef {import('./wires.js').WireKind} WireKind
 * @typedef {object} TunnelWay
 * @property {TunnelMedia | null} media
 * @property {import('../messages.d.ts').SocketClass} Socket
 */

/**
 * @param {object} options
 * @param {string} options.url of `/v1/tunnel/sessions`, absolute
 * @param {() => Promise<WireKind>} options.choose the wire to take; throws where there is none
 * @param {(kind: WireKind) => void} options.failed that wire does not pass (any more)
 * @param {boolean} options.hasMedia
 * @returns {TunnelWay}
 */
export function tunnelWay({ url, choose, failed, hasMedia }) {
  const media = hasMedia ? new TunnelMedia() : null;
  const next = async () => {
    const kind = await choose();
    const tunnel = new Tunnel({ url });
    try {
      await tunnel.open(hasMedia ? 'frames' : 'datagrams');
      await opened(tunnel.use(kind));
    } catch (error) {
      failed(kind);
      tunnel.close();
      throw error;
    }
    tunnel.on('closed', ({ code }) => code === 1006 && failed(kind));
    media?.attach(tunnel);
    return tunnel;
  };
  // Its media could not be resumed, so that Signaling is told to come back with a new token.
  const closeCode = (/** @type {number} */ code) => (FINAL_CLOSE.has(code) || !media ? code : CLOSE_TOKEN_REFUSED);
  return { Socket: socketClass(next, closeCode), media };
}

/** @param {Promise<void>} opening */
async function opened(opening) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('the wire does not open')), OPEN_MS);
  });
  try {
    await Promise.race([opening, late]);
  } finally {
    clearTimeout(timer);
  }
}
