/**
 * A small typed EventTarget: `emit(name, detail)` out, `on(name, handler)` in. Handlers get the detail itself; the DOM's
 * `addEventListener` works as well and gets a CustomEvent.
 */

export class Emitter extends EventTarget {
  /** @param {string} name @param {any} [detail] */
  emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /**
   * @param {string} name
   * @param {(detail: any) => void} handler
   * @returns {() => void} removes the handler
   */
  on(name, handler) {
    const listener = (/** @type {Event} */ event) => handler(/** @type {CustomEvent} */ (event).detail);
    this.addEventListener(name, listener);
    return () => this.removeEventListener(name, listener);
  }
}
