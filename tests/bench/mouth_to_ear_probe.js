/**
 * Onsets of sound: `listen(name, media)` notes when a track becomes loud after silence, in milliseconds since 1970;
 * `onsets(name)` gives them. Two pages of one machine have one clock.
 */
(() => {
  const BLOCK = 256; // samples, 5.3 ms
  const LOUD = 0.05;
  const QUIET_MS = 300; // between two beeps
  const heard = new Map();
  const kept = [];

  globalThis.listen = async (name, media) => {
    const context = new AudioContext({ sampleRate: 48000, latencyHint: 'interactive' });
    await context.resume();
    const times = [];
    heard.set(name, times);
    let loudAt = -Infinity;
    const node = context.createScriptProcessor(BLOCK, 1, 1);
    node.onaudioprocess = ({ inputBuffer }) => {
      const samples = inputBuffer.getChannelData(0);
      const at = samples.findIndex((sample) => Math.abs(sample) > LOUD);
      if (at < 0) return;
      // The block's end is now, on both pages alike.
      const now = performance.timeOrigin + performance.now() - ((BLOCK - at) / context.sampleRate) * 1000;
      if (now - loudAt > QUIET_MS) times.push(now);
      loudAt = now;
    };
    context.createMediaStreamSource(new MediaStream([media])).connect(node);
    node.connect(context.destination); // it writes nothing there
    kept.push(context, node);
  };
  globalThis.onsets = (name) => heard.get(name) ?? [];
})();
