//! What the control layer tells an engine. Commands that name something that is gone do nothing.

use core::fmt;
use core::net::SocketAddr;
use std::sync::Arc;

use crate::payload::Codec;
use crate::srtp::Profile;
use crate::units::DataRate;
use crate::wire::rtp::ExtensionIds;

/// SRTP keys of a transport, each master key followed by its salt.
#[derive(Clone)]
pub struct Keys {
    /// The protection profile.
    pub profile: Profile,
    /// Opens what the peer sends.
    pub receive: Vec<u8>,
    /// Seals what we send.
    pub send: Vec<u8>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// ICE credentials of one transport (RFC 8445 5.3).
#[derive(Clone)]
pub struct Credentials {
    /// The user name fragment, unique in the node.
    pub ufrag: Arc<str>,
    /// The password.
    pub pwd: Arc<str>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// How a track's packets look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackCodec {
    /// The codec.
    pub codec: Codec,
    /// Payload type of the media.
    pub payload_type: u8,
    /// RTP clock rate in Hz.
    pub clock_rate: u32,
    /// Payload type of RTX (RFC 4588).
    pub rtx_payload_type: Option<u8>,
    /// Whether losses are asked for.
    pub has_nack: bool,
}

/// A track that a transport's peer sends.
#[derive(Clone, Debug)]
pub struct SetTrack {
    /// The publisher's transport.
    pub transport: Arc<str>,
    /// The track.
    pub track: Arc<str>,
    /// Its m-section.
    pub mid: Arc<str>,
    /// How its packets look.
    pub codec: TrackCodec,
    /// Ids of the header extensions.
    pub extensions: ExtensionIds,
    /// Primary SSRCs with their RTX, as the SDP names them.
    pub ssrcs: Vec<(u32, Option<u32>)>,
    /// Simulcast layers, lowest first.
    pub rids: Vec<Arc<str>>,
    /// Ranks above cameras.
    pub is_screen: bool,
}

/// A track on its way to a subscriber.
#[derive(Clone, Debug)]
pub struct SetSender {
    /// The sender.
    pub sender: Arc<str>,
    /// The subscriber's transport.
    pub transport: Arc<str>,
    /// The track.
    pub track: Arc<str>,
    /// The subscriber's m-section.
    pub mid: Arc<str>,
    /// How packets look to the subscriber.
    pub codec: TrackCodec,
    /// Ids of the header extensions towards the subscriber.
    pub extensions: ExtensionIds,
    /// SSRC of what is sent.
    pub ssrc: u32,
    /// SSRC of what is sent again.
    pub rtx_ssrc: Option<u32>,
    /// CNAME of the sender reports.
    pub cname: Arc<str>,
}

/// How a subscriber shows a video: SetReceive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// Width of the tile in device pixels, 0 where it is not known.
    pub width: u32,
    /// Height of the tile in device pixels, 0 where it is not known.
    pub height: u32,
    /// Whether it is on screen.
    pub visible: bool,
    /// Whether the person pinned it.
    pub pinned: bool,
}

impl Default for Want {
    fn default() -> Self {
        Self { width: 0, height: 0, visible: true, pinned: false }
    }
}

/// A command. Ids are the control layer's.
#[expect(missing_docs, reason = "fields are ids, or what their type says")]
#[derive(Clone, Debug)]
pub enum Command {
    /// A new ICE-lite transport.
    AddTransport { transport: Arc<str>, credentials: Credentials },
    /// A transport without ICE and DTLS to one address (tap, pipe to another node).
    AddPlainTransport { transport: Arc<str>, address: SocketAddr, keys: Keys },
    /// New credentials beside the old ones.
    RestartIce { transport: Arc<str>, credentials: Credentials },
    /// Ends a transport with its tracks and senders.
    RemoveTransport { transport: Arc<str> },
    /// Sends DTLS datagrams.
    SendDtls { transport: Arc<str>, datagrams: Vec<Vec<u8>> },
    /// SRTP keys.
    SetKeys { transport: Arc<str>, keys: Keys },
    /// A published track, new or changed.
    SetTrack(SetTrack),
    /// A track that another worker of this process receives; its packets come through a pipe.
    SetPipedTrack { track: SetTrack, pipe: u32 },
    /// Hands a track's packets to a pipe as well.
    OpenPipe { track: Arc<str>, pipe: u32 },
    /// Ends that.
    ClosePipe { track: Arc<str>, pipe: u32 },
    /// Ends a track and its senders.
    RemoveTrack { track: Arc<str> },
    /// Stops or resumes forwarding a track to everyone.
    MuteTrack { track: Arc<str>, muted: bool },
    /// Forwards a track to a subscriber.
    SetSender(SetSender),
    /// Ends that.
    RemoveSender { sender: Arc<str> },
    /// Stops or resumes a sender.
    PauseSender { sender: Arc<str>, paused: bool },
    /// Pins a layer; `None` leaves the choice to the engine.
    SelectLayer { sender: Arc<str>, rid: Option<Arc<str>>, temporal: Option<u8>, strict: bool },
    /// How the subscriber shows the video.
    WantTrack { sender: Arc<str>, want: Want },
    /// Who spoke last; 0 speaks now.
    RankTrack { track: Arc<str>, rank: u32 },
    /// The most videos of a transport.
    SetLastN { transport: Arc<str>, count: Option<usize> },
    /// Drops what exceeds a rate (a debug hook).
    CapBandwidth { transport: Arc<str>, rate: Option<DataRate> },
    /// Forgets every candidate pair and the credentials (a debug hook).
    DropPairs { transport: Arc<str> },
}
