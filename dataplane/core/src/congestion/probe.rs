//! Probes: short clusters of packets at a rate above the estimate, whose arrival tells what the link carries.

use super::history::Reported;
use crate::time::Instant;
use crate::units::DataRate;
use core::time::Duration;

/// How long a discovery lasts, over the jitter that blurs it. Its burst fills a queue for about as long.
const DISCOVERY: Duration = Duration::from_millis(15);
const OVER_JITTER: u32 = 3;
const MAX_DISCOVERY: Duration = Duration::from_millis(150);
/// Fewer packets measure nothing: even a slow discovery has room for five of padding.
const MIN_PACKETS: u64 = 4;
const MIN_BYTES: u64 = 1_500;
/// How long a rate must hold before a paused video comes back.
const HOLD: Duration = Duration::from_secs(2);
/// A cluster that stays without a result for so long after its time has failed.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Delay that a hold may add before it is broken off. Microseconds.
const MAX_ADDED_DELAY: i64 = 150_000;
const MIN_ARRIVED: f64 = 0.8;
/// Arrivals so much faster than the sendings were held back and let go together.
const MAX_COMPRESSION: f64 = 2.0;
/// Arrivals so much slower than the sendings have met the link's limit.
const UNSATURATED: f64 = 0.9;
const SATURATED_SHARE: f64 = 0.95;
/// A discovery that found so much of its rate is followed by a larger one.
const SUCCESS: f64 = 0.7;
/// How long the queue of a cluster may still be seen when its last packet is reported.
const DISTURBANCE: Duration = Duration::from_millis(200);
const MAX_DISTURBANCE: Duration = Duration::from_millis(500);
const INTERVAL: Duration = Duration::from_secs(5);
/// After a discovery that measured nothing, a few times.
const RETRY: Duration = Duration::from_secs(1);
const MAX_RETRIES: u8 = 3;
/// The first two discoveries, in start rates.
const FIRST: f64 = 3.0;
const SECOND: f64 = 6.0;
const FURTHER: f64 = 2.0;

/// A cluster to send: everything that is sent during it counts, padding fills up to `rate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Goes with each packet to [`Congestion::on_sent`](super::Congestion::on_sent); never 0.
    pub id: u32,
    /// The rate to send at.
    pub rate: DataRate,
    /// How much to send: with `rate`, the cluster's length. Send at least five packets.
    pub bytes: u64,
}

/// The outcome of a probe that was asked for by [`Congestion::request_probe`](super::Congestion::request_probe).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeResult {
    /// The id of its last cluster.
    pub id: u32,
    /// What the link carried, zero where the probe failed.
    pub rate: DataRate,
}

/// Tells the sender of a cluster when its next packet is due.
#[derive(Clone, Copy, Debug)]
pub struct Burst {
    /// The cluster.
    pub probe: Probe,
    began: Instant,
    sent: u64,
}

impl Burst {
    /// Begins a cluster.
    #[must_use]
    pub const fn new(probe: Probe, now: Instant) -> Self {
        Self { probe, began: now, sent: 0 }
    }

    /// Counts bytes that were sent during the cluster, media as well as padding.
    pub const fn on_sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes as u64);
    }

    /// When padding is due next; nothing when the cluster is complete.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        let micros = u128::from(self.sent) * 8_000_000 / u128::from(self.probe.rate.bps().max(1));
        let due = self.began + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        (self.sent < self.probe.bytes).then_some(due)
    }
}

/// What a cluster has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measured {
    /// The rate to believe in; zero where too little arrived to tell.
    pub rate: DataRate,
    /// It is what the link carries at most.
    pub is_limit: bool,
    /// It was carried for long.
    pub is_sustained: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Discovery,
    /// A short look whether a hold would fit, so that one that does not spares the audio seconds of a full queue.
    Look,
    Hold,
}

/// What is known of the cluster that is under way.
#[derive(Clone, Copy, Debug)]
struct Cluster {
    probe: Probe,
    purpose: Purpose,
    ends: Instant,
    sent: (u64, u64),    // packets, bytes
    last_number: u64,    // of what was sent
    reported: u64,       // the highest number
    arrived: (u64, u64), // packets, bytes
    sending: (i64, i64), // first and last of what arrived, microseconds
    arrival: (i64, i64), // first and last, microseconds
    edges: (u64, u64),   // bytes of the packet sent last and of the one that arrived first
    least_delay: i64,    // arrival minus sending
    is_delayed: bool,
}

impl Cluster {
    const fn new(probe: Probe, purpose: Purpose, ends: Instant) -> Self {
        Self {
            probe,
            purpose,
            ends,
            sent: (0, 0),
            last_number: 0,
            reported: 0,
            arrived: (0, 0),
            sending: (i64::MAX, i64::MIN),
            arrival: (i64::MAX, i64::MIN),
            edges: (0, 0),
            least_delay: i64::MAX,
            is_delayed: false,
        }
    }

    fn on_reported(&mut self, reported: &Reported, arrival: Option<i64>) {
        self.reported = self.reported.max(reported.number);
        let Some(arrival) = arrival else { return };
        let sent = i64::try_from(reported.sent.as_micros()).unwrap_or(i64::MAX);
        self.arrived = (self.arrived.0 + 1, self.arrived.1 + reported.bytes);
        if sent >= self.sending.1 {
            self.edges.0 = reported.bytes;
        }
        if arrival < self.arrival.0 {
            self.edges.1 = reported.bytes;
        }
        self.sending = (self.sending.0.min(sent), self.sending.1.max(sent));
        self.arrival = (self.arrival.0.min(arrival), self.arrival.1.max(arrival));
        let delay = arrival.saturating_sub(sent);
        self.least_delay = self.least_delay.min(delay);
        self.is_delayed |= delay.saturating_sub(self.least_delay) > MAX_ADDED_DELAY;
    }

    fn is_sent(&self) -> bool {
        self.sent.1 >= self.probe.bytes
    }

    /// All that can be known is known, or it is known that the link is full.
    fn is_over(&self, now: Instant) -> bool {
        let is_reported = self.is_sent() && self.reported >= self.last_number;
        is_reported || now > self.ends + PATIENCE || (self.purpose == Purpose::Hold && self.is_delayed)
    }

    fn measured(&self) -> Measured {
        let is_enough = self.arrived.0 >= MIN_PACKETS
            && self.arrived.0 as f64 >= MIN_ARRIVED * self.sent.0 as f64
            && self.arrived.1 as f64 >= MIN_ARRIVED * self.probe.bytes as f64;
        if !is_enough || (self.purpose == Purpose::Hold && self.is_delayed) {
            return Measured::default();
        }
        let is_sustained = self.purpose == Purpose::Hold;
        let sent = rate(self.arrived.1 - self.edges.0, self.sending);
        let arrived = rate(self.arrived.1 - self.edges.1, self.arrival);
        if sent == DataRate::ZERO || arrived > sent.scaled(MAX_COMPRESSION) {
            return Measured::default();
        }
        if arrived < sent.scaled(UNSATURATED) {
            return Measured { rate: arrived.scaled(SATURATED_SHARE), is_limit: true, is_sustained };
        }
        Measured { rate: sent.min(arrived), is_limit: false, is_sustained }
    }
}

fn rate(bytes: u64, span: (i64, i64)) -> DataRate {
    let micros = span.1.saturating_sub(span.0);
    DataRate::from_bytes(bytes, Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
}

/// Decides when to probe and at which rate. One cluster at a time.
#[derive(Clone, Debug)]
pub(super) struct Prober {
    start: DataRate,
    next_id: u32,
    active: Option<Cluster>,
    queued: Option<DataRate>,
    requested: Option<(DataRate, Purpose)>,
    result: Option<ProbeResult>,
    has_begun: bool,
    failures: u8, // in a row
    jitter: Duration,
    last_at: Instant,
    ended_at: Option<Instant>,
}

impl Prober {
    pub const fn new(start: DataRate, now: Instant) -> Self {
        Self {
            start,
            next_id: 0,
            active: None,
            queued: None,
            requested: None,
            result: None,
            has_begun: false,
            failures: 0,
            jitter: Duration::ZERO,
            last_at: now,
            ended_at: None,
        }
    }

    /// Asks for a probe that lasts two seconds. A former request without a result is replaced.
    pub fn request(&mut self, rate: DataRate) {
        self.requested = Some((rate, Purpose::Look));
        self.result = None;
    }

    /// Looks again, at a rate that is believed to be back.
    pub fn queue(&mut self, rate: DataRate) {
        self.queued = Some(rate);
    }

    /// Whether a cluster fills the queue: until it is measured and a little longer, but not for as long as its reports may
    /// take to come: what lasts is no probe.
    pub fn is_disturbing(&self, now: Instant) -> bool {
        let is_under_way = self.active.as_ref().is_some_and(|cluster| now < cluster.ends + MAX_DISTURBANCE);
        is_under_way || self.ended_at.is_some_and(|at| now.since(at) < DISTURBANCE)
    }

    pub const fn set_jitter(&mut self, jitter: Duration) {
        self.jitter = jitter;
    }

    pub fn take_result(&mut self) -> Option<ProbeResult> {
        self.result.take()
    }

    /// Whether the cluster is still worth sending.
    pub fn is_active(&self, id: u32) -> bool {
        self.active.as_ref().is_some_and(|cluster| cluster.probe.id == id)
    }

    pub fn on_sent(&mut self, id: u32, number: u64, bytes: u64) {
        if let Some(cluster) = self.active.as_mut().filter(|cluster| cluster.probe.id == id) {
            cluster.sent = (cluster.sent.0 + 1, cluster.sent.1 + bytes);
            cluster.last_number = number;
        }
    }

    pub fn on_reported(&mut self, reported: &Reported, arrival: Option<i64>) {
        let active = self.active.as_mut();
        if let Some(cluster) = active.filter(|cluster| reported.probe == Some(cluster.probe.id)) {
            cluster.on_reported(reported, arrival);
        }
    }

    /// The next cluster to send. `wanted` is the rate above which nothing is to be found, nothing where the estimate is
    /// enough; `is_idle` says that the estimate does not grow by itself.
    pub fn poll(&mut self, estimate: DataRate, wanted: Option<DataRate>, is_idle: bool, now: Instant) -> Option<Probe> {
        if self.active.is_some() {
            return None;
        }
        if let Some((rate, purpose)) = self.requested.take() {
            return Some(self.begin(rate, purpose, now));
        }
        let Some(wanted) = wanted else {
            self.queued = None;
            return None;
        };
        let is_first = !self.has_begun;
        let interval = if (1..=MAX_RETRIES).contains(&self.failures) { RETRY } else { INTERVAL };
        let is_due = is_idle && now.since(self.last_at) >= interval;
        let rate = match self.queued.take() {
            Some(queued) => queued,
            None if is_first => self.start.scaled(FIRST),
            None if is_due => estimate.scaled(FURTHER),
            None => return None,
        };
        self.has_begun = true;
        let rate = rate.min(wanted);
        (rate > estimate).then(|| self.begin(rate, Purpose::Discovery, now))
    }

    fn begin(&mut self, rate: DataRate, purpose: Purpose, now: Instant) -> Probe {
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        let discovery = DISCOVERY.saturating_add(self.jitter.saturating_mul(OVER_JITTER)).min(MAX_DISCOVERY);
        let length = if purpose == Purpose::Hold { HOLD } else { discovery };
        let probe = Probe { id: self.next_id, rate, bytes: rate.bytes_in(length).max(MIN_BYTES) };
        let micros = u128::from(probe.bytes) * 8_000_000 / u128::from(rate.bps().max(1));
        let ends = now + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        self.active = Some(Cluster::new(probe, purpose, ends));
        self.last_at = now;
        probe
    }

    /// What a cluster that is over has measured. `wanted` as in [`Self::poll`].
    pub fn conclude(&mut self, wanted: Option<DataRate>, now: Instant) -> Option<Measured> {
        let cluster = self.active.filter(|cluster| cluster.is_over(now))?;
        self.active = None;
        self.ended_at = Some(now);
        let found = cluster.measured();
        let measured = found.rate;
        let is_success = measured > cluster.probe.rate.scaled(SUCCESS);
        self.failures = if measured == DataRate::ZERO { self.failures.saturating_add(1) } else { 0 };
        match cluster.purpose {
            Purpose::Discovery if is_success && wanted.is_some_and(|wanted| cluster.probe.rate < wanted) => {
                let is_first = cluster.probe.rate == self.start.scaled(FIRST);
                self.queued = Some(if is_first { self.start.scaled(SECOND) } else { measured.scaled(FURTHER) });
            }
            Purpose::Discovery => {}
            Purpose::Look if is_success => {
                self.requested = Some((cluster.probe.rate, Purpose::Hold));
            }
            Purpose::Look | Purpose::Hold => {
                self.result = Some(ProbeResult { id: cluster.probe.id, rate: measured });
            }
        }
        (measured > DataRate::ZERO).then_some(found)
    }
}
