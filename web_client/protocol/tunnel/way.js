/**
 * A call by the tunnel: what `Call` is to be given as `env`, for each way. Loaded only where it is needed.
 *
 * A tunnel that ends otherwise than by the meeting's decision has lost its session at the gateway: the call joins again by
 * a new one.
 */

import { CLOSE_TOKEN_REFUSED, FINAL_CLOSE } from '../wire.js';
import { Tunnel, socketClass } from './tunnel.js';
import { TunnelMedia } from './tunnel_media.js';

/** Ways as the page's address and the debug hook name them. @type {Record<string, import('./wires.js').WireKind>} */
export const TUNNEL_WAYS = { websocket: 'websocket', stream: 'streaming', poll: 'longpoll' };

/**
 * @param {string} way of TUNNEL_WAYS @param {string} url of `/v1/tunnel/sessions`, absolute
 * @returns {Pick<import('../call.js').CallEnv, 'WebSocket' | 'media'>}
 */
export function tunnelEnv(way, url) {
  const media = new TunnelMedia();
  const next = async () => {
    const tunnel = new Tunnel({ url });
    await tunnel.open('frames');
    await tunnel.use(TUNNEL_WAYS[way]);
    media.attach(tunnel);
    return tunnel;
  };
  // Its media could not be resumed, so that Signaling is told to come back with a new token.
  const closeCode = (/** @type {number} */ code) => (FINAL_CLOSE.has(code) ? code : CLOSE_TOKEN_REFUSED);
  return { WebSocket: socketClass(next, closeCode), media };
}
