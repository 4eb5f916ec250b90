//! One transport: its link, its keys, what its peer sends by SSRC, what is sent to it, and how much that may be.
//!
//! What an SSRC belongs to is learned from the SDP, else from the mid and rid header extensions, else from a payload type
//! that only one track has (RFC 8843 9.2). An SSRC may first be seen on an RTX packet without payload.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::congestion::{Allocator, Burst, Congestion, Pacer};
use crate::engine::arrivals::ArrivalLog;
use crate::engine::batch::{Path, RunSlot};
use crate::engine::event::{LinkReport, LinkState};
use crate::engine::ice::IceAgent;
use crate::srtp::{Opener, Sealer};
use crate::time::Instant;
use crate::units::DataRate;
use crate::wire::rtp::ExtensionIds;

/// Streams and repair streams that one peer may send.
pub(crate) const MAX_STREAMS: usize = 64;
/// Of what is forwarded may be sent again.
const REPAIR_SHARE: u64 = 2;
const REPAIR_BURST: u64 = 400_000;
/// Silence after which a transport counts as disconnected.
pub(crate) const DISCONNECTED: Duration = Duration::from_secs(8);
/// The same for a plain transport, whose ends send RTCP every second.
pub(crate) const PLAIN_SILENCE: Duration = Duration::from_secs(3);
/// Packets that may wait for their turn.
pub(crate) const MAX_QUEUE: usize = 512;

/// What an incoming SSRC belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Inbound {
    Stream(usize),
    /// An RTX SSRC: the track, the layer's place, and the primary SSRC where the SDP told it.
    Repair {
        track: usize,
        place: u8,
        primary: Option<u32>,
    },
    /// One that its layer went on without, under another SSRC; late packets of it must not take the layer back.
    Former(usize),
}

/// An SSRC that the SDP names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named {
    pub(crate) track: usize,
    pub(crate) place: u8,
    /// For an RTX SSRC, what it repairs.
    pub(crate) primary: Option<u32>,
}

/// The bandwidth cap of the debug hook: bytes within the rate pass, with 200 ms of burst.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    rate: DataRate,
    level: u64,
    at: Instant,
}

impl TokenBucket {
    const BURST: Duration = Duration::from_millis(200);

    pub(crate) fn new(rate: DataRate, now: Instant) -> Self {
        Self { rate, level: rate.bytes_in(Self::BURST), at: now }
    }

    pub(crate) fn take(&mut self, bytes: usize, now: Instant) -> bool {
        let earned = self.rate.bytes_in(now.since(self.at));
        if earned > 0 {
            self.level = (self.level + earned).min(self.rate.bytes_in(Self::BURST));
            self.at = now;
        }
        let Some(left) = self.level.checked_sub(bytes as u64) else { return false };
        self.level = left;
        true
    }
}

/// What a peer may have sent again, in bytes: a share of what was sent to it. NACKs in a storm cost nothing more.
#[derive(Debug)]
pub(crate) struct RepairBudget(u64);

impl RepairBudget {
    pub(crate) fn earn(&mut self, bytes: usize) {
        self.0 = (self.0 + bytes as u64 / REPAIR_SHARE).min(REPAIR_BURST);
    }

    pub(crate) fn spend(&mut self, bytes: usize) -> bool {
        let Some(left) = self.0.checked_sub(bytes as u64) else { return false };
        self.0 = left;
        true
    }
}

/// Bytes sent in the last second, in windows that an allocation pass closes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) audio: u64,
    pub(crate) video: u64,
    pub(crate) repairs: u64,
}

/// The last windows of [`Sent`].
#[derive(Debug, Default)]
pub(crate) struct SentMeter {
    pub(crate) open: Sent,
    windows: [(Sent, Duration); 5],
    at: usize,
    since: Option<Instant>,
}

impl SentMeter {
    const WINDOW: Duration = Duration::from_millis(180);

    /// Closes the open window where it has lasted long enough.
    pub(crate) fn roll(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let span = now.since(since);
        if span >= Self::WINDOW {
            self.at = (self.at + 1) % self.windows.len();
            if let Some(window) = self.windows.get_mut(self.at) {
                *window = (core::mem::take(&mut self.open), span);
            }
            self.since = Some(now);
        }
    }

    pub(crate) fn rate(&self, of: impl Fn(&Sent) -> u64) -> DataRate {
        let bytes: u64 = self.windows.iter().map(|(sent, _)| of(sent)).sum();
        DataRate::from_bytes(bytes, self.windows.iter().map(|(_, span)| *span).sum())
    }
}

/// How an endpoint is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// ICE-lite.
    Ice,
    /// A fixed address; the moment of the last authentic packet, before the first one that of its making.
    Plain { heard: Instant },
}

/// A video packet that waits for the pacer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    /// The sender's key.
    pub(crate) sender: u32,
    /// The outgoing number.
    pub(crate) out: u64,
    pub(crate) since: Instant,
}

/// What the link to a subscriber carries and who gets it.
#[derive(Debug)]
pub(crate) struct Budgeting {
    pub(crate) congestion: Congestion,
    pub(crate) pacer: Pacer,
    pub(crate) allocator: Allocator,
    /// What waits, oldest first.
    pub(crate) queue: VecDeque<Waiting>,
    /// Something found no room in the queue: what waits is given up.
    pub(crate) is_overfull: bool,
    /// A probe under way.
    pub(crate) burst: Option<Burst>,
    pub(crate) last_n: Option<usize>,
    pub(crate) missed: f64,
    pub(crate) next_pass: Instant,
    pub(crate) is_limited: bool,
}

/// State of one transport.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(crate) id: Arc<str>,
    pub(crate) kind: Kind,
    pub(crate) ice: IceAgent,
    pub(crate) state: Option<LinkState>,
    pub(crate) sealer: Option<Sealer>,
    pub(crate) opener: Option<Opener>,
    /// Where to send; kept beside the agent for the hot path.
    pub(crate) destination: Option<Path>,
    pub(crate) run: RunSlot,
    pub(crate) wide: u64,
    pub(crate) budget: Option<Box<Budgeting>>,
    pub(crate) cap: Option<TokenBucket>,
    pub(crate) repairs: RepairBudget,
    pub(crate) sent: SentMeter,
    pub(crate) media_at: Option<Instant>,
    pub(crate) ids: ExtensionIds,
    pub(crate) inbound: FxHashMap<u32, Inbound>,
    pub(crate) named: FxHashMap<u32, Named>,
    pub(crate) tracks: Vec<usize>,
    pub(crate) senders: FxHashMap<u32, usize>,
    /// The newest indexes under the SSRCs of senders that are gone: one that has an SSRC again goes on above.
    pub(crate) sealed: FxHashMap<u32, u64>,
    pub(crate) arrivals: ArrivalLog,
    pub(crate) addresses: Vec<Path>,
    pub(crate) ufrags: Vec<Arc<str>>,
    pub(crate) retransmitted: u64,
    pub(crate) is_allocation_due: bool,
    /// The last link report that was told.
    pub(crate) told: Option<(LinkReport, Instant)>,
}

impl Transport {
    pub(crate) fn new(id: Arc<str>, kind: Kind, ice: IceAgent) -> Self {
        let destination = ice.destination();
        Self {
            id,
            kind,
            ice,
            state: None,
            sealer: None,
            opener: None,
            destination,
            run: RunSlot::default(),
            wide: 0,
            budget: None,
            cap: None,
            repairs: RepairBudget(REPAIR_BURST),
            sent: SentMeter::default(),
            media_at: None,
            ids: ExtensionIds::default(),
            inbound: FxHashMap::default(),
            named: FxHashMap::default(),
            tracks: Vec::new(),
            senders: FxHashMap::default(),
            sealed: FxHashMap::default(),
            arrivals: ArrivalLog::default(),
            addresses: Vec::new(),
            ufrags: Vec::new(),
            retransmitted: 0,
            is_allocation_due: false,
            told: None,
        }
    }

    /// The next transport-wide number; the first is 1.
    pub(crate) fn next_wide(&mut self) -> u64 {
        self.wide += 1;
        self.wide
    }

    /// A bundle uses one id per extension in all its sections.
    pub(crate) fn learn_ids(&mut self, theirs: &ExtensionIds) {
        let mine = self.ids;
        self.ids = ExtensionIds {
            mid: theirs.mid.or(mine.mid),
            rid: theirs.rid.or(mine.rid),
            repaired_rid: theirs.repaired_rid.or(mine.repaired_rid),
            audio_level: theirs.audio_level.or(mine.audio_level),
            transport_cc: theirs.transport_cc.or(mine.transport_cc),
            dependency_descriptor: theirs.dependency_descriptor.or(mine.dependency_descriptor),
            orientation: theirs.orientation.or(mine.orientation),
            abs_send_time: theirs.abs_send_time.or(mine.abs_send_time),
        };
    }

    /// Whether media flowed in either direction lately.
    pub(crate) fn is_active(&self, now: Instant) -> bool {
        self.media_at.is_some_and(|at| now.since(at) < Duration::from_secs(3))
    }
}
