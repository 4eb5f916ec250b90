//! What is periodic. A tick of 20 ms serves what is urgent; transports and senders are visited in ten shares, one a tick,
//! so that a node with thousands of them never works in bursts.

use core::time::Duration;

use crate::engine::batch::{Batch, Outlet};
use crate::engine::event::{Event, LinkReport, LinkState};
use crate::engine::feedback::send_buffer;
use crate::engine::ice::CONSENT_TIMEOUT;
use crate::engine::track::{Origin, Track};
use crate::engine::transport::{DISCONNECTED, Inbound, Kind, PLAIN_SILENCE};
use crate::engine::{Engine, Io};
use crate::time::Instant;
use crate::wire::rtcp::{self, ReportBlock};

const TICK: Duration = Duration::from_millis(20);
const FEEDBACK: Duration = Duration::from_millis(60);
const LEVELS: Duration = Duration::from_millis(200);
const REPORT: Duration = Duration::from_secs(1);
const SHARES: usize = 10;
/// What a peer reported longer ago says nothing about its link now.
const REPORTED: Duration = Duration::from_secs(6);
const ACTIVE: Duration = Duration::from_secs(3);
/// A link report that says nothing new is told this often: thousands of them cost more than their packets.
const UNCHANGED: Duration = Duration::from_secs(3);
/// Report blocks of one packet.
const MAX_BLOCKS: usize = 31;

/// When what is due.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    now: Instant,
    next: Instant,
    pub(super) pacing: Option<Instant>,
    feedback: Instant,
    levels: Instant,
    reports: [Instant; SHARES],
    share: usize,
}

impl Schedule {
    /// The moment of the last tick.
    pub(super) const fn now(&self) -> Instant {
        self.now
    }
}

impl Engine {
    /// Does what is due. Call it when [`Engine::next_wakeup`] has come; earlier calls cost little.
    pub fn tick(&mut self, now: Instant, batch: &mut Batch, outlet: &mut dyn Outlet) {
        let mut io = Io { now, batch, outlet };
        if self.schedule.pacing.is_some_and(|at| now >= at) || !self.pacing.is_empty() {
            self.pace(&mut io);
        }
        if now < self.schedule.next {
            return;
        }
        self.schedule.now = now;
        self.schedule.next = now + TICK;
        self.request_repairs(&mut io);
        if now >= self.schedule.feedback {
            self.schedule.feedback = now + FEEDBACK;
            self.send_feedback(&mut io);
        }
        self.visit_share(&mut io);
        if now >= self.schedule.levels {
            self.schedule.levels = now + LEVELS;
            self.emit_levels();
        }
        self.run_allocations(now);
        self.ask_key_frames(&mut io);
    }

    /// When [`Engine::tick`] is due next.
    #[must_use]
    pub fn next_wakeup(&self) -> Instant {
        self.schedule.pacing.map_or(self.schedule.next, |at| at.min(self.schedule.next))
    }

    // --- publishers -------------------------------------------------------------------------------------------------
    /// NACKs and PLIs to publishers.
    fn request_repairs(&mut self, io: &mut Io<'_>) {
        for key in 0..self.streams.capacity() {
            let Some(stream) = self.streams.get_mut(key) else { continue };
            if stream.losses.is_empty() && !stream.losses.gave_up {
                continue;
            }
            self.numbers.clear();
            stream.losses.due(io.now, &mut self.numbers);
            let (ssrc, track) = (stream.ssrc, stream.track);
            if core::mem::take(&mut stream.losses.gave_up) && stream.is_video {
                stream.key_frames.request(io.now, false);
                self.note_asking(Some(key));
            }
            if let (false, Some(Origin::Transport(transport))) =
                (self.numbers.is_empty(), self.tracks.get(track).map(|t| t.origin))
            {
                self.buffer.clear();
                rtcp::write_nack(&mut self.buffer, self.ssrc, ssrc, &self.numbers);
                self.send_rtcp(transport, io);
            }
        }
    }

    fn send_feedback(&mut self, io: &mut Io<'_>) {
        for (_, transport) in &mut self.transports {
            while !transport.arrivals.is_empty() {
                self.buffer.clear();
                if transport.arrivals.feedback(self.ssrc, &mut self.buffer) {
                    send_buffer(transport, &self.buffer, io);
                }
            }
        }
    }

    fn emit_levels(&mut self) {
        let mut levels = Vec::new();
        for (_, track) in &mut self.tracks {
            if !track.is_video {
                levels.push((track.id.clone(), if track.is_muted { 127 } else { track.level }));
                track.level = 127;
            }
        }
        if !levels.is_empty() {
            self.emit(Event::AudioLevels(levels));
        }
    }

    // --- one share --------------------------------------------------------------------------------------------------
    fn visit_share(&mut self, io: &mut Io<'_>) {
        self.schedule.share = (self.schedule.share + 1) % SHARES;
        let share = self.schedule.share;
        let is_report_due = self.schedule.reports.get(share).is_some_and(|at| io.now >= *at);
        if is_report_due && let Some(at) = self.schedule.reports.get_mut(share) {
            *at = io.now + REPORT;
        }
        for key in (share..self.transports.capacity()).step_by(SHARES) {
            if self.transports.contains(key) {
                self.check_link(key, io.now);
                self.visit_budget(key, io);
                if is_report_due {
                    self.report(key, io);
                }
            }
        }
        for key in (share..self.senders.capacity()).step_by(SHARES) {
            self.visit_sender(key, io);
        }
        for key in (share..self.tracks.capacity()).step_by(SHARES) {
            self.visit_track(key, io.now);
        }
    }

    fn visit_track(&mut self, key: usize, now: Instant) {
        let Some(track) = self.tracks.get(key) else { return };
        for &stream in track.streams.iter().flatten() {
            if let Some(stream) = self.streams.get_mut(stream) {
                stream.rates.roll(now);
                stream.store.fit(stream.rates.total(now));
            }
        }
        self.update_wanted(key, now);
    }

    /// Layers come and go; a key frame that did not come is asked for again; sender reports.
    fn visit_sender(&mut self, key: usize, io: &mut Io<'_>) {
        let Self { senders, tracks, streams, .. } = self;
        let Some(sender) = senders.get_mut(key) else { return };
        let Some(track) = tracks.get(sender.track) else { return };
        let mut asked = track.aim(sender, streams, io.now);
        let is_waiting =
            (sender.wants_key_frame() || sender.wants_spatial_up()) && !sender.is_paused() && !track.is_muted;
        if (is_waiting && sender.is_connected) || sender.is_ask_due(io.now) {
            asked = track.ask_key_frame(sender, streams, io.now, false);
        }
        self.note_asking(asked);
        self.report_sender(key, io);
    }

    /// Sender reports of a track to everybody who receives it.
    pub(super) fn report_track(&mut self, key: usize, io: &mut Io<'_>) {
        let count = self.tracks.get(key).map_or(0, |track| track.senders.len());
        for at in 0..count {
            if let Some(&sender) = self.tracks.get(key).and_then(|track| track.senders.get(at)) {
                self.report_sender(sender, io);
            }
        }
    }

    /// The sender report that is due.
    fn report_sender(&mut self, key: usize, io: &mut Io<'_>) {
        let Some(sender) = self.senders.get_mut(key) else { return };
        let current = sender.current.and_then(|key| self.streams.get(key));
        let (sr, clock_rate) = current.map_or((None, 1), |stream| (stream.sr, stream.clock_rate));
        if let Some((ntp, timestamp)) = sender.report(sr, clock_rate, io.now)
            && let Some(transport) = self.transports.get_mut(sender.transport)
        {
            self.buffer.clear();
            #[expect(clippy::cast_possible_truncation, reason = "counters of the wire wrap")]
            rtcp::write_sender_report(
                &mut self.buffer,
                sender.ssrc,
                ntp,
                timestamp,
                sender.forwarded as u32,
                sender.octets as u32,
            );
            rtcp::write_cname(&mut self.buffer, sender.ssrc, &sender.cname);
            send_buffer(transport, &self.buffer, io);
        }
    }

    // --- links ------------------------------------------------------------------------------------------------------
    fn check_link(&mut self, key: usize, now: Instant) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        match transport.kind {
            Kind::Plain { heard } => {
                if now.since(heard) >= PLAIN_SILENCE {
                    self.change_link(key, LinkState::Disconnected);
                }
            }
            Kind::Ice => {
                let Some(last) = transport.ice.last_check else { return };
                transport.ice.expire(now);
                self.claim_paths(key, now);
                let silence = now.since(last);
                if silence >= CONSENT_TIMEOUT {
                    self.change_link(key, LinkState::Failed);
                    self.remove_transport(key);
                } else if silence >= DISCONNECTED {
                    self.change_link(key, LinkState::Disconnected);
                }
            }
        }
    }

    pub(super) fn change_link(&mut self, key: usize, state: LinkState) {
        let Some(transport) = self.transports.get_mut(key).filter(|transport| transport.state != Some(state)) else {
            return;
        };
        transport.state = Some(state);
        let event = Event::IceChanged { transport: transport.id.clone(), state };
        self.emit(event);
    }

    /// Receiver reports to the peer, and a link report to the control layer.
    fn report(&mut self, key: usize, io: &mut Io<'_>) {
        let Some(transport) = self.transports.get_mut(key).filter(|transport| transport.sealer.is_some()) else {
            return;
        };
        let mut blocks = [ReportBlock::default(); MAX_BLOCKS];
        let (mut count, mut received_loss) = (0, 0.0_f64);
        let is_plain = matches!(transport.kind, Kind::Plain { .. });
        for entry in transport.inbound.values() {
            let Inbound::Stream(stream) = *entry else { continue };
            let Some(stream) = self.streams.get_mut(stream) else { continue };
            if stream.received == 0 || io.now.since(stream.last_arrival) >= ACTIVE {
                continue;
            }
            if let Some(slot) = blocks.get_mut(count) {
                *slot = stream.report(io.now);
                received_loss = received_loss.max(stream.fraction_lost);
                count += 1;
            }
        }
        if count > 0 || is_plain {
            self.buffer.clear();
            rtcp::write_receiver_report(&mut self.buffer, self.ssrc, blocks.get(..count).unwrap_or_default());
            rtcp::write_cname(&mut self.buffer, self.ssrc, "parley");
            send_buffer(transport, &self.buffer, io);
        }
        let event = self.link_report(key, received_loss, io.now);
        if let Some(event) = event
            && let Some(transport) = self.transports.get_mut(key)
            && transport.told.as_ref().is_none_or(|(told, at)| io.now.since(*at) >= UNCHANGED || is_news(told, &event))
        {
            transport.told = Some((event.clone(), io.now));
            self.emit(Event::LinkReport(event));
        }
    }

    fn link_report(&self, key: usize, received_loss: f64, now: Instant) -> Option<LinkReport> {
        let transport = self.transports.get(key)?;
        let (mut sent_loss, mut round_trip) = (0.0_f64, None::<Duration>);
        for sender in transport.senders.values().filter_map(|&key| self.senders.get(key)) {
            if sender.reported_at.is_some_and(|at| now.since(at) < REPORTED) {
                sent_loss = sent_loss.max(sender.fraction_lost);
                round_trip = match (round_trip, sender.round_trip) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
        }
        let budget = transport.budget.as_ref();
        Some(LinkReport {
            transport: transport.id.clone(),
            received_loss,
            sent_loss,
            round_trip,
            is_active: transport.is_active(now),
            estimate: budget.filter(|b| b.congestion.has_feedback()).map(|b| b.congestion.estimate()),
            layers_missed: budget.map_or(0.0, |b| b.missed),
        })
    }
}

/// Whether a report tells what its reader does not know.
fn is_news(told: &LinkReport, now: &LinkReport) -> bool {
    let differs = |a: f64, b: f64, by: f64| (a - b).abs() > by;
    let millis = |report: &LinkReport| report.round_trip.map_or(0.0, |trip| trip.as_secs_f64() * 1e3);
    let trip = millis(told);
    told.is_active != now.is_active
        || told.estimate.is_some() != now.estimate.is_some()
        || differs(told.received_loss, now.received_loss, 0.01)
        || differs(told.sent_loss, now.sent_loss, 0.01)
        || differs(told.layers_missed, now.layers_missed, 0.05)
        || differs(trip, millis(now), (trip / 4.0).max(20.0))
}

impl Track {
    /// Whether any subscriber is there to be served.
    pub(super) fn has_receivers(&self) -> bool {
        !self.senders.is_empty() || !self.pipes.is_empty()
    }
}
