/**
 * What a person perceives of another: the frames that their tile presents, and the blocks of their sound that are not
 * silent and played by an element that is audible. Loaded before the page's own scripts; `perceive(userId)` begins, and
 * `gaps(from, to)` gives the longest gap of both in a span of performance.now(), milliseconds.
 */
(() => {
  /** Every audio element of the page with the spans in which it could be heard. */
  const elements = [];
  const Plain = globalThis.Audio;
  const volume = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, 'volume');
  const source = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, 'srcObject');
  globalThis.Audio = function Audio() {
    const element = new Plain();
    const entry = { trackId: '', isPlaying: false, level: 1, changes: [] };
    const note = () => entry.changes.push([performance.now(), entry.isPlaying && entry.trackId ? entry.level : 0]);
    Object.defineProperty(element, 'volume', {
      get: () => volume.get.call(element),
      set: (value) => (volume.set.call(element, value), (entry.level = value), note()),
    });
    Object.defineProperty(element, 'srcObject', {
      get: () => source.get.call(element),
      set: (stream) => {
        source.set.call(element, stream);
        if (stream) entry.trackId = stream.getAudioTracks()[0].id;
        else entry.isPlaying = false;
        note();
      },
    });
    element.addEventListener('playing', () => ((entry.isPlaying = true), note()));
    elements.push(entry);
    return element;
  };

  const frames = [];
  /** Times of blocks that are not silent, by track. */
  const sounds = new Map();
  const attached = new Set();
  const BLOCK = 512; // samples, 10.7 ms
  const taps = []; // kept from being collected
  globalThis.perceive = async (userId) => {
    const video = document.querySelector(`[data-testid=tile][data-user-id="${userId}"] video`);
    const seen = () => (frames.push(performance.now()), video.requestVideoFrameCallback(seen));
    video.requestVideoFrameCallback(seen);
    const context = new AudioContext({ sampleRate: 48000 });
    await context.resume();
    const offset = performance.now() - context.currentTime * 1000;
    const attach = ({ info, media }) => {
      if (info.source !== 'microphone' || info.userId !== userId || attached.has(media)) return;
      attached.add(media); // a sender's track has the same id on each of its connections
      const times = sounds.get(media.id) ?? [];
      sounds.set(media.id, times);
      // No worklet: the page's content security policy takes scripts from its own files only.
      const node = context.createScriptProcessor(BLOCK, 1, 1);
      node.onaudioprocess = ({ inputBuffer, playbackTime }) => {
        if (inputBuffer.getChannelData(0).some((sample) => Math.abs(sample) > 0.01)) times.push(offset + playbackTime * 1000);
      };
      node.connect(context.destination); // it writes nothing there
      taps.push(node);
      context.createMediaStreamSource(new MediaStream([media])).connect(node);
    };
    const { topology, transports, mesh } = globalThis.parley.call;
    for (const received of topology.received.values()) attach(received);
    transports.on('track', attach); // before they are played, so that the tap itself has no gap
    mesh.on('track', attach);
  };

  /** Whether a track could be heard at a time. */
  const isAudible = (trackId, at) =>
    elements.some((entry) => {
      if (entry.trackId !== trackId) return false;
      const change = entry.changes.findLast(([time]) => time <= at);
      return change !== undefined && change[1] > 0;
    });

  const longest = (times, from, to) => {
    let [last, gap] = [from, 0];
    for (const time of [...times.filter((time) => time >= from && time <= to).sort((a, b) => a - b), to]) {
      gap = Math.max(gap, time - last);
      last = time;
    }
    return gap;
  };

  globalThis.gaps = (from, to) => {
    const heard = [...sounds].flatMap(([id, times]) =>
      times.filter((at) => at >= from && at <= to && isAudible(id, at)),
    );
    return { audio: longest(heard, from, to), video: longest(frames, from, to) };
  };
})();
