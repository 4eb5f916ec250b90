//! Who gets what: the allocation of a subscriber's link among its videos, and what that asks of the publishers.

use core::time::Duration;

use slab::Slab;

use crate::congestion::{Allocator, Assignment, Budget, Congestion, Demand, LayerRate, Pacer, Pause, Rank};
use crate::engine::Engine;
use crate::engine::event::Event;
use crate::engine::sender::Sender;
use crate::engine::stream::Stream;
use crate::engine::track::{Track, UNRANKED};
use crate::engine::transport::{Budgeting, Transport};
use crate::time::Instant;
use crate::units::DataRate;

/// What a link is believed to carry before the peer has said anything; the first probes look far above it.
const START: DataRate = DataRate::from_bps(800_000);
/// Between two passes where nothing is short.
const CALM_PASS: Duration = Duration::from_secs(1);
/// A layer that nobody needs is told to its publisher after so long.
const LESS_AFTER: Duration = Duration::from_secs(5);
/// Milliseconds between the ranks of those who spoke: only their order counts.
const RANK_STEP: u32 = 1_000;
/// Below so many times what is wanted, an estimate is a limit.
const AMPLE: f64 = 1.3;

/// What a pass works with; kept, so that passes do not allocate anew.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    layers: Vec<LayerRate>,
    videos: Vec<Video>,
}

#[derive(Debug)]
struct Video {
    sender: usize,
    layers: core::ops::Range<usize>,
    max_spatial: u8,
}

impl Budgeting {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            congestion: Congestion::new(now, START),
            pacer: Pacer::new(now),
            allocator: Allocator::new(),
            burst: None,
            queue: std::collections::VecDeque::new(),
            is_overfull: false,
            last_n: None,
            missed: 0.0,
            next_pass: now,
            is_limited: false,
        }
    }
}

impl Engine {
    /// The transport's share is to be decided anew before the next packet is forwarded.
    pub(super) fn allocation_due(&mut self, key: usize) {
        if let Some(transport) = self.transports.get_mut(key).filter(|transport| !transport.is_allocation_due) {
            transport.is_allocation_due = true;
            self.due.push(key);
        }
    }

    /// The same for all that receive a track.
    pub(super) fn allocate_for_track(&mut self, track: usize) {
        let count = self.tracks.get(track).map_or(0, |track| track.senders.len());
        for at in 0..count {
            let sender = self.tracks.get(track).and_then(|track| track.senders.get(at)).copied();
            if let Some(transport) = sender.and_then(|key| self.senders.get(key)).map(|sender| sender.transport) {
                self.allocation_due(transport);
            }
        }
    }

    /// A layer begins, or goes on after a silence: who waits for it takes it with its first packet.
    pub(super) fn stream_began(&mut self, key: usize, now: Instant) {
        let Some(track) = self.tracks.get(key) else { return };
        for at in 0..track.senders.len() {
            let Some(&sender) = self.tracks.get(key).and_then(|track| track.senders.get(at)) else { continue };
            self.aim(sender, now);
        }
        self.allocate_for_track(key);
    }

    /// After feedback: the pace, and a new pass where the estimate limits.
    pub(super) fn estimate_changed(&mut self, key: usize, now: Instant) {
        let Some(budget) = self.transports.get_mut(key).and_then(|t| t.budget.as_mut()) else { return };
        let estimate = budget.congestion.estimate();
        budget.pacer.set_rate(estimate);
        if budget.is_limited || estimate < budget.allocator.wanted().scaled(AMPLE) || now >= budget.next_pass {
            self.allocation_due(key);
        }
    }

    /// Decides for the transports that are due.
    pub(super) fn run_allocations(&mut self, now: Instant) {
        while let Some(key) = self.due.pop() {
            if let Some(transport) = self.transports.get_mut(key) {
                transport.is_allocation_due = false;
                self.allocate(key, now);
            }
        }
    }

    fn allocate(&mut self, key: usize, now: Instant) {
        let mut scratch = core::mem::take(&mut self.demands);
        let mut assignments = core::mem::take(&mut self.assignments);
        self.gather(key, now, &mut scratch);
        if let Some(transport) = self.transports.get_mut(key) {
            decide(transport, &scratch, &self.senders, &self.tracks, &mut assignments, now);
        }
        let mut missed = Missed::default();
        for assignment in &assignments {
            let Some(video) = scratch.videos.iter().find(|video| u32::try_from(video.sender) == Ok(assignment.id))
            else {
                continue;
            };
            let layers = scratch.layers.get(video.layers.clone()).unwrap_or_default();
            missed.note(video, assignment, layers);
            if let Some(sender) = self.senders.get_mut(video.sender) {
                sender.has_all_temporal = has_all_temporal(assignment, layers);
            }
            self.assign(video.sender, assignment, now);
        }
        if let Some(budget) = self.transports.get_mut(key).and_then(|t| t.budget.as_mut()) {
            budget.missed = missed.share();
            budget.is_limited = budget.missed > 0.0;
            if budget.is_limited && !self.pacing.contains(&key) {
                self.pacing.push(key);
            }
        }
        self.demands = scratch;
        self.assignments = assignments;
    }

    /// The videos of a transport and the layers that each may take.
    fn gather(&mut self, key: usize, now: Instant, scratch: &mut Scratch) {
        scratch.layers.clear();
        scratch.videos.clear();
        let Some(transport) = self.transports.get(key) else { return };
        for &sender_key in transport.senders.values() {
            let Some(sender) = self.senders.get_mut(sender_key) else { continue };
            let Some(track) = self.tracks.get(sender.track) else { continue };
            if !sender.is_video || sender.is_stopped || track.is_muted {
                continue;
            }
            let first = scratch.layers.len();
            if sender.pin.as_ref().is_some_and(|pin| pin.place.is_some()) {
                // Nothing is to be chosen, but whether it is shown at all.
                scratch.videos.push(Video { sender: sender_key, layers: first..first, max_spatial: 0 });
                continue;
            }
            sender.is_svc = list_layers(track, &mut self.streams, now, &mut scratch.layers);
            let top = scratch.layers.last().map_or(0, |layer| layer.spatial);
            let max_spatial = if sender.is_svc {
                svc_layers(sender, track, top, &self.streams)
            } else {
                track.place_for(&sender.want, &self.streams)
            };
            scratch.videos.push(Video { sender: sender_key, layers: first..scratch.layers.len(), max_spatial });
        }
    }

    /// Puts a decision into effect.
    fn assign(&mut self, key: usize, assignment: &Assignment, now: Instant) {
        let Some(sender) = self.senders.get_mut(key) else { return };
        let Some(track) = self.tracks.get(sender.track) else { return };
        let was_paused = sender.is_paused();
        sender.pause = assignment.pause;
        if sender.pin.as_ref().is_none_or(|pin| pin.place.is_none()) {
            sender.choice = assignment.choice;
        }
        if sender.is_paused() && !was_paused {
            sender.interrupt();
        }
        let mut asked = track.aim(sender, &mut self.streams, now);
        if was_paused && !sender.is_paused() && sender.is_connected {
            asked = track.ask_key_frame(sender, &mut self.streams, now, true);
        }
        self.note_asking(asked);
        self.tell_sender(key, now);
    }

    /// Tells what a video sender forwards now, where that has changed.
    pub(super) fn tell_sender(&mut self, key: usize, now: Instant) {
        let Some(sender) = self.senders.get_mut(key).filter(|sender| sender.is_video) else { return };
        let Some(track) = self.tracks.get(sender.track) else { return };
        let pause = if sender.is_stopped { Pause::Hidden } else { sender.pause };
        let place =
            sender.pin.as_ref().and_then(|pin| pin.place).filter(|place| usize::from(*place) < track.layer_count());
        let pinned = place.map(|place| (place, sender.pin.as_ref().and_then(|pin| pin.temporal).unwrap_or(0)));
        let chosen = pinned.or(sender.choice.map(|choice| (choice.spatial, choice.temporal)));
        if pause == Pause::None && chosen.is_none() {
            return; // nothing to forward yet
        }
        let (spatial, temporal) = chosen.filter(|_| pause == Pause::None).unwrap_or_default();
        let state = Some((pause, spatial, temporal));
        if sender.told != state {
            sender.told = state;
            let rid = track.rid_of(spatial);
            let event = Event::SenderChanged { sender: sender.id.clone(), pause, rid, spatial, temporal };
            let track = sender.track;
            self.emit(event);
            self.update_wanted(track, now);
        }
    }

    // --- Dynacast ---------------------------------------------------------------------------------------------------
    /// Tells which simulcast layers somebody is to receive: more at once, less after a while. One layer above what a
    /// short link allows is kept, so that its rate is known when there is room for it.
    pub(super) fn update_wanted(&mut self, key: usize, now: Instant) {
        let Some(track) = self.tracks.get(key).filter(|track| track.rids.len() > 1 && track.has_receivers()) else {
            return;
        };
        let mut wanted = 0_u8;
        for sender in track.senders.iter().filter_map(|&key| self.senders.get(key)).filter(|s| s.is_connected) {
            let is_short = sender.pause == Pause::Bandwidth;
            if sender.is_stopped || (sender.pause != Pause::None && !is_short) {
                continue;
            }
            let by_tile = track.place_for(&sender.want, &self.streams);
            let by_pin = sender.pin.as_ref().and_then(|pin| pin.place);
            let by_link = match sender.choice {
                _ if is_short => 0,
                Some(choice) => choice.spatial.saturating_add(1),
                None => u8::MAX,
            };
            let place = by_pin.unwrap_or_else(|| by_tile.min(by_link)).min(7);
            wanted |= u8::MAX >> (7 - place);
        }
        let all = u8::MAX >> (8 - track.rids.len().min(8));
        self.tell_wanted(key, wanted & all, all, now);
    }

    fn tell_wanted(&mut self, key: usize, wanted: u8, all: u8, now: Instant) {
        let Some(track) = self.tracks.get_mut(key) else { return };
        let told = track.wanted & all;
        if wanted == told {
            track.less_since = None;
            return;
        }
        let has_more = wanted & !told != 0;
        let since = *track.less_since.get_or_insert(now);
        if !has_more && now.since(since) < LESS_AFTER {
            return;
        }
        let next = if has_more { told | wanted } else { wanted };
        track.wanted = next;
        track.less_since = None;
        let layers = track.rids.iter().enumerate().map(|(at, rid)| (rid.clone(), next >> at & 1 == 1)).collect();
        let event = Event::LayersWanted { track: track.id.clone(), layers };
        self.emit(event);
    }
}

/// How much of what is wanted a subscriber does not get.
#[derive(Debug, Default)]
struct Missed {
    wanted: u32,
    granted: u32,
}

impl Missed {
    fn note(&mut self, video: &Video, assignment: &Assignment, layers: &[LayerRate]) {
        let top = layers
            .iter()
            .filter(|layer| layer.alive && layer.spatial <= video.max_spatial)
            .map(|layer| layer.spatial)
            .max();
        if let (Some(top), Pause::None | Pause::Bandwidth) = (top, assignment.pause) {
            self.wanted += u32::from(top) + 1;
            self.granted += assignment.choice.map_or(0, |choice| u32::from(choice.spatial) + 1);
        }
    }

    fn share(&self) -> f64 {
        if self.wanted == 0 {
            return 0.0;
        }
        1.0 - f64::from(self.granted.min(self.wanted)) / f64::from(self.wanted)
    }
}

/// Whether no temporal layer that is received is left out: then one that is first seen before the next pass goes out too.
fn has_all_temporal(assignment: &Assignment, layers: &[LayerRate]) -> bool {
    assignment.choice.is_some_and(|choice| {
        !layers.iter().any(|layer| layer.spatial == choice.spatial && layer.temporal > choice.temporal)
    })
}

/// The layers of a track that are received, lowest first; true where they are spatial layers of one stream.
fn list_layers(track: &Track, streams: &mut Slab<Stream>, now: Instant, layers: &mut Vec<LayerRate>) -> bool {
    let mut is_svc = false;
    for &key in track.streams.iter().flatten() {
        let Some(stream) =
            streams.get_mut(key).filter(|s| s.received > 0 && now.since(s.last_arrival) < super::track::LAYER_ALIVE)
        else {
            continue;
        };
        stream.rates.roll(now);
        let (spatial, temporal) = stream.rates.highest();
        if track.rids.is_empty() && spatial > 0 {
            is_svc = true;
            for (s, t) in (0..=spatial).flat_map(|s| (0..=temporal).map(move |t| (s, t))) {
                layers.push(LayerRate { spatial: s, temporal: t, rate: stream.rates.rate(s, t, now), alive: true });
            }
        } else {
            for t in 0..=temporal {
                let rate = stream.rates.rate(u8::MAX, t, now);
                layers.push(LayerRate { spatial: stream.place, temporal: t, rate, alive: true });
            }
        }
    }
    is_svc
}

/// The highest spatial layer of an SVC stream that a tile needs; each has half the width of the next.
fn svc_layers(sender: &Sender, track: &Track, top: u8, streams: &Slab<Stream>) -> u8 {
    let size = track
        .streams
        .iter()
        .flatten()
        .find_map(|&key| streams.get(key))
        .map_or(0, |stream| stream.size.0.max(stream.size.1));
    let full = if size == 0 { 1_280 } else { u32::from(size) };
    let wanted = sender.want.width.max(sender.want.height);
    if wanted == 0 {
        return top;
    }
    (0..top).find(|&layer| (full >> (top - layer)) * 8 >= wanted * 7).unwrap_or(top)
}

fn decide(
    transport: &mut Transport,
    scratch: &Scratch,
    senders: &Slab<Sender>,
    tracks: &Slab<Track>,
    assignments: &mut Vec<Assignment>,
    now: Instant,
) {
    assignments.clear();
    let budget = transport.budget.get_or_insert_with(|| Box::new(Budgeting::new(now)));
    budget.next_pass = now + CALM_PASS;
    let mut demands: Vec<Demand<'_>> = Vec::with_capacity(scratch.videos.len());
    for video in &scratch.videos {
        let (Some(sender), Ok(id)) = (senders.get(video.sender), u32::try_from(video.sender)) else { continue };
        demands.push(Demand {
            id,
            rank: rank(sender, tracks.get(sender.track)),
            visible: sender.want.visible,
            max_spatial: video.max_spatial,
            layers: scratch.layers.get(video.layers.clone()).unwrap_or_default(),
            current: sender.choice,
        });
    }
    let audio = transport.sent.rate(|sent| sent.audio);
    let is_wide = scratch.videos.iter().any(|video| senders.get(video.sender).is_some_and(|s| s.head.has_wide()));
    let spending = Budget {
        estimate: budget.congestion.estimate(),
        audio,
        retransmissions: transport.sent.rate(|sent| sent.repairs),
        has_feedback: budget.congestion.has_feedback() || (is_wide && budget.congestion.awaits_feedback(now)),
    };
    budget.allocator.allocate(now, spending, budget.last_n, &mut demands, assignments);
    budget.congestion.set_demand(budget.allocator.wanted() + audio);
    if let Some(rate) = budget.allocator.resume_probe(now) {
        budget.congestion.request_probe(rate, now);
    }
}

fn rank(sender: &Sender, track: Option<&Track>) -> Rank {
    match track {
        Some(track) if track.is_screen => Rank::Screen,
        _ if sender.want.pinned => Rank::Pinned,
        Some(track) if track.rank == 0 => Rank::Speaker,
        Some(track) if track.rank != UNRANKED => Rank::Spoke(track.rank.saturating_mul(RANK_STEP)),
        _ => Rank::Other,
    }
}
