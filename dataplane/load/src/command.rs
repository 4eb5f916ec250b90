//! The commands that come in and the answers that go out, each a line of JSON.

use serde::{Deserialize, Serialize};

/// A line of input.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Command {
    /// Makes a socket and ICE credentials for each peer.
    Peers(Peers),
    /// Connects peers, and answers when all are or the time is over.
    Connect(Connect),
    /// Begins to send and to count. With `seconds` the report follows after them, else after `stop`.
    Load(Load),
    /// Counts from here on: the start of a measured window.
    Mark(Mark),
    /// The totals of the window so far; cheap, so that a load that goes on is not held up.
    Snapshot(Snapshot),
    /// Ends the load with a report.
    Stop(Stop),
}

/// `{"peers": [{"id": "p0"}], "host": "127.0.0.1"}`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peers {
    /// The new peers.
    pub peers: Vec<NewPeer>,
    /// The address that their sockets are bound to.
    #[serde(default = "loopback")]
    pub host: String,
}

fn loopback() -> String {
    "127.0.0.1".to_owned()
}

/// One of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPeer {
    /// What later commands call it.
    pub id: String,
    /// For the reader of the command only: what a peer does is in the load.
    #[serde(default)]
    #[expect(dead_code, reason = "part of the language")]
    role: Option<Role>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    Publish,
    Subscribe,
}

/// `{"connect": [...], "timeout_s": 30}`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// Who is connected where to.
    pub connect: Vec<Connection>,
    /// After this many seconds those that are not connected have failed.
    #[serde(default = "half_a_minute")]
    pub timeout_s: f64,
}

const fn half_a_minute() -> f64 {
    30.0
}

/// One peer's way to its server: by ICE and DTLS, or without both where `keys` are given.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// The peer.
    pub id: String,
    /// The server.
    pub remote: Remote,
    /// The DTLS role; only the client's is spoken.
    #[serde(default)]
    #[expect(dead_code, reason = "another value is refused when it is read")]
    dtls: DtlsRole,
    /// The SRTP profiles to offer, by their names.
    #[serde(default = "all_profiles")]
    pub profiles: Vec<String>,
    /// Keys in place of a handshake.
    #[serde(default)]
    pub keys: Option<PresetKeys>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DtlsRole {
    #[default]
    Client,
}

fn all_profiles() -> Vec<String> {
    ["AEAD_AES_128_GCM", "AEAD_AES_256_GCM", "AES128_CM_SHA1_80"].map(str::to_owned).to_vec()
}

/// Where a server is and who it claims to be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remote {
    /// Its address.
    pub ip: String,
    /// Its UDP port.
    pub port: u16,
    /// Its ICE user name fragment.
    #[serde(default)]
    pub ufrag: String,
    /// Its ICE password.
    #[serde(default)]
    pub pwd: String,
    /// SHA-256 of its certificate, colon-separated hex.
    #[serde(default)]
    pub fingerprint: String,
}

/// Master key and salt of each direction, in hex.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PresetKeys {
    /// The SRTP profile's name.
    pub profile: String,
    /// For what the peer sends.
    pub send: String,
    /// For what it receives.
    pub receive: String,
}

/// `{"send": [...], "receive": [...], "seconds": 5}`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// The streams to send.
    pub send: Vec<StreamSpec>,
    /// Who receives, and how it answers.
    #[serde(default)]
    pub receive: Vec<ReceiveSpec>,
    /// How long; until `stop` where it is missing.
    #[serde(default)]
    pub seconds: Option<f64>,
    /// Whether the thread asks for input all the time instead of sleeping until some comes.
    #[serde(default)]
    pub spin: bool,
}

/// What a stream carries.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// VP8 at 90 kHz.
    Video,
    /// Opus at 48 kHz.
    Audio,
}

/// One stream of a publisher. Simulcast is several of them with the same mid and a rid each.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamSpec {
    /// The peer that sends it.
    pub id: String,
    /// Its SSRC. The same again goes on where it was.
    pub ssrc: u32,
    /// Its payload type.
    pub payload_type: u8,
    /// Video or audio.
    pub kind: Kind,
    /// The m-section's identification.
    #[serde(default)]
    pub mid: Option<String>,
    /// The simulcast layer.
    #[serde(default)]
    pub rid: Option<String>,
    /// The ids of header extensions.
    #[serde(default)]
    pub extensions: Extensions,
    /// Frames each second.
    pub frames_per_s: f64,
    /// Packets of a frame, sent back to back.
    #[serde(default = "one")]
    pub frame_packets: u16,
    /// Bytes of an RTP packet before SRTP.
    pub packet_bytes: u16,
    /// The part of a frame's time by which the stream is later than others, 0 to 1.
    #[serde(default)]
    pub phase: f64,
}

const fn one() -> u16 {
    1
}

/// Header extension ids; those that are missing are not sent.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extensions {
    /// urn:ietf:params:rtp-hdrext:sdes:mid
    #[serde(default)]
    pub mid: Option<u8>,
    /// urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id
    #[serde(default)]
    pub rid: Option<u8>,
    /// transport-wide-cc-extensions-01
    #[serde(default)]
    pub transport_cc: Option<u8>,
    /// urn:ietf:params:rtp-hdrext:ssrc-audio-level
    #[serde(default)]
    pub audio_level: Option<u8>,
}

/// How one peer receives.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiveSpec {
    /// The peer.
    pub id: String,
    /// The id of the transport-wide number; without it there is no transport feedback.
    #[serde(default)]
    pub transport_cc: Option<u8>,
    /// Payload types of retransmissions.
    #[serde(default)]
    pub rtx_payload_types: Vec<u8>,
    /// Milliseconds between transport feedback.
    #[serde(default = "feedback_ms")]
    pub feedback_ms: u32,
    /// Whether it sends any RTCP.
    #[serde(default = "yes")]
    pub rtcp: bool,
}

const fn feedback_ms() -> u32 {
    100
}

const fn yes() -> bool {
    true
}

/// `{"mark": true}`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    #[expect(dead_code, reason = "the key is what matters")]
    mark: bool,
}

/// `{"snapshot": true}`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    #[expect(dead_code, reason = "the key is what matters")]
    snapshot: bool,
}

/// `{"stop": true}`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    #[expect(dead_code, reason = "the key is what matters")]
    stop: bool,
}

/// A line of output.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To `peers`.
    Peers(Vec<MadePeer>),
    /// To `connect`.
    Connected(ConnectResult),
    /// To `load` without an end.
    Sending(bool),
    /// To `mark`.
    Marked(bool),
    /// To `snapshot` (without peers), `stop` and the end of a load.
    Report(Box<Report>),
    /// The command was not understood or names what is not there.
    Error(String),
}

/// What a server must know of a peer.
#[derive(Debug, Serialize)]
pub struct MadePeer {
    /// Its name.
    pub id: String,
    /// The address of its socket.
    pub ip: String,
    /// And the port.
    pub port: u16,
    /// Its ICE user name fragment.
    pub ufrag: String,
    /// Its ICE password.
    pub pwd: String,
    /// SHA-256 of its certificate.
    pub fingerprint: String,
}

/// Who is connected and who is not.
#[derive(Debug, Serialize)]
pub struct ConnectResult {
    /// Those that are.
    pub connected: Vec<ConnectedPeer>,
    /// Those that are not, and why.
    pub failed: Vec<FailedPeer>,
    /// Seconds that it took.
    pub seconds: f64,
}

/// A connected peer.
#[derive(Debug, Serialize)]
pub struct ConnectedPeer {
    /// Its name.
    pub id: String,
    /// The SRTP profile that the server chose.
    pub profile: &'static str,
}

/// A peer that is not connected.
#[derive(Debug, Serialize)]
pub struct FailedPeer {
    /// Its name.
    pub id: String,
    /// Why.
    pub why: String,
}

/// What was sent and received since the start of the load or the last mark.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Seconds of wall time.
    pub wall_s: f64,
    /// CPU seconds of this process.
    pub cpu_s: f64,
    /// The longest that a frame was sent after its time, in milliseconds.
    pub late_ms: f64,
    /// RTP packets sent, and those that the socket did not take.
    pub sent: u64,
    /// Packets that the socket did not take.
    pub unsent: u64,
    /// All that was received.
    pub total: Received,
    /// Each peer that received something or was asked for something.
    pub peers: Vec<PeerReport>,
}

/// One peer's part of it.
#[derive(Debug, Serialize)]
pub struct PeerReport {
    /// Its name.
    pub id: String,
    /// RTP packets sent.
    pub sent: u64,
    /// What it received.
    #[serde(flatten)]
    pub received: Received,
}

/// Counts of what arrived. Everything counted in packets was authentic.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Received {
    /// Media packets.
    pub packets: u64,
    /// Their bytes, with RTP header and without SRTP's tag.
    pub bytes: u64,
    /// Sequence numbers that did not arrive although later ones did.
    pub lost: u64,
    /// Packets that arrived after a later one.
    pub reordered: u64,
    /// Packets that arrived again.
    pub duplicated: u64,
    /// Datagrams that could not be opened, or were not RTP or RTCP inside.
    pub bad: u64,
    /// Media packets without this program's payload.
    pub foreign: u64,
    /// Retransmissions with a payload.
    pub retransmissions: u64,
    /// Packets of padding only.
    pub padding: u64,
    /// RTCP packets.
    pub rtcp: u64,
    /// Key frames that a publisher was asked for.
    pub key_frame_requests: u64,
    /// Packets that a publisher was asked to repeat.
    pub nacked: u64,
    /// Streams that delivered something.
    pub streams: u64,
    /// Median delay from `sendmmsg` of the publisher to the subscriber's `recvmmsg`, in milliseconds.
    pub delay_p50_ms: Option<f64>,
    /// 99 of 100 packets took no longer.
    pub delay_p99_ms: Option<f64>,
    /// The slowest packet.
    pub delay_max_ms: f64,
}

impl Received {
    /// Adds another's counts; the delays are the caller's to merge.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.packets, other.packets),
            (&mut self.bytes, other.bytes),
            (&mut self.lost, other.lost),
            (&mut self.reordered, other.reordered),
            (&mut self.duplicated, other.duplicated),
            (&mut self.bad, other.bad),
            (&mut self.foreign, other.foreign),
            (&mut self.retransmissions, other.retransmissions),
            (&mut self.padding, other.padding),
            (&mut self.rtcp, other.rtcp),
            (&mut self.key_frame_requests, other.key_frame_requests),
            (&mut self.nacked, other.nacked),
            (&mut self.streams, other.streams),
        ] {
            *mine += theirs;
        }
    }
}
