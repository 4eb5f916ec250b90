//! Datagrams in a TCP stream: each with its length in two bytes before it (RFC 4571 2), as ICE/TCP carries them
//! (RFC 6544 3).

use std::collections::VecDeque;

/// The longest datagram that a peer may send, in bytes.
pub const MAX_FRAME: usize = 1_500;
/// Bytes of the length.
const PREFIX: usize = 2;
/// Bytes that a connection's read buffer has: a whole frame and what one read may bring beyond it.
const READ_BUFFER: usize = 2_048 + PREFIX + MAX_FRAME;
/// Bytes that wait to be written on one connection at most, about 0.2 s of a 2.5 Mb/s video.
pub const MAX_QUEUED: usize = 64 * 1_024;

/// A frame is longer than [`MAX_FRAME`]: the stream cannot be trusted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadFraming;

/// Finds the frames in what was read.
#[derive(Debug)]
pub struct FrameReader {
    buffer: Box<[u8; READ_BUFFER]>,
    start: usize,
    end: usize,
}

impl Default for FrameReader {
    fn default() -> Self {
        Self { buffer: Box::new([0; READ_BUFFER]), start: 0, end: 0 }
    }
}

impl FrameReader {
    /// Where the next read goes; never empty once [`next_frame`](Self::next_frame) has told that no whole frame is left.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// `count` bytes were read into the space.
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(READ_BUFFER);
    }

    /// The next whole frame; an empty one is a null packet (RFC 4571 2).
    ///
    /// # Errors
    /// [`BadFraming`] where a frame is too long.
    pub fn next_frame(&mut self) -> Result<Option<&mut [u8]>, BadFraming> {
        let waiting = self.buffer.get(self.start..self.end).unwrap_or_default();
        let Some(prefix) = waiting.first_chunk::<PREFIX>() else { return Ok(None) };
        let len = usize::from(u16::from_be_bytes(*prefix));
        if len > MAX_FRAME {
            return Err(BadFraming);
        }
        if waiting.len() < PREFIX + len {
            return Ok(None);
        }
        let at = self.start + PREFIX;
        self.start = at + len;
        Ok(self.buffer.get_mut(at..at + len))
    }
}

/// Frames that wait to be written. A peer that reads too slowly loses its oldest datagrams, each whole.
#[derive(Debug, Default)]
pub struct FrameQueue {
    bytes: VecDeque<u8>,
    /// Bytes at the front that belong to a frame whose beginning was written already.
    begun: usize,
}

impl FrameQueue {
    /// Adds a datagram; how many older ones (or itself) had to go.
    pub fn push(&mut self, datagram: &[u8]) -> usize {
        let (Ok(len), true) = (u16::try_from(datagram.len()), PREFIX + datagram.len() <= MAX_QUEUED / 2) else {
            return 1;
        };
        let mut dropped = 0;
        while self.bytes.len() + PREFIX + datagram.len() > MAX_QUEUED {
            self.drop_oldest();
            dropped += 1;
        }
        self.bytes.extend(len.to_be_bytes());
        self.bytes.extend(datagram);
        dropped
    }

    /// Drops the oldest frame of which nothing was written.
    fn drop_oldest(&mut self) {
        let prefix = [0, 1].map(|at| self.bytes.get(self.begun + at).copied().unwrap_or(0));
        let end = self.begun + PREFIX + usize::from(u16::from_be_bytes(prefix));
        self.bytes.drain(self.begun..end.min(self.bytes.len()));
    }

    /// True where nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What waits, in order.
    #[must_use]
    pub fn slices(&self) -> (&[u8], &[u8]) {
        self.bytes.as_slices()
    }

    /// `count` bytes were written.
    pub fn written(&mut self, count: usize) {
        let mut left = count.min(self.bytes.len());
        while left > 0 {
            if self.begun == 0 {
                let prefix = [0, 1].map(|at| self.bytes.get(at).copied().unwrap_or(0));
                self.begun = PREFIX + usize::from(u16::from_be_bytes(prefix));
            }
            let step = left.min(self.begun);
            self.bytes.drain(..step);
            self.begun -= step;
            left -= step;
        }
    }
}
