/**
 * Frames of a tunnel session: 12 bytes and a payload, one after the other (docs/tunnel-protocol.md).
 *
 * `FrameReader` takes bytes as they come, cut anywhere, and gives whole frames. What cannot be a frame throws BadFrame,
 * after which the wire is to be closed.
 */

export const SIGNAL = 0;
export const CONTROL = 1;
export const AUDIO = 2;
export const VIDEO = 3;
export const DATAGRAM = 4;
export const ACK = 5;
export const PING = 6;
export const PONG = 7;
export const KEY = 1;
export const DISCARDABLE = 2;
export const HEADER = 12;
export const MAX_PAYLOAD = 262_144;
const MAX_DATAGRAM = 1_500;
const EMPTY = new Uint8Array(0);

/**
 * @typedef {object} Frame
 * @property {number} type
 * @property {number} stream
 * @property {Uint8Array} payload
 * @property {number} sequence modulo 2^16
 * @property {number} timestamp the stream's RTP clock; milliseconds for ping and pong
 * @property {number} flags KEY and DISCARDABLE
 */

export class BadFrame extends Error {}

/** @param {number} type @param {number} stream @param {Partial<Frame>} [rest] @returns {Frame} */
export function makeFrame(type, stream, rest = {}) {
  return { type, stream, payload: EMPTY, sequence: 0, timestamp: 0, flags: 0, ...rest };
}

/** Bytes on the wire. @param {Frame} frame */
export function sizeOf(frame) {
  return HEADER + frame.payload.length;
}

/** The bytes of frames, one after the other. @param {Frame[]} frames @returns {Uint8Array<ArrayBuffer>} */
export function encodeAll(frames) {
  const bytes = new Uint8Array(frames.reduce((sum, frame) => sum + sizeOf(frame), 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const { type, stream, payload, sequence, timestamp, flags } of frames) {
    if (payload.length > MAX_PAYLOAD) throw new RangeError('the payload is longer than a frame may carry');
    view.setUint8(at, (type << 4) | (flags & 3));
    view.setUint16(at + 1, stream);
    view.setUint16(at + 3, sequence);
    view.setUint32(at + 5, timestamp);
    view.setUint8(at + 9, payload.length >> 16);
    view.setUint16(at + 10, payload.length & 0xffff);
    bytes.set(payload, at + HEADER);
    at += HEADER + payload.length;
  }
  return bytes;
}

/** Whether `sequence` is newer, modulo 2^16. @param {number} sequence @param {number} than */
export function isNewer(sequence, than) {
  const ahead = (sequence - than) & 0xffff;
  return ahead > 0 && ahead < 0x8000;
}

/** @param {number} type @param {number} stream @param {number} length */
function check(type, stream, length) {
  if (type > PONG) throw new BadFrame('there is no such type');
  if (length > (type === DATAGRAM ? MAX_DATAGRAM : MAX_PAYLOAD)) throw new BadFrame('the payload is too long');
  const isMedia = type >= AUDIO && type <= DATAGRAM;
  if (isMedia === (stream === 0)) throw new BadFrame('the stream is not one for this type');
  if (type >= ACK && length) throw new BadFrame('the type carries nothing');
}

export class FrameReader {
  /** @type {Uint8Array} */
  #rest = EMPTY;

  get buffered() {
    return this.#rest.length;
  }

  /** The frames that `data` completes. Throws BadFrame. @param {Uint8Array} data @returns {Frame[]} */
  feed(data) {
    const bytes = this.#joined(data);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const frames = [];
    let at = 0;
    while (bytes.length - at >= HEADER) {
      const type = bytes[at] >> 4;
      const stream = view.getUint16(at + 1);
      const length = (bytes[at + 9] << 16) | view.getUint16(at + 10);
      check(type, stream, length);
      const end = at + HEADER + length;
      if (bytes.length < end) break;
      const payload = bytes.slice(at + HEADER, end);
      const flags = bytes[at] & 3;
      frames.push({ type, stream, payload, sequence: view.getUint16(at + 3), timestamp: view.getUint32(at + 5), flags });
      at = end;
    }
    this.#rest = bytes.slice(at);
    return frames;
  }

  /** @param {Uint8Array} data */
  #joined(data) {
    if (!this.#rest.length) return data;
    const joined = new Uint8Array(this.#rest.length + data.length);
    joined.set(this.#rest);
    joined.set(data, this.#rest.length);
    return joined;
  }
}

/** The frames of a message that holds whole ones. Throws BadFrame. @param {Uint8Array} data */
export function decodeAll(data) {
  const reader = new FrameReader();
  const frames = reader.feed(data);
  if (reader.buffered) throw new BadFrame('the last frame is cut off');
  return frames;
}
