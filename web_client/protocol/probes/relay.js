/** Whether a relay carries anything: two connections that may use nothing else say hello to each other through it. */

/** @typedef {'turn-udp' | 'turn-tcp' | 'turn-tls'} RelayWay */

/** Those that lead this way. @param {RTCIceServer[]} iceServers @param {RelayWay} way @returns {RTCIceServer[]} */
export function relaysFor(iceServers, way) {
  const fits = (/** @type {string} */ url) => {
    const isTls = url.startsWith('turns:');
    const isTcp = /[?&]transport=tcp/.test(url);
    if (way === 'turn-tls') return isTls;
    return !isTls && (way === 'turn-tcp') === isTcp && url.startsWith('turn:');
  };
  return iceServers
    .map((server) => ({ ...server, urls: [server.urls].flat().filter(fits) }))
    .filter(({ urls }) => urls.length > 0);
}

/**
 * The time of a message there and back through any of these relays, ms. Where nothing gets through it never settles;
 * `signal` frees what it holds.
 * @param {RTCIceServer[]} iceServers
 * @param {import('../messages.d.ts').ConnectionClass} RTCPeerConnection
 * @param {AbortSignal} signal
 * @returns {Promise<number>}
 */
export async function probeRelay(iceServers, RTCPeerConnection, signal) {
  signal.throwIfAborted();
  const make = () => new RTCPeerConnection({ iceServers, iceTransportPolicy: 'relay' });
  const [one, other] = [make(), make()];
  const close = () => [one, other].forEach((connection) => connection.close());
  signal.addEventListener('abort', close);
  try {
    return await hello(one, other);
  } finally {
    signal.removeEventListener('abort', close);
    close();
  }
}

/** @param {RTCPeerConnection} one @param {RTCPeerConnection} other @returns {Promise<number>} */
async function hello(one, other) {
  const channels = [one, other].map((connection) => connection.createDataChannel('test', { negotiated: true, id: 0 }));
  for (const [from, to] of /** @type {const} */ ([[one, other], [other, one]])) { // prettier-ignore
    from.onicecandidate = ({ candidate }) => candidate && to.addIceCandidate(candidate).catch(() => {});
  }
  const [mine, theirs] = channels;
  theirs.onmessage = () => theirs.send('pong');
  const pong = new Promise((resolve) => {
    mine.onmessage = resolve;
  });
  const open = new Promise((resolve) => {
    mine.onopen = resolve;
  });
  await one.setLocalDescription();
  await other.setRemoteDescription(/** @type {RTCSessionDescription} */ (one.localDescription));
  await other.setLocalDescription();
  await one.setRemoteDescription(/** @type {RTCSessionDescription} */ (other.localDescription));
  await open;
  const started = performance.now();
  mine.send('ping');
  await pong;
  return performance.now() - started;
}
