/** Pickers for microphone, camera and speaker with a level meter, as used before joining and in a call. */

import { meter } from './devices.js';
import { el, field } from './dom.js';

/** @typedef {import('./devices.js').Devices} Devices */
/** @typedef {import('./devices.js').DeviceKind} DeviceKind */

const LABELS = { microphone: 'Microphone', camera: 'Camera', speaker: 'Speaker' };

/** @param {Devices} devices @param {DeviceKind} kind @param {string} prefix */
function picker(devices, kind, prefix) {
  const select = el('select', { id: `${prefix}-${kind}`, testid: `pick-${kind}` });
  select.addEventListener('change', () => devices.choose(kind, select.value));
  const fill = async () => {
    const list = await devices.list(kind);
    const current = kind === 'speaker' ? devices.choice.speaker : devices[kind]?.getSettings().deviceId;
    const options = list.map((device, index) =>
      el('option', { value: device.deviceId }, device.label || `${LABELS[kind]} ${index + 1}`),
    );
    select.replaceChildren(...(options.length ? options : [el('option', { value: '' }, 'None found')]));
    select.disabled = options.length === 0;
    if (list.some(({ deviceId }) => deviceId === current)) select.value = current ?? '';
  };
  return { element: field(LABELS[kind], select), fill };
}

/**
 * @param {Devices} devices
 * @param {string} prefix makes the ids of the fields unique
 * @returns {{element: HTMLElement, close: () => void}}
 */
export function devicePickers(devices, prefix) {
  /** @type {DeviceKind[]} */
  const kinds = devices.canChooseSpeaker ? ['microphone', 'camera', 'speaker'] : ['microphone', 'camera'];
  const pickers = kinds.map((kind) => picker(devices, kind, prefix));
  const bar = el('div', { class: 'level-bar' });
  const level = el(
    'div',
    {
      class: 'level',
      role: 'meter',
      'aria-label': 'Microphone level',
      'aria-valuemin': 0,
      'aria-valuemax': 100,
      'aria-valuenow': 0,
    },
    bar,
  );
  pickers[0].element.append(level);
  /** @type {MediaStreamTrack | null} */
  let measured = null;
  let stop = () => {};
  const show = (/** @type {number} */ value) => {
    bar.style.setProperty('transform', `scaleX(${value})`);
    level.setAttribute('aria-valuenow', String(Math.round(value * 100)));
  };
  const update = () => {
    for (const { fill } of pickers) fill();
    if (measured === devices.microphone) return;
    stop();
    measured = devices.microphone;
    show(0);
    stop = measured ? meter(measured, show) : () => {};
  };
  const off = devices.on('change', update);
  update();
  const close = () => {
    off();
    stop();
  };
  return { element: el('div', { class: 'pickers' }, ...pickers.map(({ element }) => element)), close };
}
