//! RTCP in both directions: what peers report and ask for, and what they are told and asked.

use crate::engine::event::Dropped;
use crate::engine::forward::{Lane, note_sent, seal};
use crate::engine::pipe::PipeNotice;
use crate::engine::rewrite::{Envelope, write_packet};
use crate::engine::sender::Planned;
use crate::engine::stream::Report;
use crate::engine::track::Origin;
use crate::engine::transport::{Inbound, Transport};
use crate::engine::{Engine, Io, count, ensure_room};
use crate::units::DataRate;
use crate::wire::rtcp::{self, Buffer, Packet, ReportBlock};

impl Engine {
    pub(super) fn receive_rtcp(&mut self, key: usize, data: &[u8], io: &mut Io<'_>) {
        let Ok(compound) = rtcp::parse(data) else {
            self.dropped(Dropped::BadRtcp);
            return;
        };
        for packet in compound {
            match packet {
                Packet::SenderReport { ssrc, ntp, rtp_timestamp, blocks, .. } => {
                    self.note_report(key, ssrc, Report { ntp, rtp_timestamp, arrival: io.now }, io);
                    self.reported(key, blocks, io);
                }
                Packet::ReceiverReport { blocks, .. } => self.reported(key, blocks, io),
                Packet::Nack { media_ssrc, numbers } => self.resend(key, media_ssrc, numbers, io),
                Packet::PictureLoss { media_ssrc } => self.key_frame_asked(key, media_ssrc, io),
                Packet::FullIntra { entries } => entries.for_each(|ssrc| self.key_frame_asked(key, ssrc, io)),
                Packet::TransportFeedback(feedback) => {
                    if let Some(budget) = self.transports.get_mut(key).and_then(|t| t.budget.as_mut()) {
                        budget.congestion.on_feedback(&feedback, io.now);
                        self.estimate_changed(key, io.now);
                    }
                }
                Packet::Remb { bitrate_bps } => {
                    if let Some(budget) = self.transports.get_mut(key).and_then(|t| t.budget.as_mut()) {
                        budget.congestion.on_remb(DataRate::from_bps(bitrate_bps), io.now);
                        self.estimate_changed(key, io.now);
                    }
                }
                Packet::Bye { .. } => {}
            }
        }
    }

    fn note_report(&mut self, key: usize, ssrc: u32, report: Report, io: &mut Io<'_>) {
        let Some(Inbound::Stream(stream)) = self.transports.get(key).and_then(|t| t.inbound.get(&ssrc)).copied() else {
            return;
        };
        let Some(stream) = self.streams.get_mut(stream) else { return };
        let is_first = stream.sr.replace(report).is_none();
        let (place, track) = (stream.place, stream.track);
        if is_first {
            self.report_track(track, io); // until they know the clock, nobody's lips are in step
        }
        let notice = PipeNotice::SenderReport {
            place,
            ntp: report.ntp,
            rtp_timestamp: report.rtp_timestamp,
            arrival: report.arrival,
        };
        for &pipe in self.tracks.get(track).map_or(&[][..], |track| &track.pipes) {
            io.outlet.notify(pipe, notice);
        }
    }

    fn reported(&mut self, key: usize, blocks: impl Iterator<Item = ReportBlock>, io: &Io<'_>) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        for block in blocks {
            let Some(sender) = transport.senders.get(&block.ssrc).and_then(|&key| self.senders.get_mut(key)) else {
                continue;
            };
            sender.reported(block.fraction_lost, block.last_sr, block.delay, io.now);
            if let Some(budget) = &mut transport.budget {
                if let Some(round_trip) = sender.round_trip {
                    budget.congestion.on_round_trip(round_trip);
                }
                budget.congestion.on_loss(sender.fraction_lost, io.now);
            }
        }
    }

    fn resend(&mut self, key: usize, ssrc: u32, numbers: impl Iterator<Item = u16>, io: &mut Io<'_>) {
        let Self { transports, senders, streams, stats, events, pacing, asking, .. } = self;
        let Some(transport) = transports.get_mut(key) else { return };
        let Some(sender) = transport.senders.get(&ssrc).and_then(|&key| senders.get_mut(key)) else { return };
        let mut lane = Lane { stats, events, pacing, asking, io };
        for sequence in numbers {
            let Some(planned) = sender.resend(sequence, lane.io.now) else { continue };
            let Some(stored) = streams.get(planned.stream as usize).and_then(|s| s.store.get(planned.number)) else {
                continue;
            };
            let (Some(rtx_ssrc), Some(payload_type)) = (sender.rtx_ssrc, sender.codec.rtx_payload_type) else { return };
            if !transport.repairs.spend(stored.2.len()) {
                count(lane.stats, Dropped::RepairBudget);
                return;
            }
            let index = sender.next_rtx();
            let wide = if sender.head.has_wide() { transport.next_wide() } else { 0 };
            let envelope = repair_envelope(rtx_ssrc, payload_type, index, Some(&planned), wide, lane.io.now);
            let Some(len) =
                seal(transport, index, &mut lane, |room| write_packet(room, &sender.head, &envelope, &planned, stored))
            else {
                continue;
            };
            note_sent(transport, wide, len, lane.io.now);
            if let Some(budget) = &mut transport.budget {
                budget.pacer.charge(len, lane.io.now);
            }
            transport.sent.open.repairs += len as u64;
            transport.retransmitted += 1;
            sender.retransmitted += 1;
            lane.stats.retransmitted_packets += 1;
        }
    }

    fn key_frame_asked(&mut self, key: usize, ssrc: u32, io: &Io<'_>) {
        let Some(&key) = self.transports.get(key).and_then(|t| t.senders.get(&ssrc)) else { return };
        let Some(sender) = self.senders.get_mut(key) else { return };
        let Some(track) = self.tracks.get(sender.track) else { return };
        if sender.may_ask_key_frame(io.now) {
            let asked = track.ask_key_frame(sender, &mut self.streams, io.now, false);
            self.note_asking(asked);
        }
    }

    /// Sends the key frame requests that are due.
    pub(super) fn ask_key_frames(&mut self, io: &mut Io<'_>) {
        let mut asking = core::mem::take(&mut self.asking);
        asking.retain(|&key| {
            let Some(stream) = self.streams.get_mut(key) else { return false };
            if stream.key_frames.take(io.now) {
                let (ssrc, place, track) = (stream.ssrc, stream.place, stream.track);
                match self.tracks.get(track).map(|track| track.origin) {
                    Some(Origin::Transport(transport)) => {
                        self.buffer.clear();
                        rtcp::write_picture_loss(&mut self.buffer, self.ssrc, ssrc);
                        self.send_rtcp(transport, io);
                    }
                    Some(Origin::Pipe(pipe)) => io.outlet.notify(pipe, PipeNotice::KeyFrame { place }),
                    None => {}
                }
                return false;
            }
            stream.key_frames.is_pending()
        });
        for key in core::mem::replace(&mut self.asking, asking) {
            self.note_asking(Some(key));
        }
    }

    /// Seals and commits what the buffer holds.
    pub(super) fn send_rtcp(&mut self, key: usize, io: &mut Io<'_>) {
        if let Some(transport) = self.transports.get_mut(key) {
            send_buffer(transport, &self.buffer, io);
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the wire has the low 16 bits")]
pub(super) fn repair_envelope(
    ssrc: u32,
    payload_type: u8,
    index: u64,
    original: Option<&Planned>,
    wide: u64,
    now: crate::time::Instant,
) -> Envelope {
    Envelope {
        ssrc,
        payload_type,
        sequence: index as u16,
        original: original.map(|planned| planned.out as u16),
        wide: wide as u16,
        frame: original.map_or(0, |planned| planned.picture),
        now,
    }
}

/// Seals and commits an RTCP packet, where the transport is connected.
pub(super) fn send_buffer(transport: &mut Transport, buffer: &Buffer, io: &mut Io<'_>) {
    let (Some(destination), Some(sealer)) = (transport.destination, &mut transport.sealer) else { return };
    let data = buffer.as_slice();
    if data.is_empty() {
        return;
    }
    ensure_room(io.batch, io.outlet);
    let room = io.batch.space();
    let Some(target) = room.get_mut(..data.len()) else { return };
    target.copy_from_slice(data);
    if let Some(sealed) = sealer.seal_rtcp(room, data.len()) {
        io.batch.commit(sealed, destination, &mut transport.run);
    }
}
