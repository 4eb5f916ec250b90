//! What was seen at a subscriber, and the goals it is held to.

use super::View;
use core::fmt;
use core::time::Duration;
use parley_core::time::Instant;
use parley_core::units::DataRate;

const TOP: u8 = 2;
const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub at: Instant,
    pub view: View,
    /// Bytes since the start.
    pub sent: u64,
    pub capacity: DataRate,
    pub queue: Option<Duration>,
}

#[derive(Debug)]
pub struct Trace {
    start: Instant,
    pub sent_bytes: u64,
    samples: Vec<Sample>,
}

/// The figures of a part of a trace in which the link was constant.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// From the beginning until the first second in which no more was sent than the link carries.
    pub reaction_s: Option<f64>,
    /// From the beginning until the estimate reached 80 % of the link, or nothing more was wanted: the top layer flowed.
    pub risen_s: Option<f64>,
    /// From the beginning until video flowed.
    pub video_s: Option<f64>,
    /// What was sent over the link's rate, in windows of a second, as a share of what it carries; from 5 s on.
    pub oversent: f64,
    /// The same from the beginning.
    pub oversent_in_all: f64,
    /// The most switches between spatial layers in any 30 s; from 15 s on.
    pub switches: usize,
    /// The mean estimate, as a share of the link; from 15 s on.
    pub estimate: f64,
    /// The part of the time in which video flowed; from 15 s on.
    pub video: f64,
    /// The longest time without an audio packet, at 50 packets a second.
    pub audio_gap_s: f64,
    /// The longest queue in seconds.
    pub queue_s: f64,
    /// The 95th percentile of the queue, in seconds.
    pub queue_p95_s: f64,
    pub layer: Option<u8>,
}

impl Trace {
    pub fn new(start: Instant) -> Self {
        Self { start, sent_bytes: 0, samples: Vec::new() }
    }

    pub fn push(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// The figures of the seconds `from` to `to`.
    pub fn figures(&self, from: u64, to: u64) -> Figures {
        let part = self.part(Duration::from_secs(from), Duration::from_secs(to));
        let settled = self.part(Duration::from_secs(from + 15), Duration::from_secs(to));
        let windows: Vec<(Duration, f64, f64)> = part.iter().filter_map(|first| self.window(first, part)).collect();
        let since = |sample: &Sample| sample.at.since(part[0].at).as_secs_f64();
        let mut queues: Vec<f64> =
            part.iter().filter_map(|sample| sample.queue).map(|queue| queue.as_secs_f64()).collect();
        queues.sort_by(f64::total_cmp);
        Figures {
            reaction_s: windows.iter().find(|window| window.1 <= window.2).map(|window| window.0.as_secs_f64()),
            risen_s: part.iter().find(|sample| share(sample) >= 0.8 || sample.view.layer == Some(TOP)).map(since),
            video_s: part.iter().find(|sample| sample.view.layer.is_some()).map(since),
            oversent: oversent(&windows, Duration::from_secs(5)),
            oversent_in_all: oversent(&windows, Duration::ZERO),
            switches: switches(settled),
            estimate: mean(settled, share),
            video: mean(settled, |sample| f64::from(u8::from(sample.view.layer.is_some()))),
            audio_gap_s: audio_gap(part),
            queue_s: queues.last().copied().unwrap_or_default(),
            queue_p95_s: queues.get(queues.len() * 95 / 100).copied().unwrap_or_default(),
            layer: part.last().and_then(|sample| sample.view.layer),
        }
    }

    fn part(&self, from: Duration, to: Duration) -> &[Sample] {
        let index = |at: Duration| self.samples.partition_point(|sample| sample.at < self.start + at);
        &self.samples[index(from).min(index(to))..index(to)]
    }

    /// The second that begins with a sample: since when, bits sent, bits that the link carries.
    fn window(&self, first: &Sample, part: &[Sample]) -> Option<(Duration, f64, f64)> {
        let from = part.partition_point(|sample| sample.at < first.at);
        let until = part.partition_point(|sample| sample.at < first.at + SECOND);
        let last = part.get(until)?;
        let span = last.at.since(first.at).as_secs_f64();
        let capacity = mean(&part[from..until], |sample| sample.capacity.bps() as f64);
        let since = first.at.since(part[0].at);
        Some((since, (last.sent - first.sent) as f64 * 8.0 / span, capacity))
    }

    /// One line a second: for a look at what happens.
    pub fn print(&self) {
        for pair in self.samples.chunks(20).collect::<Vec<_>>().windows(2) {
            let (sample, next) = (&pair[0][0], &pair[1][0]);
            eprintln!(
                "{:>5.1} s  link {:>6}  estimate {:>6}  sent {:>6} kb/s  queue {:>4} ms  layer {:?}{}",
                sample.at.since(self.start).as_secs_f64(),
                sample.capacity.bps() / 1_000,
                sample.view.estimate.bps() / 1_000,
                (next.sent - sample.sent) * 8 / 1_000,
                sample.queue.map_or(-1, |queue| queue.as_millis() as i64),
                sample.view.layer,
                if sample.view.is_paused { "  paused" } else { "" },
            );
        }
    }
}

/// Of windows that begin so much after the change or later.
fn oversent(windows: &[(Duration, f64, f64)], from: Duration) -> f64 {
    let late = windows.iter().filter(|window| window.0 >= from);
    let (over, capacity) =
        late.fold((0.0, 0.0), |sum, (_, sent, capacity)| (sum.0 + (sent - capacity).max(0.0), sum.1 + capacity));
    over / f64::max(capacity, 1.0)
}

fn share(sample: &Sample) -> f64 {
    sample.view.estimate.bps() as f64 / sample.capacity.bps().max(1) as f64
}

fn mean(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    samples.iter().map(value).sum::<f64>() / samples.len().max(1) as f64
}

fn switches(samples: &[Sample]) -> usize {
    let layers = samples.iter().filter_map(|sample| sample.view.layer.map(|layer| (sample.at, layer)));
    let mut at = Vec::new();
    let mut former = None;
    for (moment, layer) in layers {
        if former.is_some_and(|former| former != layer) {
            at.push(moment);
        }
        former = Some(layer);
    }
    let within = |first: &Instant| at.iter().filter(|moment| (*first..*first + SECOND * 30).contains(moment)).count();
    at.iter().map(within).max().unwrap_or(0)
}

fn audio_gap(samples: &[Sample]) -> f64 {
    let mut longest = 0.0f64;
    let mut since: Option<(Instant, u64)> = None;
    for sample in samples {
        match since {
            Some((at, count)) if count == sample.view.audio_received => {
                longest = longest.max(sample.at.since(at).as_secs_f64());
            }
            _ => since = Some((sample.at, sample.view.audio_received)),
        }
    }
    longest
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |value: Option<f64>| value.map_or("never".into(), |value| format!("{value:.1} s"));
        write!(
            f,
            "under the link after {}, 80 % after {}, video after {}, oversent {:.1} % ({:.1} % in all), switches {}, estimate {:.0} %, \
             video {:.0} %, audio gap {:.2} s, queue {:.2} s (p95 {:.2}), layer {:?}",
            seconds(self.reaction_s),
            seconds(self.risen_s),
            seconds(self.video_s),
            self.oversent * 100.0,
            self.oversent_in_all * 100.0,
            self.switches,
            self.estimate * 100.0,
            self.video * 100.0,
            self.audio_gap_s,
            self.queue_s,
            self.queue_p95_s,
            self.layer
        )
    }
}
