//! Congestion control of one subscriber's transport, after Google Congestion Control (draft-ietf-rmcat-gcc-02 and
//! libwebrtc), and the choice of what to send within it.
//!
//! [`Congestion`] turns what the peer reports on packets (draft-holmer-rmcat-transport-wide-cc-extensions-01) into an
//! estimate of what the link carries. [`Allocator`] turns the estimate into a layer or a pause for each video.
//! [`Pacer`] spreads what is sent. None of them has a clock or allocates for a packet.

mod aimd;
mod allocator;
mod arrival;
mod delay;
mod history;
mod loss;
mod meter;
mod pacer;
mod probe;
#[cfg(test)]
mod tests;
mod trendline;

pub use allocator::{Allocator, Assignment, Budget, Demand, LayerChoice, LayerRate, Pause, Rank};
pub use pacer::Pacer;
pub use probe::{Burst, Probe, ProbeResult};

use crate::time::Instant;
use crate::units::DataRate;
use crate::wire::twcc;
use aimd::{MAX_RATE, MIN_RATE, Observation, RateControl};
use arrival::Groups;
use core::time::Duration;
use delay::QueueDelay;
use history::{History, MAX_CAPACITY};
use loss::Losses;
use meter::Meter;
use probe::Prober;
use trendline::{Trendline, Usage};

const RATE_WINDOW: Duration = Duration::from_millis(500);
/// Who sends less than this share of the estimate is limited by what there is to send. It must be more than 1 / 1.5,
/// where the estimate stops growing.
const LIMITED: f64 = 0.7;
/// What is sent and arrives at this share of its pace has met no limit of the link.
const UNHINDERED: f64 = 0.9;
/// So little arrives when the link has become narrow, whatever else is going on.
const OVERWHELMED: f64 = 0.6;
/// The share of what arrives that is believed to be carried: the rate of half a second is measured a little roughly.
const PROVEN: f64 = 0.9;
/// How long over the round trip a packet may come out of order.
const REORDERING: Duration = Duration::from_millis(150);
/// The share of the estimate that is wanted over what is to be sent: room for the budget's own margin, the head-room of
/// an up-switch and repairs.
const MARGIN: f64 = 2.0;
/// A peer that says nothing for so long, over two round trips, is not reached.
const SILENCE: Duration = Duration::from_millis(500);
const SILENCE_PACKETS: u64 = 5;
const SILENCE_CUT: f64 = 0.5;
const RECOVERED: f64 = 0.85;
const FIRST_ROUND_TRIP: Duration = Duration::from_millis(100);
const FIRST_FEEDBACK: Duration = Duration::from_secs(2);
const MAX_ROUND_TRIP: Duration = Duration::from_secs(3);
/// A receiver report tells about so much time.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
const REPORT_CUT: f64 = 0.10;

/// One subscriber transport: what was sent, what the peer says of it, and what the link is therefore believed to carry.
#[derive(Debug)]
pub struct Congestion {
    history: History,
    groups: Groups,
    delay: QueueDelay,
    trendline: Trendline,
    control: RateControl,
    losses: Losses,
    prober: Prober,
    sent: Meter,
    offered: Meter,   // what the peer has reported on, by the time of its sending
    delivered: Meter, // what arrived, by the time of its arrival
    round_trip: Option<Duration>,
    is_round_trip_told: bool,
    has_reports: bool,
    began: Option<Instant>, // when the first packet with a number was sent
    reported_at: Instant,
    before_silence: Option<DataRate>,
    remb: Option<DataRate>,
    report_loss: f64,
    report_cut_at: Instant,
    wanted: DataRate,
}

impl Congestion {
    /// Begins with the belief that the link carries `start`.
    #[must_use]
    pub fn new(now: Instant, start: DataRate) -> Self {
        let start = start.clamp(MIN_RATE, MAX_RATE);
        Self {
            history: History::default(),
            groups: Groups::default(),
            delay: QueueDelay::new(),
            trendline: Trendline::default(),
            control: RateControl::new(start, now),
            losses: Losses::new(),
            prober: Prober::new(start, now),
            sent: Meter::new(RATE_WINDOW),
            offered: Meter::new(RATE_WINDOW),
            delivered: Meter::new(RATE_WINDOW),
            round_trip: None,
            is_round_trip_told: false,
            has_reports: false,
            began: None,
            reported_at: now,
            before_silence: None,
            remb: None,
            report_loss: 0.0,
            report_cut_at: now,
            wanted: DataRate::ZERO,
        }
    }

    /// Takes every packet that is sent with a transport-wide number: audio, video, retransmissions, padding. `number`
    /// grows by one, `bytes` is the size of the datagram, `probe` the id of the cluster under way.
    pub fn on_sent(&mut self, number: u64, bytes: usize, now: Instant, probe: Option<u32>) {
        self.began.get_or_insert(now);
        self.history.push(number, bytes, now, probe);
        self.sent.add(micros(now), bytes as u64);
        if let Some(id) = probe {
            self.prober.on_sent(id, number, bytes as u64);
        }
    }

    /// Takes what the peer reports. Numbers that were never sent are ignored.
    pub fn on_feedback(&mut self, feedback: &twcc::Feedback<'_>, now: Instant) {
        self.on_statuses(feedback.statuses().take(MAX_CAPACITY), now);
    }

    /// Takes statuses in the order of sending: number, and when it arrived, in microseconds on the peer's clock.
    fn on_statuses(&mut self, statuses: impl Iterator<Item = (u16, Option<i64>)>, now: Instant) {
        self.has_reports = true;
        self.reported_at = now;
        for (number, arrival) in statuses {
            self.on_status(number, arrival, now);
        }
        if let Some(before) = self.before_silence.take() {
            self.prober.queue(before.scaled(RECOVERED));
        }
        let settled = self.history.settle(now - (self.reaction() + REORDERING));
        self.losses.add(settled.packets, settled.lost, now);
        self.step(now);
    }

    fn on_status(&mut self, number: u16, arrival: Option<i64>, now: Instant) {
        let Some(reported) = self.history.report(number, arrival.is_some()) else { return };
        self.prober.on_reported(&reported, arrival);
        if reported.is_first {
            self.offered.add(micros(reported.sent), reported.bytes);
        }
        let Some(arrival) = arrival else { return };
        self.delivered.add(arrival, reported.bytes);
        if !self.is_round_trip_told {
            self.set_round_trip(now.since(reported.sent));
        }
        self.delay.add(reported.sent, arrival);
        if let Some(delta) = self.groups.add(reported.sent, arrival) {
            self.delay.add_delta(delta);
            self.trendline.add(delta);
        }
    }

    fn step(&mut self, now: Instant) {
        let seen = Observation {
            usage: self.usage(now),
            delivered: self.delivered.rate(),
            peak: self.delivered.recent_rate(),
            is_idle: self.is_idle(now),
            is_hindered: self.is_hindered(),
            is_lossy: self.losses.is_holding(),
        };
        self.control.update(seen, now);
        if let Some(factor) = self.losses.cut(self.reaction(), now) {
            self.control.cut(factor, now);
        }
        self.note_proof(seen);
        self.conclude_probe(now);
    }

    /// What arrives at its pace, without a queue and without loss, has been carried: that is proof, not a guess.
    fn note_proof(&mut self, seen: Observation) {
        let proven = seen.delivered.scaled(PROVEN);
        if proven > self.control.rate() && seen.usage == Usage::Normal && !seen.is_lossy && !self.is_hindered() {
            self.control.set(proven);
        }
    }

    /// A short burst finds its way through a queue that others keep full, and says nothing of our share: what it has
    /// measured then is not believed.
    fn conclude_probe(&mut self, now: Instant) {
        let measured = self.prober.conclude(self.sought(), now);
        if let Some(measured) = measured.filter(|measured| measured.is_sustained || !self.delay.is_queue()) {
            self.control.probed(measured, now);
        }
    }

    /// Takes the peer's own estimate (draft-alvestrand-rmcat-remb-03). It counts while no transport-wide feedback comes.
    pub fn on_remb(&mut self, rate: DataRate, now: Instant) {
        self.remb = Some(rate);
        if !self.has_reports && self.report_loss <= REPORT_CUT {
            self.control.set(rate);
            self.report_cut_at = now;
        }
    }

    /// Takes the lost fraction (0 to 1) of a receiver report. It counts while no transport-wide feedback comes.
    pub fn on_loss(&mut self, fraction: f64, now: Instant) {
        self.report_loss = fraction.clamp(0.0, 1.0);
        let is_due = now.since(self.report_cut_at) >= REPORT_INTERVAL.min(SILENCE);
        if !self.has_reports && self.report_loss > REPORT_CUT && is_due {
            self.control.cut(1.0 - self.report_loss / 2.0, now);
            self.report_cut_at = now;
        }
    }

    /// Takes a round-trip time of the peer's reports. Without any, the age of reported packets stands in.
    pub fn on_round_trip(&mut self, round_trip: Duration) {
        self.is_round_trip_told = true;
        self.set_round_trip(round_trip);
    }

    fn set_round_trip(&mut self, sample: Duration) {
        let sample = sample.min(MAX_ROUND_TRIP);
        let smoothed = self.round_trip.map_or(sample, |former| (former * 7 + sample) / 8); // RFC 6298 section 2.3
        self.round_trip = Some(smoothed);
        self.control.set_round_trip(smoothed);
    }

    /// Says what all wanted layers and the audio would need. More than the estimate is looked
    /// for only while there is use for it.
    pub const fn set_demand(&mut self, wanted: DataRate) {
        self.wanted = wanted;
    }

    /// Lets time pass; call it every 20 to 50 ms.
    pub fn tick(&mut self, now: Instant) {
        self.sent.move_to(micros(now));
        self.losses.move_to(now);
        self.conclude_probe(now);
        self.note_silence(now);
    }

    /// A peer that does not report what it is sent is not reached, or not in time: there is less and less to be sent.
    fn note_silence(&mut self, now: Instant) {
        let Some((packets, first)) = self.history.unreported() else { return };
        let patience = SILENCE + self.reaction() * 2;
        let is_silent = packets >= SILENCE_PACKETS && now.since(first) > patience;
        if self.has_reports && is_silent && now.since(self.reported_at) > patience {
            self.before_silence = self.before_silence.or(Some(self.control.rate()));
            self.control.cut(SILENCE_CUT, now);
            self.reported_at = now - self.reaction() * 2;
        }
    }

    /// What the link is believed to carry, 10 kb/s to 100 Mb/s. Without feedback (see [`Self::has_feedback`]) it is a
    /// guess that must not limit anything.
    #[must_use]
    pub fn estimate(&self) -> DataRate {
        let cap = self.remb.filter(|_| !self.has_reports).unwrap_or(MAX_RATE);
        self.control.rate().min(cap).max(MIN_RATE)
    }

    /// Whether the peer has sent transport-wide feedback or an estimate of its own.
    #[must_use]
    pub const fn has_feedback(&self) -> bool {
        self.has_reports || self.remb.is_some()
    }

    /// Whether a peer that has agreed to transport-wide feedback may still send its first: for two seconds from the first
    /// packet with a number. Who limits itself to the first estimate meanwhile does not begin with a full queue.
    #[must_use]
    pub fn awaits_feedback(&self, now: Instant) -> bool {
        !self.has_feedback() && self.began.is_none_or(|began| now.since(began) < FIRST_FEEDBACK)
    }

    /// The lost fraction (0 to 1) of what the peer reported in the last second.
    #[must_use]
    pub fn loss(&self) -> f64 {
        if self.has_reports { self.losses.fraction() } else { self.report_loss }
    }

    /// The smoothed round-trip time.
    #[must_use]
    pub const fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// A cluster that is to be sent now; [`Burst`] times its packets. Call it after `tick`, only where padding can be
    /// sent.
    pub fn poll_probe(&mut self, now: Instant) -> Option<Probe> {
        let is_calm = self.usage(now) == Usage::Normal && !self.losses.is_holding();
        let is_idle = is_calm && (self.is_idle(now) || self.control.is_at_limit());
        self.prober.set_jitter(self.delay.jitter());
        self.prober.poll(self.control.rate(), self.sought(), is_idle, now)
    }

    /// Whether the cluster is still worth sending: one whose outcome is known is not.
    #[must_use]
    pub fn is_probing(&self, id: u32) -> bool {
        self.prober.is_active(id)
    }

    /// Asks for a probe at `rate` that lasts two seconds (after a short look at the same rate). Its outcome comes by
    /// [`Self::take_probe_result`].
    pub fn request_probe(&mut self, rate: DataRate, _now: Instant) {
        self.prober.request(rate.min(MAX_RATE));
    }

    /// The outcome of the requested probe, once.
    pub fn take_probe_result(&mut self) -> Option<ProbeResult> {
        self.prober.take_result()
    }

    /// A trend is believed where packets wait, and not for a probe of ours, unless much less arrives than is sent.
    fn usage(&self, now: Instant) -> Usage {
        let is_excused = || self.prober.is_disturbing(now) && !self.arrives_less_than(OVERWHELMED);
        match self.trendline.usage() {
            Usage::Over if !self.delay.is_queue() || is_excused() => Usage::Normal,
            usage => usage,
        }
    }

    /// The rate above which nothing is to be found; nothing where the estimate is enough for what is wanted.
    fn sought(&self) -> Option<DataRate> {
        let enough = self.wanted.scaled(MARGIN).min(MAX_RATE);
        // Also while everything is sent: what is not known to fit would be paused.
        (self.control.rate() < enough).then_some(enough)
    }

    fn is_idle(&mut self, now: Instant) -> bool {
        self.sent.move_to(micros(now));
        self.sent.rate() < self.control.rate().scaled(LIMITED)
    }

    /// Less arrives, or it arrives more slowly, than it was sent.
    fn is_hindered(&self) -> bool {
        self.arrives_less_than(UNHINDERED)
    }

    fn arrives_less_than(&self, share: f64) -> bool {
        self.delivered.rate() < self.offered.rate().scaled(share)
    }

    fn reaction(&self) -> Duration {
        self.round_trip.unwrap_or(FIRST_ROUND_TRIP)
    }
}

fn micros(now: Instant) -> i64 {
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}
