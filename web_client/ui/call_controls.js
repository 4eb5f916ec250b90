/** The controls of a call as a table: what each is called, shows and does. */

/**
 * @typedef {import('./controls.js').Control} Control
 * @typedef {object} CallActions
 * @property {import('./session.js').Session} session
 * @property {import('./stage.js').Stage} stage
 * @property {boolean} canShare
 * @property {() => 'chat' | 'people' | null} openPanel
 * @property {(name: 'chat' | 'people') => void} toggle
 * @property {() => void} toggleLayout
 * @property {() => void} devices
 * @property {() => void} end
 */

/** The same for on and off. @template T @param {T} value @returns {[T, T]} */
const both = (value) => [value, value];

/** What one sends. @param {CallActions} actions @returns {Control[]} */
function mediaControls({ session, canShare }) {
  const { own } = session.call;
  const canPublish = () => session.canPublish;
  return [
    {
      id: 'microphone',
      key: 'm',
      icons: ['mic-off', 'mic'],
      labels: ['Muted', 'Mute'],
      tips: ['Unmute', 'Mute'],
      isOn: () => own.isMuted,
      act: () => session.toggleMicrophone(),
      isAlert: true,
      isShown: canPublish,
    },
    {
      id: 'camera',
      key: 'v',
      icons: ['video-off', 'video'],
      get labels() {
        return session.isVideoPaused ? both('Video paused') : /** @type {const} */ (['Camera off', 'Stop camera']);
      },
      get tips() {
        const switched = /** @type {const} */ (['Turn camera on', 'Turn camera off']);
        return session.isVideoPaused ? both('The network is too slow; send video anyway') : switched;
      },
      isOn: () => !own.isVideoOn,
      act: () => session.toggleCamera(),
      isAlert: true,
      isShown: canPublish,
    },
    {
      id: 'share',
      key: 's',
      icons: ['screen-share-off', 'screen-share'],
      labels: ['Sharing', 'Share'],
      tips: ['Stop sharing', 'Share your screen'],
      isOn: () => own.isSharing,
      act: () => session.toggleShare(),
      isShown: () => canPublish() && canShare,
    },
    {
      id: 'hand',
      key: 'h',
      icons: both('hand'),
      labels: ['Hand raised', 'Raise hand'],
      tips: ['Lower hand', 'Raise hand'],
      isOn: () => own.isHandRaised,
      act: () => session.toggleHand(),
    },
  ];
}

/** What one sees, and the ways out. @param {CallActions} actions @returns {Control[]} */
function viewControls({ session, stage, openPanel, toggle, toggleLayout, devices, end }) {
  return [
    {
      id: 'chat',
      key: 't',
      icons: both('message-square'),
      labels: both('Chat'),
      tips: ['Close chat', 'Open chat'],
      countWord: 'unread',
      isOn: () => openPanel() === 'chat',
      act: () => toggle('chat'),
    },
    {
      id: 'people',
      key: 'p',
      icons: both('users'),
      labels: both('People'),
      tips: ['Close people', 'Open people'],
      countWord: 'in the call',
      isOn: () => openPanel() === 'people',
      act: () => toggle('people'),
    },
    {
      id: 'layout',
      key: 'l',
      icons: both('presentation'),
      labels: both('Speaker view'),
      tips: ['Show everyone in a grid', 'Show who speaks large'],
      isOn: () => stage.mode === 'speaker',
      act: toggleLayout,
    },
    { id: 'devices', icons: both('settings'), labels: both('Devices'), tips: both('Devices'), act: devices },
    {
      id: 'leave',
      icons: both('phone-off'),
      labels: both('Leave'),
      tips: both('Leave'),
      act: () => session.call.leave(),
    },
    {
      id: 'end',
      testid: 'end-for-all',
      icons: both('circle-stop'),
      labels: both('End for all'),
      tips: both('End for all'),
      act: end,
      isShown: () => session.call.role === 'host',
    },
  ];
}

/** @param {CallActions} actions @returns {Control[]} */
export function callControls(actions) {
  return [...mediaControls(actions), ...viewControls(actions)];
}
