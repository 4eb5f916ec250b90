//! What one drain of datagrams yields: an arena of outgoing datagrams, chained by destination.
//!
//! Datagrams to one destination follow each other in order whatever came between them, so that the socket layer can send
//! them as runs of equal segments in one call (UDP GSO). Nothing is allocated once the arena has its size.

use core::net::SocketAddr;

use crate::engine::pipe::{PipeNotice, PipedPacket};

/// Bytes of the arena; a fuller batch is flushed. Small enough to stay in a core's cache.
pub const ARENA: usize = 96 * 1_024;
/// Segments of one message; longer bursts would only move loss from our queue to a router's.
pub const MAX_SEGMENTS: usize = 8;
/// Room that one datagram may take.
pub const MAX_SEALED: usize = 1_536;
const END: u32 = u32::MAX;

/// Where a datagram comes from or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// A UDP address.
    Udp(SocketAddr),
    /// A TCP connection of the socket layer's numbering (RFC 6544).
    Tcp(u32),
}

/// What the engine needs of the socket layer while it works.
pub trait Outlet {
    /// Sends and clears a batch that is full.
    fn flush(&mut self, batch: &mut Batch);

    /// The address of a TCP connection's peer.
    fn peer_of(&self, _connection: u32) -> Option<SocketAddr> {
        None
    }

    /// Hands a packet of a track to another worker of this process. Never blocks; what does not fit is dropped there.
    fn piped(&mut self, _pipe: u32, _packet: &PipedPacket<'_>) {}

    /// Hands a notice to the other end of a pipe.
    fn notify(&mut self, _pipe: u32, _notice: PipeNotice) {}
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: u32,
    len: u16,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    to: Path,
    first: u32,
    last: u32,
}

/// A transport's place in the current batch; remembers which batch that was.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunSlot {
    generation: u64,
    run: u32,
}

/// An arena of datagrams with a chain for each destination.
#[derive(Debug)]
pub struct Batch {
    arena: Vec<u8>,
    used: usize,
    entries: Vec<Entry>,
    runs: Vec<Run>,
    generation: u64,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// An empty batch with its arena.
    #[must_use]
    pub fn new() -> Self {
        Self {
            arena: vec![0; ARENA],
            used: 0,
            entries: Vec::with_capacity(ARENA / 64),
            runs: Vec::with_capacity(ARENA / 64),
            generation: 1,
        }
    }

    /// True where nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Datagrams that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether another datagram fits.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.used + MAX_SEALED <= self.arena.len() && self.entries.len() < self.entries.capacity()
    }

    /// Room for one datagram, to be filled and then committed. Call only where [`Batch::has_room`].
    pub fn space(&mut self) -> &mut [u8] {
        let end = (self.used + MAX_SEALED).min(self.arena.len());
        self.arena.get_mut(self.used..end).unwrap_or_default()
    }

    /// Takes the first `len` bytes of the space as the next datagram to `to`; `slot` is the destination's own.
    pub fn commit(&mut self, len: usize, to: Path, slot: &mut RunSlot) {
        let (Ok(at), Ok(size), Ok(index)) =
            (u32::try_from(self.used), u16::try_from(len), u32::try_from(self.entries.len()))
        else {
            return;
        };
        self.entries.push(Entry { at, len: size, next: END });
        self.used += len;
        let known = slot.generation == self.generation;
        if let Some(run) = self.runs.get_mut(slot.run as usize).filter(|run| known && run.to == to) {
            if let Some(last) = self.entries.get_mut(run.last as usize) {
                last.next = index;
            }
            run.last = index;
        } else {
            slot.generation = self.generation;
            slot.run = u32::try_from(self.runs.len()).unwrap_or(END);
            self.runs.push(Run { to, first: index, last: index });
        }
    }

    /// A single datagram that need not join a run.
    pub fn push(&mut self, to: Path, datagram: &[u8]) {
        if let Some(target) = self.space().get_mut(..datagram.len()) {
            target.copy_from_slice(datagram);
            self.commit(datagram.len(), to, &mut RunSlot::default());
        }
    }

    /// Forgets what was sent.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.runs.clear();
        self.used = 0;
        self.generation += 1;
    }

    /// The messages to send, in order for each destination.
    #[must_use]
    pub fn messages(&self) -> Messages<'_> {
        Messages { batch: self, run: 0, entry: self.runs.first().map_or(END, |run| run.first) }
    }

    fn entry(&self, index: u32) -> Option<Entry> {
        self.entries.get(index as usize).copied()
    }

    fn bytes(&self, entry: Entry) -> &[u8] {
        let at = entry.at as usize;
        self.arena.get(at..at + usize::from(entry.len)).unwrap_or_default()
    }
}

/// Iterator over the messages of a batch.
#[derive(Debug)]
pub struct Messages<'a> {
    batch: &'a Batch,
    run: usize,
    entry: u32,
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.entry == END {
            self.run += 1;
            self.entry = self.batch.runs.get(self.run)?.first;
        }
        let to = self.batch.runs.get(self.run)?.to;
        let first = self.entry;
        let head = self.batch.entry(first)?;
        let (mut count, mut next) = (1, head.next);
        while count < MAX_SEGMENTS
            && let Some(entry) = self.batch.entry(next)
            && entry.len <= head.len
        {
            count += 1;
            next = entry.next;
            if entry.len < head.len {
                break; // a shorter segment ends the message
            }
        }
        self.entry = next;
        let segments = Segments { batch: self.batch, entry: first, left: count };
        Some(Message { to, segments, segment_size: usize::from(head.len), count })
    }
}

/// Datagrams to one destination: equal in size, only the last may be shorter.
#[derive(Debug)]
pub struct Message<'a> {
    /// The destination.
    pub to: Path,
    /// The datagrams.
    pub segments: Segments<'a>,
    /// Bytes of all but the last.
    pub segment_size: usize,
    /// How many there are.
    pub count: usize,
}

/// Iterator over the datagrams of a message.
#[derive(Debug)]
pub struct Segments<'a> {
    batch: &'a Batch,
    entry: u32,
    left: usize,
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.batch.entry(self.entry).filter(|_| self.left > 0)?;
        self.left -= 1;
        self.entry = entry.next;
        Some(self.batch.bytes(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(port: u16) -> Path {
        Path::Udp(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    fn put(batch: &mut Batch, len: usize, port: u16, slot: &mut RunSlot) {
        batch.space()[..len].fill(u8::try_from(port).unwrap_or(0));
        batch.commit(len, to(port), slot);
    }

    #[test]
    fn datagrams_of_a_destination_become_runs_that_a_shorter_one_ends() {
        let mut batch = Batch::new();
        let (mut a, mut b) = (RunSlot::default(), RunSlot::default());
        for len in [100, 100, 40, 100, 101] {
            put(&mut batch, len, 1, &mut a);
            put(&mut batch, 30, 2, &mut b);
        }
        let shape: Vec<_> = batch.messages().map(|m| (m.to, m.segments.map(<[u8]>::len).collect::<Vec<_>>())).collect();
        assert_eq!(
            shape,
            [(to(1), vec![100, 100, 40]), (to(1), vec![100]), (to(1), vec![101]), (to(2), vec![30, 30, 30, 30, 30]),]
        );
    }

    #[test]
    fn a_run_is_bounded_and_a_slot_of_a_former_batch_is_not_used() {
        let mut batch = Batch::new();
        let mut slot = RunSlot::default();
        for _ in 0..MAX_SEGMENTS + 2 {
            put(&mut batch, 10, 1, &mut slot);
        }
        assert_eq!(batch.messages().map(|m| m.count).collect::<Vec<_>>(), [MAX_SEGMENTS, 2]);
        batch.clear();
        assert!(batch.is_empty() && batch.messages().next().is_none());
        put(&mut batch, 10, 1, &mut slot);
        assert_eq!(batch.messages().count(), 1);
    }

    #[test]
    fn a_full_arena_says_so() {
        let mut batch = Batch::new();
        let mut slot = RunSlot::default();
        while batch.has_room() {
            put(&mut batch, 1_200, 1, &mut slot);
        }
        assert!(batch.len() >= ARENA / MAX_SEALED);
    }
}
