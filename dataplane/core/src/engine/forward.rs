//! What came in a drain goes out to the subscribers, sender by sender, so that each one's packets follow each other: one
//! run of segments, one look at its keys.

use std::collections::VecDeque;

use slab::Slab;

use crate::engine::batch::{Batch, Outlet};
use crate::engine::event::{Dropped, Event, Stats};
use crate::engine::pipe::PipedPacket;
use crate::engine::rewrite::{Envelope, Stored, write_packet};
use crate::engine::sender::{OUT_ORIGIN, Planned, Sender, Step};
use crate::engine::stream::Stream;
use crate::engine::track::Track;
use crate::engine::transport::{MAX_QUEUE, Transport, Waiting};
use crate::engine::{Engine, Io, Pending, count, ensure_room};
use crate::time::Instant;

/// What sending needs beside the sender and its transport.
pub(super) struct Lane<'a, 'b> {
    pub(super) stats: &'a mut Stats,
    pub(super) events: &'a mut VecDeque<Event>,
    pub(super) pacing: &'a mut Vec<usize>,
    pub(super) asking: &'a mut Vec<usize>,
    pub(super) io: &'a mut Io<'b>,
}

impl Engine {
    /// Forwards what has come since the last call. Call it at the end of every drain.
    pub fn forward(&mut self, now: Instant, batch: &mut Batch, outlet: &mut dyn Outlet) {
        if self.pending.is_empty() {
            return;
        }
        let mut io = Io { now, batch, outlet };
        self.pending_sends = 0;
        self.is_mid_frame = false;
        self.run_allocations(now);
        let mut pending = core::mem::take(&mut self.pending);
        pending.sort_unstable_by_key(|packet| packet.order);
        for group in pending.chunk_by(|a, b| a.order >> 32 == b.order >> 32) {
            self.forward_group(group, &mut io);
        }
        pending.clear();
        self.pending = pending;
    }

    /// Packets of one track, in the order in which they came.
    fn forward_group(&mut self, group: &[Pending], io: &mut Io<'_>) {
        let Some(track_key) = group.first().and_then(|p| self.streams.get(p.stream as usize)).map(|s| s.track) else {
            return;
        };
        let Some(track) = self.tracks.get(track_key) else { return };
        if track.is_muted {
            if track.is_video {
                self.answer_key_frames(group);
            }
            return;
        }
        pipe_out(track, group, &self.streams, io);
        for &key in &track.senders {
            // Whoever found nothing to receive takes what comes now, and need not lose its beginning.
            if let Some(sender) = self.senders.get_mut(key).filter(|sender| sender.target.is_none()) {
                self.asking.extend(track.aim(sender, &mut self.streams, io.now));
            }
        }
        let mut lane = Lane {
            stats: &mut self.stats,
            events: &mut self.events,
            pacing: &mut self.pacing,
            asking: &mut self.asking,
            io,
        };
        for &key in &track.senders {
            let Some(sender) = self.senders.get_mut(key).filter(|s| s.is_connected && !s.is_paused()) else { continue };
            let Some(transport) = self.transports.get_mut(sender.transport) else { continue };
            forward_to((key, sender), transport, track, group, &self.streams, &mut lane);
        }
        if track.is_video {
            self.answer_key_frames(group);
        }
    }

    /// A key frame came: what was asked for before is answered.
    fn answer_key_frames(&mut self, group: &[Pending]) {
        for packet in group {
            if let Some(stream) = self.streams.get_mut(packet.stream as usize).filter(|s| s.key_frames.is_pending())
                && stream.store.get(packet.number).is_some_and(|(meta, ..)| meta.info.begins_key_frame)
            {
                stream.key_frames.fulfilled();
            }
        }
    }
}

fn pipe_out(track: &Track, group: &[Pending], streams: &Slab<Stream>, io: &mut Io<'_>) {
    for &pipe in &track.pipes {
        for packet in group {
            let Some(stream) = streams.get(packet.stream as usize) else { continue };
            let Some((meta, descriptor, payload)) = stream.store.get(packet.number) else { continue };
            let piped = PipedPacket {
                place: stream.place,
                ssrc: stream.ssrc,
                number: meta.number,
                timestamp: meta.timestamp,
                marker: meta.marker,
                padding: meta.padding,
                level: meta.level,
                orientation: meta.orientation,
                frame: meta.frame,
                info: meta.info,
                descriptor,
                payload,
            };
            io.outlet.piped(pipe, &piped);
        }
    }
}

fn forward_to(
    (key, sender): (usize, &mut Sender),
    transport: &mut Transport,
    track: &Track,
    group: &[Pending],
    streams: &Slab<Stream>,
    lane: &mut Lane<'_, '_>,
) {
    for packet in group {
        let stream_key = packet.stream as usize;
        let Some(stream) = streams.get(stream_key) else { continue };
        let Some(stored) = stream.store.get(packet.number) else { continue };
        let meta = stored.0;
        let planned = match sender.step(stream_key, stream.place, meta) {
            Step::Ignore => continue,
            Step::Skip => sender.skip(meta, packet.stream, lane.io.now),
            Step::Forward => sender.plan(meta, packet.stream, lane.io.now),
            Step::Switch => {
                let former = sender.current.and_then(|current| streams.get(current));
                sender.switch(stream_key, stream, former, meta, lane.io.now);
                sender.plan(meta, packet.stream, lane.io.now)
            }
        };
        sender.is_ask_deferred &= !meta.info.begins_key_frame;
        let Some(planned) = planned else { continue };
        if must_wait(transport, sender, &planned, stored, lane.io.now) {
            enqueue((key, sender), transport, &planned, lane);
        } else if transmit(sender, transport, &planned, stored, lane) {
            tell_first(sender, transport, track, lane);
        }
    }
}

/// Says once that a sender's first packet has left.
#[inline]
pub(super) fn tell_first(sender: &mut Sender, transport: &Transport, track: &Track, lane: &mut Lane<'_, '_>) {
    if !sender.is_first_told {
        sender.is_first_told = true;
        lane.events.push_back(Event::FirstForwarded {
            sender: sender.id.clone(),
            transport: transport.id.clone(),
            track: track.id.clone(),
        });
    }
}

/// What a packet takes on the wire, about.
pub(super) fn size_of(planned: &Planned, (_, descriptor, payload): Stored<'_>) -> usize {
    if planned.is_filler { 60 } else { payload.len() + descriptor.len() + 60 }
}

/// Video that would burst over what the link carries waits for its turn; audio never does.
fn must_wait(transport: &mut Transport, sender: &Sender, planned: &Planned, stored: Stored<'_>, now: Instant) -> bool {
    let Some(budget) = transport.budget.as_mut().filter(|budget| {
        let congestion = &budget.congestion;
        sender.is_video && (congestion.has_feedback() || (sender.head.has_wide() && congestion.awaits_feedback(now)))
    }) else {
        return false;
    };
    !budget.queue.is_empty() || !budget.pacer.may_send(size_of(planned, stored), now)
}

fn enqueue((key, sender): (usize, &mut Sender), transport: &mut Transport, planned: &Planned, lane: &mut Lane<'_, '_>) {
    let Some(budget) = &mut transport.budget else { return };
    if !lane.pacing.contains(&sender.transport) {
        lane.pacing.push(sender.transport);
    }
    if budget.queue.len() >= MAX_QUEUE {
        // The picture is broken; the pacer gives up the rest.
        budget.is_overfull = true;
        sender.interrupt();
        lane.asking.extend(sender.current);
        count(lane.stats, Dropped::PacerOverflow);
    } else if let Ok(sender) = u32::try_from(key) {
        budget.queue.push_back(Waiting { sender, out: planned.out, since: lane.io.now });
    }
}

/// Writes, seals and commits a media packet; false where it could not be sent.
pub(super) fn transmit(
    sender: &Sender,
    transport: &mut Transport,
    planned: &Planned,
    stored: Stored<'_>,
    lane: &mut Lane<'_, '_>,
) -> bool {
    let now = lane.io.now;
    let wide = if sender.head.has_wide() { transport.next_wide() } else { 0 };
    let envelope = Envelope::media(planned, sender.ssrc, &sender.codec, wide, now);
    let index = planned.out - OUT_ORIGIN;
    let Some(len) = seal(transport, index, lane, |room| write_packet(room, &sender.head, &envelope, planned, stored))
    else {
        return false;
    };
    note_sent(transport, wide, len, now);
    if sender.is_video {
        transport.sent.open.video += len as u64;
    } else {
        transport.sent.open.audio += len as u64;
    }
    lane.stats.forwarded_packets += 1;
    lane.stats.forwarded_bytes += len as u64;
    transport.repairs.earn(len);
    transport.media_at = Some(now);
    true
}

/// Tells the congestion control of a packet with a transport-wide number.
pub(super) fn note_sent(transport: &mut Transport, wide: u64, len: usize, now: Instant) {
    if wide > 0
        && let Some(budget) = &mut transport.budget
    {
        let probe = budget.burst.as_mut().map(|burst| {
            burst.on_sent(len);
            burst.probe.id
        });
        budget.congestion.on_sent(wide, len, now, probe);
    }
}

/// Seals what `write` puts into the batch (it gives the lengths of header and packet); the plain length.
pub(super) fn seal(
    transport: &mut Transport,
    index: u64,
    lane: &mut Lane<'_, '_>,
    write: impl FnOnce(&mut [u8]) -> Option<(usize, usize)>,
) -> Option<usize> {
    let (Some(destination), Some(sealer)) = (transport.destination, &transport.sealer) else {
        count(lane.stats, Dropped::NotConnected);
        return None;
    };
    ensure_room(lane.io.batch, lane.io.outlet);
    let room = lane.io.batch.space();
    let Some((header_len, len)) = write(room) else {
        count(lane.stats, Dropped::Oversize);
        return None;
    };
    if transport.cap.as_mut().is_some_and(|cap| !cap.take(len, lane.io.now)) {
        count(lane.stats, Dropped::BandwidthCap);
        return None;
    }
    let Some(sealed) = sealer.seal_rtp(room, header_len, len, index) else {
        count(lane.stats, Dropped::SealRefused);
        return None;
    };
    lane.io.batch.commit(sealed, destination, &mut transport.run);
    Some(len)
}
