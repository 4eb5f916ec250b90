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
      icons: ['mic', 'mic-off'],
      labels: ['Mute', 'Unmute'],
      captions: ['Mute', 'Unmute'],
      isOn: () => !own.isMuted,
      act: () => session.toggleMicrophone(),
      isAlert: true,
      isShown: canPublish,
    },
    {
      id: 'camera',
      key: 'v',
      icons: ['video', 'video-off'],
      labels: ['Turn camera off', 'Turn camera on'],
      captions: ['Camera off', 'Camera on'],
      isOn: () => own.isVideoOn,
      act: () => session.toggleCamera(),
      isAlert: true,
      isShown: canPublish,
    },
    {
      id: 'share',
      key: 's',
      icons: ['screen-share-off', 'screen-share'],
      labels: ['Stop sharing', 'Share your screen'],
      captions: ['Stop', 'Share'],
      isOn: () => own.isSharing,
      act: () => session.toggleShare(),
      isShown: () => canPublish() && canShare,
    },
    {
      id: 'hand',
      key: 'h',
      icons: both('hand'),
      labels: ['Lower hand', 'Raise hand'],
      captions: ['Lower hand', 'Raise hand'],
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
      labels: ['Close chat', 'Open chat'],
      captions: both('Chat'),
      countWord: 'unread',
      isOn: () => openPanel() === 'chat',
      act: () => toggle('chat'),
    },
    {
      id: 'people',
      key: 'p',
      icons: both('users'),
      labels: ['Close people', 'Open people'],
      captions: both('People'),
      countWord: 'in the call',
      isOn: () => openPanel() === 'people',
      act: () => toggle('people'),
    },
    {
      id: 'layout',
      key: 'l',
      icons: ['layout-grid', 'presentation'],
      labels: ['Grid view', 'Speaker view'],
      captions: ['Grid view', 'Speaker view'],
      isOn: () => stage.mode === 'speaker',
      act: toggleLayout,
    },
    { id: 'devices', icons: both('settings'), labels: both('Devices'), captions: both('Devices'), act: devices },
    {
      id: 'leave',
      icons: both('phone-off'),
      labels: both('Leave'),
      captions: both('Leave'),
      act: () => session.call.leave(),
    },
    {
      id: 'end',
      testid: 'end-for-all',
      icons: both('circle-stop'),
      labels: both('End for all'),
      captions: both('End for all'),
      act: end,
      isShown: () => session.call.role === 'host',
    },
  ];
}

/** @param {CallActions} actions @returns {Control[]} */
export function callControls(actions) {
  return [...mediaControls(actions), ...viewControls(actions)];
}
