//! What an engine tells the control layer, and what it counts.

use core::time::Duration;
use std::sync::Arc;

use crate::congestion::Pause;
use crate::payload::Codec;
use crate::units::DataRate;

/// State of a transport's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// A pair is nominated, or the peer of a plain transport was heard.
    Connected,
    /// Nothing was heard for some seconds.
    Disconnected,
    /// Consent is lost for 30 s (RFC 7675); the transport is gone.
    Failed,
}

/// An event. Ids are those of the commands.
#[expect(missing_docs, reason = "fields are ids, or what their type says")]
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A link came, is silent or is gone.
    IceChanged { transport: Arc<str>, state: LinkState },
    /// A DTLS datagram from a validated pair.
    DtlsReceived { transport: Arc<str>, datagram: Vec<u8> },
    /// The first media packet of a sender went out.
    FirstForwarded { sender: Arc<str>, transport: Arc<str>, track: Arc<str> },
    /// Loudest RFC 6464 level of each audio track since the last event.
    AudioLevels(Vec<(Arc<str>, u8)>),
    /// What a transport's link looked like lately.
    LinkReport(LinkReport),
    /// What a video sender forwards now.
    SenderChanged { sender: Arc<str>, pause: Pause, rid: Arc<str>, spatial: u8, temporal: u8 },
    /// Which simulcast layers of a track somebody is to receive.
    LayersWanted { track: Arc<str>, layers: Vec<(Arc<str>, bool)> },
}

/// One transport's link: fractions from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkReport {
    /// The transport.
    pub transport: Arc<str>,
    /// Of what the peer sends.
    pub received_loss: f64,
    /// Of what we send, as the peer reports it.
    pub sent_loss: f64,
    /// Where it is known.
    pub round_trip: Option<Duration>,
    /// Whether media flowed at all.
    pub is_active: bool,
    /// What the link to the peer carries, where the peer gives feedback.
    pub estimate: Option<DataRate>,
    /// Share of the wanted video layers that the estimate does not allow.
    pub layers_missed: f64,
}

/// Why a packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// Larger than a datagram of ours may be, or empty.
    Oversize,
    /// Not from a validated pair.
    Stranger,
    /// Neither STUN, DTLS nor SRTP.
    UnknownProtocol,
    /// Malformed STUN.
    BadStun,
    /// A check with the wrong user name, password or address.
    StunRefused,
    /// SRTP before there are keys.
    NoKeys,
    /// More SSRCs than one peer may use.
    TooManySsrcs,
    /// SRTP that cannot be opened or came before.
    SrtpRefused,
    /// SRTCP that cannot be opened or came before.
    SrtcpRefused,
    /// Malformed RTP.
    BadRtp,
    /// Malformed RTCP.
    BadRtcp,
    /// RTP that belongs to no track.
    UnknownStream,
    /// A payload type that is not the track's.
    UnknownPayloadType,
    /// A number that came before, or too late.
    Duplicate,
    /// A subscriber without a pair or keys.
    NotConnected,
    /// Beyond the debug hook's cap.
    BandwidthCap,
    /// Beyond what a peer may have sent again.
    RepairBudget,
    /// Waited too long for its turn.
    PacerOverflow,
    /// The event queue was full.
    EventQueueFull,
    /// Nothing could be sealed.
    SealRefused,
}

/// Names of [`Dropped`], in its order.
pub const DROPPED_NAMES: [&str; 20] = [
    "oversize",
    "stranger",
    "unknown-protocol",
    "bad-stun",
    "stun-refused",
    "no-keys",
    "too-many-ssrcs",
    "srtp-refused",
    "srtcp-refused",
    "bad-rtp",
    "bad-rtcp",
    "unknown-stream",
    "unknown-payload-type",
    "duplicate",
    "not-connected",
    "bandwidth-cap",
    "repair-budget",
    "pacer-overflow",
    "event-queue-full",
    "seal-refused",
];

/// Totals since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Living transports.
    pub transports: usize,
    /// Living tracks.
    pub tracks: usize,
    /// Living senders.
    pub senders: usize,
    /// SRTP packets that were opened.
    pub received_packets: u64,
    /// Their bytes, sealed.
    pub received_bytes: u64,
    /// RTP packets sent to subscribers.
    pub forwarded_packets: u64,
    /// Their bytes before SRTP.
    pub forwarded_bytes: u64,
    /// Packets sent again by RTX.
    pub retransmitted_packets: u64,
    /// Packets that wait in pacers.
    pub queued: usize,
    /// By [`Dropped`], named by [`DROPPED_NAMES`].
    pub dropped: [u64; 20],
}

/// One received stream of a track.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerStats {
    /// Its rid, empty without simulcast.
    pub rid: Arc<str>,
    /// Of the last second.
    pub rate: DataRate,
    /// Of the last second.
    pub packets_per_s: u32,
    /// Fraction lost in the last report interval.
    pub loss: f64,
    /// Interarrival jitter (RFC 3550 6.4.1).
    pub jitter: Duration,
    /// Received since its start.
    pub packets: u64,
    /// Lost since its start.
    pub lost: u64,
    /// Picture size, 0 where it is not known.
    pub size: (u16, u16),
}

/// One track.
#[derive(Clone, Debug, PartialEq)]
pub struct TrackStats {
    /// The track.
    pub track: Arc<str>,
    /// Its codec.
    pub codec: Codec,
    /// How many receive it.
    pub senders: usize,
    /// Sent to the publisher.
    pub key_frame_requests: u64,
    /// Lowest first.
    pub layers: Vec<LayerStats>,
}

/// One transport that is sent to.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriberStats {
    /// The transport.
    pub transport: Arc<str>,
    /// Where the peer gives feedback.
    pub estimate: Option<DataRate>,
    /// Of the last second.
    pub sent: DataRate,
    /// As the peer reports it.
    pub loss: f64,
    /// Where it is known.
    pub round_trip: Option<Duration>,
    /// Tracks on their way to it.
    pub senders: usize,
    /// Sent again.
    pub retransmitted_packets: u64,
    /// Videos held back: hidden, beyond last-N, for want of bandwidth.
    pub paused: [usize; 3],
}

/// Everything of one worker at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Published tracks.
    pub tracks: Vec<TrackStats>,
    /// Transports with senders.
    pub subscribers: Vec<SubscriberStats>,
}
