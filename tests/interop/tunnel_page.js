/**
 * The web client's tunnel in Node, for test_tunnel_web.py: joins by each wire and changes it, as a page would.
 * Arguments: the gateway's origin, room, token, a wire, "text" or "binary", and the wires to change to.
 */

import { Signaling } from '../../web_client/protocol/signaling.js';
import { Tunnel, socketClass } from '../../web_client/protocol/tunnel/tunnel.js';

const [origin, roomId, token, kind, form, ...changes] = process.argv.slice(2);
/** @type {Tunnel[]} */
const tunnels = [];
const signaling = new Signaling({
  WebSocket: socketClass(async () => {
    const tunnel = new Tunnel({ url: `${origin}/v1/tunnel/sessions`, isText: form === 'text' });
    tunnels.push(tunnel);
    await tunnel.open();
    await tunnel.use(kind);
    return tunnel;
  }),
});

/** The next emission of `name` that `where` takes. */
function next(emitter, name, where = () => true) {
  return new Promise((resolve) => {
    const stop = emitter.on(name, (detail) => {
      if (!where(detail)) return;
      stop();
      resolve(detail);
    });
  });
}

async function answered() {
  const answer = next(signaling, 'message', ({ type }) => type === 'KeepAliveAck');
  signaling.send('KeepAlive', {});
  await answer;
}

const joined = next(signaling, 'joined');
signaling.join('', { roomId, token, displayName: 'Node' });
const { userId } = await joined;
await answered();
for (const change of changes) {
  await tunnels[0].use(change);
  await answered();
}
console.log(JSON.stringify({ userId, wire: tunnels[0].kind, tunnels: tunnels.length, state: signaling.state }));
signaling.leave();
process.exit(0);
