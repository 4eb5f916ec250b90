/**
 * Onsets of sound and light: `listen(name, media)` notes when a track becomes loud after silence, `watch(name, video)`
 * when an element presents a bright picture after dark ones, in milliseconds since 1970; `onsets(name)` gives them. Two
 * pages of one machine have one clock. Sound is listened to on the audio thread, so that it costs the page nothing; its
 * content security policy has to be out of the way for that.
 */
(() => {
  const QUIET_MS = 300; // between two beeps, or flashes
  const BRIGHT = 128; // of 255
  const noted = new Map();
  const kept = [];

  const listener = (quietMs) => {
    const LOUD = 0.05;
    const WINDOW_MS = 1000;
    class Onsets extends AudioWorkletProcessor {
      loudAt = -Infinity;
      window = { begins: -Infinity, least: Infinity };
      before = Infinity;

      /** What is to be added to the context's time. Blocks come in bursts; the last of one counts. */
      offset(start) {
        if (start - this.window.begins > WINDOW_MS) {
          this.before = this.window.least;
          this.window = { begins: start, least: Infinity };
        }
        this.window.least = Math.min(this.window.least, Date.now() - start);
        return Math.min(this.window.least, this.before);
      }

      process([[samples]]) {
        const start = (currentFrame / sampleRate) * 1000;
        const offset = this.offset(start);
        const at = samples ? samples.findIndex((sample) => Math.abs(sample) > LOUD) : -1;
        if (at < 0) return true;
        const now = start + (at / sampleRate) * 1000;
        if (now - this.loudAt > quietMs) this.port.postMessage(now + offset);
        this.loudAt = now;
        return true;
      }
    }
    registerProcessor('onsets', Onsets);
  };
  const WORKLET = `(${listener})(${QUIET_MS})`;

  const timesOf = (name) => {
    const times = [];
    noted.set(name, times);
    return times;
  };

  globalThis.listen = async (name, media) => {
    const context = new AudioContext({ sampleRate: 48000, latencyHint: 'interactive' });
    await context.resume();
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([WORKLET], { type: 'text/javascript' })));
    const times = timesOf(name);
    const node = new AudioWorkletNode(context, 'onsets', { channelCount: 1, channelCountMode: 'explicit' });
    node.port.onmessage = ({ data }) => times.push(data);
    context.createMediaStreamSource(new MediaStream([media])).connect(node);
    node.connect(context.destination); // it writes nothing there
    kept.push(context, node);
  };

  globalThis.watch = (name, video) => {
    const times = timesOf(name);
    let brightAt = -Infinity;
    const context = new OffscreenCanvas(4, 4).getContext('2d', { willReadFrequently: true });
    const look = (now) => {
      context.drawImage(video, 0, 0, 4, 4);
      if (context.getImageData(1, 1, 1, 1).data[1] > BRIGHT) {
        if (now - brightAt > QUIET_MS) times.push(performance.timeOrigin + now);
        brightAt = now;
      }
      video.requestVideoFrameCallback(look);
    };
    video.requestVideoFrameCallback(look);
  };

  globalThis.onsets = (name) => noted.get(name) ?? [];
})();
