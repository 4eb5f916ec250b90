/**
 * Notes when each step of a join happens, from outside: runs before the page's own code and wraps what the page calls.
 *
 * `globalThis.joinSteps` is {step: epoch milliseconds}; a step counts once. Frames are seen by a processor on a clone of
 * the received track, at the moment at which the first one is decoded, without polling.
 */
(() => {
  const steps = (globalThis.joinSteps = {});
  const note = (name) => (steps[name] ??= performance.timeOrigin + performance.now());

  const { fetch } = globalThis;
  globalThis.fetch = async (resource, options) => {
    const isJoin = options?.method === 'POST' && String(resource.url ?? resource).endsWith('/join');
    if (isJoin) note('rest.sent');
    const response = await fetch(resource, options);
    if (isJoin) note('rest.answered');
    return response;
  };

  const typeOf = (data) => (typeof data === 'string' ? data.match(/"type":\s*"(\w+)"/)?.[1] : undefined);
  globalThis.WebSocket = class extends WebSocket {
    constructor(...parameters) {
      super(...parameters);
      note('socket.made');
      this.addEventListener('open', () => note('socket.open'));
      this.addEventListener('message', ({ data }) => note(`in.${typeOf(data)}`));
    }

    send(data) {
      note(`out.${typeOf(data)}`);
      super.send(data);
    }
  };

  const watchFrames = (track) => {
    const reader = new MediaStreamTrackProcessor({ track: track.clone() }).readable.getReader();
    reader.read().then(({ value }) => {
      note('frame.decoded');
      value?.close();
      reader.cancel();
    });
  };
  globalThis.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...parameters) {
      super(...parameters);
      let direction = 'publish';
      this.addEventListener('track', ({ track }) => {
        direction = 'subscribe';
        if (track.kind === 'video') watchFrames(track);
      });
      this.addEventListener('iceconnectionstatechange', () => note(`${direction}.ice-${this.iceConnectionState}`));
      this.addEventListener('connectionstatechange', () => note(`${direction}.${this.connectionState}`));
    }
  };
})();
