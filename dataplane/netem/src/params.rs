//! What a link does to packets.

use crate::loss::Loss;
use core::time::Duration;
use parley_core::units::DataRate;

/// How much waits for the wire at most; what comes on top is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Queue {
    /// Everything.
    #[default]
    Unlimited,
    /// So many bytes.
    Bytes(u64),
    /// What the rate carries in this time.
    Time(Duration),
}

/// The state of a link.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params {
    /// What the wire carries; nothing for no limit. Zero holds everything in the queue.
    pub rate: Option<DataRate>,
    /// What waits for the wire.
    pub queue: Queue,
    /// How long each packet is on its way after the wire.
    pub delay: Duration,
    /// Each packet takes up to so much longer, evenly spread.
    pub jitter: Duration,
    /// Whether jitter may turn the order of packets around. Else a late packet holds up those behind it.
    pub jitter_reorders: bool,
    /// The probability that a packet is passed by those behind it.
    pub reorder: f64,
    /// How much longer such a packet takes.
    pub reorder_delay: Duration,
    /// What is lost, after the queue.
    pub loss: Loss,
    /// Everything that is sent is lost, and so is what waits in the queue.
    pub is_down: bool,
}

impl Params {
    /// A link of a rate with a one-way delay and a queue of so many milliseconds.
    #[must_use]
    pub fn rated(rate: DataRate, delay: Duration, queue: Duration) -> Self {
        Self { rate: Some(rate), queue: Queue::Time(queue), delay, ..Self::default() }
    }
}
