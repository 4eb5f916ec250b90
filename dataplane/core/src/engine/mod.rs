//! One packet worker: transports, tracks, senders, and the packets between them.
//!
//! Usage law: hand in every datagram of a drain by [`Engine::receive`], then call [`Engine::forward`] once; call
//! [`Engine::tick`] when [`Engine::next_wakeup`] has come; after any of them send what the [`Batch`] holds and clear it.
//! Datagrams go in decrypted by nobody and come out sealed. Time only moves forward.

mod allocation;
mod arrivals;
pub mod batch;
pub mod command;
mod commands;
pub mod event;
mod feedback;
mod forward;
mod ice;
mod indexes;
mod losses;
mod numbering;
mod pacing;
pub mod pipe;
mod piped;
mod rates;
mod receive;
mod rewrite;
mod sender;
mod snapshot;
mod store;
mod stream;
mod tick;
mod track;
mod transport;

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use slab::Slab;

use crate::congestion::Assignment;
use crate::time::Instant;
use crate::wire::rtcp;
pub use batch::{Batch, Message, Outlet, Path};
pub use command::Command;
pub use event::{Dropped, Event, Stats};

use sender::Sender;
use stream::Stream;
use track::Track;
use transport::Transport;

/// Events that wait for the control layer; older ones are dropped and counted.
const MAX_EVENTS: usize = 4_096;

/// Below so many packets to send, longer runs save less than the wait costs.
const WORTH_A_WAIT: usize = 8;

/// What an engine is made with.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Seed of everything random: first numbers, time stamps, the engine's own SSRC.
    pub seed: u64,
}

/// splitmix64: numbers that need not be secret, only spread.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 32) as u32
    }
}

/// A packet that came and is to be forwarded.
#[derive(Clone, Copy, Debug)]
struct Pending {
    order: u64, // audio after video, then by track, then as they came
    stream: u32,
    number: u64,
}

/// Key of everything by the control layer's ids.
#[derive(Debug, Default)]
struct Indexes {
    transports: FxHashMap<Arc<str>, usize>,
    tracks: FxHashMap<Arc<str>, usize>,
    senders: FxHashMap<Arc<str>, usize>,
    by_ufrag: FxHashMap<Arc<str>, usize>,
    by_path: FxHashMap<Path, usize>,
    /// Tracks by the pipe that brings them, and by the pipes that take them elsewhere.
    pipes_in: FxHashMap<u32, usize>,
    pipes_out: FxHashMap<u32, usize>,
}

/// One packet worker's state.
#[derive(Debug)]
pub struct Engine {
    ssrc: u32,
    random: Random,
    transports: Slab<Transport>,
    tracks: Slab<Track>,
    senders: Slab<Sender>,
    streams: Slab<Stream>,
    index: Indexes,
    pending: Vec<Pending>,
    /// Packets that the pending ones will become, about.
    pending_sends: usize,
    /// The newest pending packet is in the middle of a picture.
    is_mid_frame: bool,
    /// Streams that are to be asked for a key frame, and transports with packets in their pacer's queue or due for an
    /// allocation; small lists, so that nothing walks over everything.
    asking: Vec<usize>,
    pacing: Vec<usize>,
    due: Vec<usize>,
    schedule: tick::Schedule,
    events: VecDeque<Event>,
    stats: Stats,
    buffer: rtcp::Buffer,
    numbers: Vec<u16>,
    assignments: Vec<Assignment>,
    demands: allocation::Scratch,
}

impl Engine {
    /// An engine without transports.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let mut random = Random(config.seed);
        Self {
            ssrc: random.next() | 1,
            random,
            transports: Slab::new(),
            tracks: Slab::new(),
            senders: Slab::new(),
            streams: Slab::new(),
            index: Indexes::default(),
            pending: Vec::with_capacity(1_024),
            pending_sends: 0,
            is_mid_frame: false,
            asking: Vec::with_capacity(64),
            pacing: Vec::with_capacity(64),
            due: Vec::with_capacity(64),
            schedule: tick::Schedule::default(),
            events: VecDeque::with_capacity(64),
            stats: Stats::default(),
            buffer: rtcp::Buffer::new(),
            numbers: Vec::with_capacity(losses::MAX_ASKED),
            assignments: Vec::with_capacity(64),
            demands: allocation::Scratch::default(),
        }
    }

    /// The oldest event that waits.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// How many packets the next [`Engine::forward`] will send, about: a drain that has come to some hundreds should end,
    /// so that none of them waits for the others' crypto.
    #[must_use]
    pub const fn pending_sends(&self) -> usize {
        self.pending_sends
    }

    /// Whether more of a picture is likely to come at once, so that a moment's wait makes longer runs for many.
    #[must_use]
    pub const fn is_mid_frame(&self) -> bool {
        self.is_mid_frame && self.pending_sends >= WORTH_A_WAIT
    }

    /// Whether events wait.
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Totals.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            transports: self.transports.len(),
            tracks: self.tracks.len(),
            senders: self.senders.len(),
            queued: self
                .pacing
                .iter()
                .filter_map(|&key| self.transports.get(key)?.budget.as_ref())
                .map(|b| b.queue.len())
                .sum(),
            ..self.stats.clone()
        }
    }

    fn emit(&mut self, event: Event) {
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
            self.dropped(Dropped::EventQueueFull);
        }
        self.events.push_back(event);
    }

    fn dropped(&mut self, reason: Dropped) {
        count(&mut self.stats, reason);
    }

    /// Notes that a stream may be due for a key frame request.
    fn note_asking(&mut self, stream: Option<usize>) {
        if let Some(key) = stream.filter(|key| !self.asking.contains(key)) {
            self.asking.push(key);
        }
    }
}

fn count(stats: &mut Stats, reason: Dropped) {
    if let Some(counter) = stats.dropped.get_mut(reason as usize) {
        *counter += 1;
    }
}

/// Makes room in the batch.
fn ensure_room(batch: &mut Batch, outlet: &mut dyn Outlet) {
    if !batch.has_room() {
        outlet.flush(batch);
        batch.clear();
    }
}

/// What every operation works with: the time, the batch and the socket layer.
pub(crate) struct Io<'a> {
    pub(crate) now: Instant,
    pub(crate) batch: &'a mut Batch,
    pub(crate) outlet: &'a mut dyn Outlet,
}
