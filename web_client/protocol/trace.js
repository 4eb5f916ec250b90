/**
 * The client's part of the join trace (W3C Trace Context).
 *
 * One `JoinTrace` is made per join. Its root span covers the whole join; `start` opens a child and gives its traceparent
 * for the HTTP header or the envelope; `report` gives the finished spans in the shape of the ReportTrace message.
 */

import { randomHex } from './wire.js';

/**
 * @typedef {{name: string, spanId: string, startMs: number, endMs: number, parentSpanId?: string}} SpanReport
 */

export class Span {
  /** @type {number | null} */
  endMs = null;

  /** @param {JoinTrace} trace @param {string} name @param {string} [parentSpanId] */
  constructor(trace, name, parentSpanId) {
    this.trace = trace;
    this.name = name;
    this.parentSpanId = parentSpanId;
    this.spanId = randomHex(8);
    this.startMs = trace.now();
  }

  /** @returns {string} */
  get traceparent() {
    return `00-${this.trace.traceId}-${this.spanId}-01`;
  }

  /** Ends the span; only the first call counts. */
  end() {
    this.endMs ??= this.trace.now();
  }
}

export class JoinTrace {
  /** @type {Span[]} */
  #spans = [];

  /** @param {() => number} [now] epoch milliseconds */
  constructor(now = () => performance.timeOrigin + performance.now()) {
    this.now = now;
    this.traceId = randomHex(16);
    this.root = new Span(this, 'join');
    this.reported = false;
  }

  /** @param {string} name @returns {Span} */
  start(name) {
    const span = new Span(this, name, this.root.spanId);
    this.#spans.push(span);
    return span;
  }

  /** Ends the root and gives all finished spans, at most 32. @returns {{spans: SpanReport[]}} */
  report() {
    this.reported = true;
    this.root.end();
    const finished = [this.root, ...this.#spans].filter((span) => span.endMs !== null).slice(0, 32);
    return {
      spans: finished.map(({ name, spanId, startMs, endMs, parentSpanId }) => ({
        name,
        spanId,
        startMs,
        endMs: Number(endMs),
        ...(parentSpanId ? { parentSpanId } : {}),
      })),
    };
  }
}
