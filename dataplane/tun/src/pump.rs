//! Packets through two links, as the clock goes.

use core::time::Duration;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant as Clock;

use parley_core::time::Instant;
use parley_netem::Link;

use crate::command::{Command, Counts, Report};
use crate::sys;

/// The longest IP packet that is taken whole, in bytes; a device's MTU is less.
const MAX_PACKET: usize = 65_536;
/// Packets that are read of one end before the other has its turn.
const TURN: usize = 64;

/// An end and the link for what is sent there.
struct End {
    device: File,
    link: Link<Vec<u8>>,
    refused: (u64, u64),
}

/// Two ends, the clock, and what becomes of the packets between them.
pub struct Pump {
    ends: [End; 2],
    origin: Clock,
    buffer: Box<[u8]>,
    latest: Duration,
}

impl Pump {
    /// Links that do nothing between two descriptors, which give and take one packet a call and do not wait. Each
    /// direction draws from the seed by itself.
    #[must_use]
    pub fn new(near: File, far: File, seed: u64) -> Self {
        let end =
            |device, seed| End { device, link: Link::new(seed, parley_netem::Params::default()), refused: (0, 0) };
        Self {
            ends: [end(near, seed), end(far, !seed)],
            origin: Clock::now(),
            buffer: vec![0; MAX_PACKET].into(),
            latest: Duration::ZERO,
        }
    }

    fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Changes the links as a command says. Fails with a sentence, and then nothing has changed.
    pub fn take(&mut self, command: &Command) -> Result<(), String> {
        let now = self.now();
        let changes = [&command.near, &command.far].map(|state| state.as_ref().map(crate::command::State::params));
        if let Some(Err(why)) = changes.iter().flatten().find(|change| change.is_err()) {
            return Err(why.clone());
        }
        for (end, change) in self.ends.iter_mut().zip(changes) {
            if let Some(Ok(params)) = change {
                end.link.schedule(now, params);
            }
        }
        Ok(())
    }

    /// What became of the packets so far.
    #[must_use]
    pub fn report(&self) -> Report {
        let [near, far] = [0, 1].map(|place| {
            let End { link, refused, .. } = &self.ends[place];
            Counts::new(link.counters(), *refused)
        });
        Report { near, far, latest_us: u64::try_from(self.latest.as_micros()).unwrap_or(u64::MAX) }
    }

    /// Moves packets until `input` has something to read, or has ended. Fails as a device does that is broken.
    pub fn run(&mut self, input: BorrowedFd<'_>) -> io::Result<()> {
        loop {
            self.deliver()?;
            let now = self.now();
            let next = self.ends.iter().filter_map(|end| end.link.next_at()).min();
            let [near, far] = [0, 1].map(|place| self.ends[place].device.as_fd());
            let [has_near, has_far, has_input] = sys::wait([near, far, input], next.map(|next| next.since(now)))?;
            for (place, has) in [has_near, has_far].into_iter().enumerate() {
                if has {
                    self.collect(place)?;
                }
            }
            if has_input {
                return Ok(());
            }
        }
    }

    fn collect(&mut self, place: usize) -> io::Result<()> {
        for _ in 0..TURN {
            let now = self.now();
            let end = &mut self.ends[place];
            match end.device.read(&mut self.buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => end.link.push(now, length, self.buffer[..length].to_vec()),
                Err(error) if is_passing(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn deliver(&mut self) -> io::Result<()> {
        let now = self.now();
        for place in [0, 1] {
            while let Some((due, packet)) = self.ends[place].link.pop(now) {
                self.latest = self.latest.max(now.since(due));
                match self.ends[1 - place].device.write(&packet) {
                    Ok(_) => {}
                    Err(error) if is_passing(&error) => {
                        let refused = &mut self.ends[place].refused;
                        refused.0 += 1;
                        refused.1 += packet.len() as u64;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// Nothing waits, there is no room, the device is down (EIO), or what was sent is no packet (EINVAL).
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, InvalidInput, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | InvalidInput)
        || matches!(error.raw_os_error(), Some(libc::EIO | libc::ENOBUFS))
}
