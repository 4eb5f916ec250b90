/**
 * What is said to people: one sentence for what happened, one for what to do next, by reason. Never a code.
 *
 * The keys are the slugs of the API's problems, of signaling's errors and of the page's own device troubles.
 */

/** @type {Record<string, {title: string, text: string}>} */
const REASONS = {
  network: { title: 'No answer', text: 'The server does not answer. Check your connection and try again.' },
  unavailable: { title: 'Out of order', text: 'Something is out of order on the server. Try again in a minute.' },
  unauthenticated: { title: 'Signed out', text: 'Your sign-in has ended. Sign in again to go on.' },
  'token-refused': { title: 'Signed out', text: 'Your sign-in has expired or is not valid here. Sign in again.' },
  'sign-in-failed': { title: 'Not signed in', text: 'The sign-in did not work. Try it again.' },
  forbidden: { title: 'Not permitted', text: 'You may not do this. Ask the host of the meeting.' },
  'not-host': { title: 'For hosts only', text: 'Only the host can do this.' },
  'not-found': {
    title: 'No such meeting',
    text: 'There is no meeting with this code. Check the code or ask for a new link.',
  },
  'consent-required': { title: 'Your choice is needed', text: 'Accept or decline each point, then join.' },
  'consent-token-refused': { title: 'Your choice is needed', text: 'Your choice has expired. Please choose again.' },
  'room-full': { title: 'The meeting is full', text: 'All places are taken. Try again when somebody has left.' },
  'wrong-password': { title: 'Wrong password', text: 'The password is not right. Check it and try again.' },
  'password-required': { title: 'Password needed', text: 'This meeting has a password. Enter it to join.' },
  'too-many-tries': { title: 'Too many tries', text: 'Wait a minute, then try again.' },
  'rate-limited': { title: 'Too fast', text: 'Too many requests at once. Wait a moment and try again.' },
  'not-started': { title: 'Not open yet', text: 'The meeting opens 15 minutes before it starts.' },
  'meeting-ended': { title: 'The meeting has ended', text: 'It is over for everybody.' },
  'room-ended': { title: 'The meeting has ended', text: 'The host has ended it for everybody.' },
  'role-not-allowed': { title: 'Not permitted', text: 'The meeting does not allow this role. Ask its host.' },
  removed: { title: 'You were removed', text: 'The host has removed you from this meeting.' },
  duplicate: {
    title: 'Joined elsewhere',
    text: 'You have joined this meeting in another window. The call goes on there.',
  },
  'provider-unavailable': {
    title: 'No media provider',
    text: 'The provider of this meeting does not answer. Try again in a moment.',
  },
  'sfu-unavailable': { title: 'No media server', text: 'No media server is free at the moment. Trying again.' },
  left: { title: 'You have left', text: 'The meeting goes on without you.' },
  'device-denied': {
    title: 'Blocked by the browser',
    text: 'The browser blocks your camera and microphone. Allow them in the address bar, then try again.',
  },
  'camera-denied': {
    title: 'Camera blocked',
    text: 'The browser blocks your camera. Allow it in the address bar, then try again.',
  },
  'microphone-denied': {
    title: 'Microphone blocked',
    text: 'The browser blocks your microphone. Allow it in the address bar, then try again.',
  },
  'camera-missing': { title: 'No camera', text: 'No camera was found. Connect one, or join without.' },
  'microphone-missing': { title: 'No microphone', text: 'No microphone was found. Connect one, or join without.' },
  'camera-busy': { title: 'Camera in use', text: 'Another program uses your camera. Close it there, then try again.' },
  'microphone-busy': {
    title: 'Microphone in use',
    text: 'Another program uses your microphone. Close it there, then try again.',
  },
  'insecure-context': {
    title: 'Not a secure address',
    text: 'Browsers open cameras and microphones at https addresses only. Ask for the https address of this page.',
  },
};

/** Why there is no picture, by reason and by what it would show. `short` stands where the sentence finds no room. */
export const MISSING = {
  bandwidth: {
    camera: { text: 'Audio only: the network is too slow for video.', short: 'Audio only' },
    screen: { text: 'The network is too slow for this screen. It comes back by itself.', short: 'Screen paused' },
    own: { text: 'The network is too slow for your video. It comes back by itself.', short: 'Video paused' },
  },
  unsupported: {
    camera: { text: 'Audio only: this browser cannot show the video.', short: 'Audio only' },
    screen: { text: 'This browser cannot show the screen.', short: 'Cannot be shown' },
  },
};
/** The network is faster again. */
export const BACK = {
  own: 'The network is better. The others see you again.',
  others: 'The network is better. Video is back.',
};

/** Which way the call takes. */
export const WAY = {
  tunnel: 'This network lets only web traffic through. The call goes by it, and sound and picture may lag a little.',
  direct: 'The call has a direct way again.',
};

/** Whether there are words of its own for a reason. @param {string} code */
export function isKnown(code) {
  return code in REASONS;
}

const OTHER = { title: 'That did not work', text: 'Something went wrong. Try again in a moment.' };

/**
 * @param {string} code
 * @returns {{title: string, text: string}}
 */
export function reason(code) {
  return REASONS[code] ?? OTHER;
}

/** The two letters of an avatar. @param {string} name @returns {string} */
export function initials(name) {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : words;
  return letters.map((word) => [...word][0]?.toLocaleUpperCase() ?? '').join('') || '?';
}

/** One of eight hues, the same for a person everywhere. @param {string} id @returns {number} */
export function hue(id) {
  let sum = 0;
  for (const character of id) sum = (sum * 31 + character.charCodeAt(0)) >>> 0;
  return sum % 8;
}

const TIME = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: 'short', day: 'numeric', month: 'short' });
const DAY_AND_YEAR = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short', year: 'numeric' });

/** @param {string | Date} when @returns {string} */
export function timeOf(when) {
  return TIME.format(new Date(when));
}

/** "Today, 14:00", "Tomorrow, 09:30", "Tue 5 May, 10:00" or, in another year, with it. @param {string | Date} when @param {Date} [now] @returns {string} */
export function dateOf(when, now = new Date()) {
  const date = new Date(when);
  const days = Math.round((new Date(date).setHours(0, 0, 0, 0) - new Date(now).setHours(0, 0, 0, 0)) / 86_400_000);
  const far = date.getFullYear() === now.getFullYear() ? DAY : DAY_AND_YEAR;
  const day = days === 0 ? 'Today' : days === 1 ? 'Tomorrow' : days === -1 ? 'Yesterday' : far.format(date);
  return `${day}, ${timeOf(date)}`;
}

/** "1:05:09" or "5:09". @param {number} seconds @returns {string} */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [Math.floor(whole / 60) % 60, whole % 60];
  const hours = Math.floor(whole / 3600);
  if (hours) return [hours, ...parts.map((part) => String(part).padStart(2, '0'))].join(':');
  return `${parts[0]}:${String(parts[1]).padStart(2, '0')}`;
}

/**
 * A meeting's id from what a person typed: the id itself or a link that holds it; empty where there is none.
 * @param {string} text @returns {string}
 */
export function meetingIdOf(text) {
  const trimmed = text.trim();
  const inLink = /\/m\/([\w-]{4,64})/.exec(trimmed)?.[1];
  return inLink ?? (/^[\w-]{4,64}$/.test(trimmed) ? trimmed : '');
}
