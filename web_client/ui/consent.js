/**
 * The choice on recording and AI processing: each text with its version, accept or decline. Nothing is chosen in advance.
 */

import { el } from './dom.js';

/**
 * @typedef {import('../protocol/messages.d.ts').ConsentNeeded} ConsentNeeded
 * @typedef {import('../protocol/messages.d.ts').ConsentType} ConsentType
 * @typedef {{type: ConsentType, status: 'accepted' | 'declined'}} Decision
 */

/** @type {Record<ConsentType, string>} */
const TITLES = { recording: 'Recording', ai: 'AI processing', recording_ai: 'Recording and AI processing' };

/** @param {ConsentNeeded} needed @param {(decision: Decision) => void} decide */
function question({ type, text, version }, decide) {
  const choice = (
    /** @type {'accepted' | 'declined'} */ status,
    /** @type {string} */ label,
    /** @type {string} */ testid,
  ) => {
    const input = el('input', { type: 'radio', name: `consent-${type}`, value: status, testid, dataset: { type } });
    input.addEventListener('change', () => decide({ type, status }));
    return el('label', { class: 'choice' }, input, el('span', {}, label));
  };
  return el(
    'fieldset',
    { class: 'consent', testid: 'consent', dataset: { type } },
    el('legend', {}, TITLES[type] ?? type),
    el('p', { dir: 'auto', class: 'consent-text' }, text),
    el('p', { class: 'hint' }, `Version ${version}. You can be in the call either way.`),
    el(
      'div',
      { class: 'choices' },
      choice('accepted', 'I accept', 'consent-accept'),
      choice('declined', 'I decline', 'consent-decline'),
    ),
  );
}

/**
 * @param {ConsentNeeded[]} needed
 * @param {() => void} [onchange]
 */
export function consentQuestions(needed, onchange = () => {}) {
  /** @type {Map<ConsentType, Decision>} */
  const decisions = new Map();
  const decide = (/** @type {Decision} */ decision) => {
    decisions.set(decision.type, decision);
    onchange();
  };
  const element = el('div', { class: 'consents' }, ...needed.map((item) => question(item, decide)));
  return {
    element,
    /** @returns {Decision[]} */
    decisions: () => [...decisions.values()],
    isComplete: () => needed.every(({ type }) => decisions.has(type)),
    /** To the first question without an answer. */
    focus: () => {
      const missing = needed.find(({ type }) => !decisions.has(type));
      const input = missing && element.querySelector(`input[name="consent-${missing.type}"]`);
      if (input instanceof HTMLElement) input.focus();
    },
  };
}

/**
 * Sends the decisions; gives the token of the last one. @param {import('../protocol/api.js').Api} api
 * @param {string} meetingId @param {Decision[]} decisions @returns {Promise<string | undefined>}
 */
export async function sendConsent(api, meetingId, decisions) {
  let token;
  for (const { type, status } of decisions) {
    token = (await api.consent({ meetingId, consentType: type, status })).consentToken;
  }
  return token;
}
