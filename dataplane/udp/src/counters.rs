//! What the socket layer drops, by reason.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why the socket layer dropped something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The kernel had no room for a datagram that came: the worker does not keep up.
    ReceiveBufferFull,
    /// The kernel took nothing for a millisecond.
    SendBufferFull,
    /// The kernel refused a datagram, or its destination is not of the socket's address family.
    SendFailed,
    /// A TCP peer reads too slowly: its oldest datagrams.
    TcpQueueFull,
    /// A TCP connection beyond the limits.
    TcpRefused,
    /// A TCP connection that broke the framing (RFC 4571) or began with anything but a STUN check.
    TcpBadFraming,
    /// A TCP connection that was silent for too long.
    TcpSilent,
    /// The other worker of a pipe does not keep up.
    PipeFull,
    /// Nobody fetches the events: the oldest.
    EventQueueFull,
    /// A worker takes no commands any more: those that found no room.
    CommandQueueFull,
}

/// How many reasons there are.
pub const REASONS: usize = 10;

/// Names of [`Reason`], in its order.
pub const REASON_NAMES: [&str; REASONS] = [
    "receive-buffer-full",
    "send-buffer-full",
    "send-failed",
    "tcp-queue-full",
    "tcp-refused",
    "tcp-bad-framing",
    "tcp-silent",
    "pipe-full",
    "event-queue-full",
    "command-queue-full",
];

/// Counts by reason; one thread adds, others read.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; REASONS]);

impl Counters {
    /// Counts `count` more.
    pub fn add(&self, reason: Reason, count: usize) {
        if let Some(counter) = self.0.get(reason as usize) {
            counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// The count of one reason.
    #[must_use]
    pub fn get(&self, reason: Reason) -> u64 {
        self.0.get(reason as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// All counts, in the order of [`REASON_NAMES`].
    #[must_use]
    pub fn all(&self) -> [u64; REASONS] {
        std::array::from_fn(|index| self.0.get(index).map_or(0, |counter| counter.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_the_place_of_its_name() {
        let counters = Counters::default();
        counters.add(Reason::EventQueueFull, 3);
        counters.add(Reason::SendFailed, 1);
        assert_eq!(counters.all(), [0, 0, 1, 0, 0, 0, 0, 0, 3, 0]);
        assert_eq!(REASON_NAMES[Reason::EventQueueFull as usize], "event-queue-full");
    }
}
