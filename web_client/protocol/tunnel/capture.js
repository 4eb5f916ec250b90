/**
 * Raw frames of a track, for browsers whose pages have no MediaStreamTrackProcessor: pictures by requestVideoFrameCallback
 * of an element that nobody sees, sound by an AudioWorklet. Loaded only there.
 */

const SAMPLE_RATE = 48_000;

/**
 * @typedef {{frame: VideoFrame}} Picture
 * @typedef {{samples: Float32Array<ArrayBuffer>, sampleRate: number, timestamp: number}} Sound timestamp in microseconds
 */

/**
 * Gives what a track plays until the returned function is called.
 * @param {MediaStreamTrack} track
 * @param {(data: Picture | Sound, transfer: Transferable[]) => void} give
 * @returns {Promise<() => void>} Rejects where the browser allows neither.
 */
export function capture(track, give) {
  return track.kind === 'video' ? capturePictures(track, give) : captureSound(track, give);
}

/** @param {MediaStreamTrack} track @param {(data: Picture, transfer: Transferable[]) => void} give */
async function capturePictures(track, give) {
  const video = document.createElement('video');
  video.muted = video.playsInline = true;
  video.srcObject = new MediaStream([track]);
  let handle = 0;
  const next = (/** @type {number} */ now) => {
    if (video.videoWidth) {
      const frame = new VideoFrame(video, { timestamp: Math.round(now * 1000) });
      give({ frame }, [frame]);
    }
    handle = video.requestVideoFrameCallback(next);
  };
  handle = video.requestVideoFrameCallback(next);
  await video.play();
  return () => {
    video.cancelVideoFrameCallback(handle);
    video.srcObject = null;
  };
}

/** @param {MediaStreamTrack} track @param {(data: Sound, transfer: Transferable[]) => void} give */
async function captureSound(track, give) {
  const context = new AudioContext({ sampleRate: SAMPLE_RATE, latencyHint: 'interactive' });
  try {
    await context.audioWorklet.addModule(new URL('./capture_worklet.js', import.meta.url).href);
  } catch (error) {
    context.close();
    throw error;
  }
  const source = context.createMediaStreamSource(new MediaStream([track]));
  const node = new AudioWorkletNode(context, 'parley-capture', { numberOfInputs: 1, numberOfOutputs: 0 });
  node.port.onmessage = ({ data }) => give({ ...data, sampleRate: SAMPLE_RATE }, [data.samples.buffer]);
  source.connect(node);
  return () => {
    node.port.onmessage = null;
    source.disconnect();
    context.close();
  };
}
