"""Makes a page's connections use TURN alone."""

import json
from typing import Final

_SCRIPT: Final = """(() => {
  const pattern = new RegExp(%s);
  const Plain = globalThis.RTCPeerConnection;
  const only = (configuration = {}) => ({
    ...configuration,
    iceTransportPolicy: 'relay',
    iceServers: (configuration.iceServers ?? []).map((server) => ({
      ...server,
      urls: [server.urls].flat().filter((url) => pattern.test(url)),
    })),
  });
  globalThis.RTCPeerConnection = class extends Plain {
    constructor(configuration) {
      super(only(configuration));
    }
    setConfiguration(configuration) {
      super.setConfiguration(only(configuration));
    }
  };
})()"""


def relay_only(pattern: str) -> str:
    """The script; it leaves the TURN URLs that match `pattern`, a JavaScript regular expression."""
    return _SCRIPT % json.dumps(pattern)
