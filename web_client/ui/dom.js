/**
 * Making elements: `el('button', {class: 'primary', onclick}, 'Join')` and `icon('mic')`.
 *
 * Text is always set as text, never as HTML; style goes through classes or CSSOM, so that the page runs under a strict
 * content security policy.
 */

import { ICONS } from './icons.js';

const SVG = 'http://www.w3.org/2000/svg';

/** @typedef {Node | string | null | undefined | false} Child */

/**
 * Attributes by name; `on...` are listeners, `dataset` and `class` as they say; false, null and undefined are left out.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} [props]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function el(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'dataset') Object.assign(element.dataset, value);
    else if (name === 'testid') element.dataset.testid = value;
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A decorative icon. @param {string} name @returns {SVGSVGElement} */
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  const attributes = { viewBox: '0 0 24 24', class: 'icon', 'aria-hidden': 'true', focusable: 'false' };
  for (const [key, value] of Object.entries(attributes)) svg.setAttribute(key, value);
  for (const [tag, shape] of ICONS[name] ?? []) {
    const part = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(shape)) part.setAttribute(key, value);
    svg.append(part);
  }
  svg.dataset.icon = name;
  return svg;
}

/** Changes an element's icon, only when it differs. @param {Element} parent @param {string} name */
export function setIcon(parent, name) {
  const old = parent.querySelector('svg.icon');
  if (old instanceof SVGElement && old.dataset.icon !== name) old.replaceWith(icon(name));
}

/** Sets or removes an attribute, only when it differs. @param {Element} element @param {string} name @param {string | null} value */
export function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** @param {Element} element @param {string} text */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Calls `work` once for any number of calls in a row.
 * @param {() => void} work
 * @param {number} [delayMs]
 * @returns {(() => void) & {cancel: () => void}}
 */
export function coalesce(work, delayMs = 16) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const later = () => {
    timer ??= setTimeout(() => {
      timer = undefined;
      work();
    }, delayMs);
  };
  const cancel = () => {
    clearTimeout(timer);
    timer = undefined;
  };
  return Object.assign(later, { cancel });
}

/**
 * A labelled field. @param {string} label @param {HTMLElement} control @param {{hint?: string}} [options]
 * @returns {HTMLElement}
 */
export function field(label, control, { hint } = {}) {
  control.id ||= `f-${label.toLowerCase().replaceAll(/[^a-z]+/g, '-')}`;
  if (hint) control.setAttribute('aria-describedby', `${control.id}-hint`);
  return el(
    'div',
    { class: 'field' },
    el('label', { for: control.id }, label),
    control,
    hint && el('p', { class: 'hint', id: `${control.id}-hint` }, hint),
  );
}

/** @param {string} label @param {boolean} checked @param {string} hint @param {string} testid */
export function checkbox(label, checked, hint, testid) {
  const input = el('input', { type: 'checkbox', checked, testid, role: 'switch' });
  const element = el('label', { class: 'switch' }, input, el('span', {}, label, el('small', {}, hint)));
  return { element, input };
}

/**
 * An icon-only button with a label, which is also its tooltip.
 * @param {string} name
 * @param {string} label
 * @param {Record<string, any>} [props]
 */
export function iconButton(name, label, props = {}) {
  const { class: extra = '', ...rest } = props;
  return el(
    'button',
    { type: 'button', 'aria-label': label, 'data-tip': label, ...rest, class: `icon-button ${extra}` },
    icon(name),
  );
}
