//! What is sent in its own time: packets that wait for the pacer, and probes.

use core::time::Duration;

use slab::Slab;

use crate::congestion::Burst;
use crate::engine::event::Dropped;
use crate::engine::feedback::repair_envelope;
use crate::engine::forward::{Lane, note_sent, seal, size_of, tell_first, transmit};
use crate::engine::rewrite::write_padding;
use crate::engine::sender::Sender;
use crate::engine::transport::Transport;
use crate::engine::{Engine, Io, count};
use crate::time::Instant;

/// Timers finer than this cost more than they bring.
const STEP: Duration = Duration::from_millis(1);
const BUSY_TICK: Duration = Duration::from_millis(20);
/// Video that waited longer is shown by nobody any more: a key frame replaces it.
const MAX_AGE: Duration = Duration::from_millis(1_000);
/// Padding of one packet, the most that a byte can tell.
const PADDING: u8 = 255;

impl Engine {
    /// Sends what is due from queues and of probes, and lets time pass for transports whose link is short.
    pub(super) fn pace(&mut self, io: &mut Io<'_>) {
        let mut pacing = core::mem::take(&mut self.pacing);
        let mut next: Option<Instant> = None;
        pacing.retain(|&key| {
            let due = self.pace_transport(key, io);
            if let Some(due) = due {
                next = Some(next.map_or(due, |known| known.min(due)));
            }
            due.is_some()
        });
        for key in core::mem::replace(&mut self.pacing, pacing) {
            if !self.pacing.contains(&key) {
                self.pacing.push(key);
            }
        }
        self.schedule.pacing = next.map(|at| at.max(io.now + STEP));
    }

    /// When the transport is due next; `None` where nothing waits any more.
    fn pace_transport(&mut self, key: usize, io: &mut Io<'_>) -> Option<Instant> {
        let is_limited = self.transports.get(key)?.budget.as_ref().is_some_and(|budget| budget.is_limited);
        if is_limited {
            self.let_time_pass(key, io.now); // a probe that begins is sent from now on
        }
        let Self { transports, senders, tracks, streams, stats, events, pacing, asking, .. } = self;
        let transport = transports.get_mut(key)?;
        let mut lane = Lane { stats, events, pacing, asking, io };
        give_up(transport, senders, &mut lane);
        let mut due: Option<Instant> = None;
        let mut note = |at: Instant| due = Some(due.map_or(at, |known: Instant| known.min(at)));
        while let Some(&first) = transport.budget.as_ref().and_then(|budget| budget.queue.front()) {
            let now = lane.io.now;
            let sender = senders.get_mut(first.sender as usize).filter(|sender| !sender.is_paused());
            let planned = sender.as_ref().and_then(|sender| sender.planned(first.out));
            let stored = planned.and_then(|p| streams.get(p.stream as usize)?.store.get(p.number));
            let budget = transport.budget.as_mut()?;
            if let (Some(sender), Some(planned), Some(stored)) = (sender, planned, stored) {
                if !budget.pacer.may_send(size_of(&planned, stored), now) {
                    note(budget.pacer.next_at(now, size_of(&planned, stored)));
                    break;
                }
                budget.queue.pop_front();
                if transmit(sender, transport, &planned, stored, &mut lane)
                    && let Some(track) = tracks.get(sender.track)
                {
                    tell_first(sender, transport, track, &mut lane);
                }
            } else {
                budget.queue.pop_front(); // its sender is gone or paused, or what it stood for is gone
            }
        }
        if let Some(at) = probe(transport, senders, &mut lane) {
            note(at);
        }
        if is_limited {
            note(lane.io.now + BUSY_TICK);
        }
        due
    }

    /// What a transport's budget does from time to time, busy or not.
    pub(super) fn visit_budget(&mut self, key: usize, io: &mut Io<'_>) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        transport.sent.roll(io.now);
        let Some(budget) = &transport.budget else { return };
        if !budget.is_limited {
            self.let_time_pass(key, io.now);
        }
        if self
            .transports
            .get(key)
            .and_then(|t| t.budget.as_ref())
            .is_some_and(|b| b.is_limited || io.now >= b.next_pass)
        {
            self.allocation_due(key);
        }
    }

    fn let_time_pass(&mut self, key: usize, now: Instant) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let can_pad = transport.senders.values().any(|&key| self.senders.get(key).is_some_and(can_pad));
        let Some(budget) = &mut transport.budget else { return };
        budget.congestion.tick(now);
        if let Some(result) = budget.congestion.take_probe_result() {
            budget.allocator.probe_result(result.rate, now);
            self.allocation_due(key);
            return;
        }
        if budget.burst.is_none()
            && can_pad
            && let Some(probe) = budget.congestion.poll_probe(now)
        {
            budget.burst = Some(Burst::new(probe, now));
            self.schedule.pacing = Some(self.schedule.pacing.map_or(now, |at| at.min(now)));
            if !self.pacing.contains(&key) {
                self.pacing.push(key);
            }
        }
    }
}

/// Drops what waits where it waited too long or where there was no room for more, and asks for key frames instead.
fn give_up(transport: &mut Transport, senders: &mut Slab<Sender>, lane: &mut Lane<'_, '_>) {
    let Some(budget) = &mut transport.budget else { return };
    let is_old = budget.queue.front().is_some_and(|first| lane.io.now.since(first.since) > MAX_AGE);
    if !is_old && !budget.is_overfull {
        return;
    }
    budget.is_overfull = false;
    for waiting in budget.queue.drain(..) {
        count(lane.stats, Dropped::PacerOverflow);
        if let Some(sender) = senders.get_mut(waiting.sender as usize).filter(|sender| !sender.is_waiting) {
            sender.interrupt();
            lane.asking.extend(sender.current);
        }
    }
}

fn can_pad(sender: &Sender) -> bool {
    sender.is_connected
        && sender.rtx_ssrc.is_some()
        && sender.codec.rtx_payload_type.is_some()
        && sender.head.has_wide()
}

/// Pads a probe up to its rate by empty packets of an RTX stream; when it is due next.
fn probe(transport: &mut Transport, senders: &mut Slab<Sender>, lane: &mut Lane<'_, '_>) -> Option<Instant> {
    let now = lane.io.now;
    loop {
        let budget = transport.budget.as_mut()?;
        let burst = budget.burst.as_ref()?;
        let Some(at) = burst.next_at().filter(|_| budget.congestion.is_probing(burst.probe.id)) else {
            budget.burst = None;
            return None;
        };
        if at > now {
            return Some(at);
        }
        let key = transport.senders.values().copied().find(|&key| senders.get(key).is_some_and(can_pad));
        let sent = key.and_then(|key| senders.get_mut(key)).and_then(|sender| pad(transport, sender, lane));
        if sent.is_none() {
            if let Some(budget) = &mut transport.budget {
                budget.burst = None;
            }
            return None;
        }
    }
}

fn pad(transport: &mut Transport, sender: &mut Sender, lane: &mut Lane<'_, '_>) -> Option<usize> {
    let (ssrc, payload_type) = (sender.rtx_ssrc?, sender.codec.rtx_payload_type?);
    let index = sender.next_rtx();
    let wide = transport.next_wide();
    let envelope = repair_envelope(ssrc, payload_type, index, None, wide, lane.io.now);
    let timestamp = sender.last_timestamp();
    let len = seal(transport, index, lane, |room| write_padding(room, &sender.head, &envelope, timestamp, PADDING))?;
    note_sent(transport, wide, len, lane.io.now);
    Some(len)
}
