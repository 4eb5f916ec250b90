//! Events of all workers on their way to the control layer.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};

use parley_core::engine::Event;
use parley_core::engine::event::LinkState;

use crate::sys::EventFd;
use crate::worker::lock;

/// Events that wait at most; then the oldest go.
pub const MAX_EVENTS: usize = 4_096;

#[derive(Debug, Default)]
struct Waiting {
    /// With the worker that each comes from.
    events: VecDeque<(usize, Event)>,
    /// Transports that ended by themselves, at most one entry for each that there was.
    ended: Vec<Arc<str>>,
}

/// A bounded queue with a descriptor that is readable while it holds anything.
#[derive(Debug)]
pub(crate) struct EventQueue {
    waiting: Mutex<Waiting>,
    readable: EventFd,
}

impl EventQueue {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { waiting: Mutex::default(), readable: EventFd::new()? })
    }

    /// Adds events of a worker; how many older ones had to go.
    pub(crate) fn extend(&self, worker: usize, events: impl Iterator<Item = Event>) -> usize {
        let mut events = events.peekable();
        if events.peek().is_none() {
            return 0;
        }
        let mut waiting = lock(&self.waiting);
        let was_empty = waiting.events.is_empty();
        let mut dropped = 0;
        for event in events {
            if let Event::IceChanged { transport, state: LinkState::Failed } = &event {
                waiting.ended.push(Arc::clone(transport));
            }
            if waiting.events.len() >= MAX_EVENTS {
                waiting.events.pop_front();
                dropped += 1;
            }
            waiting.events.push_back((worker, event));
        }
        if was_empty {
            self.readable.raise();
        }
        dropped
    }

    /// Takes at most `max` events with their workers, oldest first.
    pub(crate) fn take(&self, max: usize) -> Vec<(usize, Event)> {
        let mut waiting = lock(&self.waiting);
        let count = max.min(waiting.events.len());
        let taken = waiting.events.drain(..count).collect();
        if waiting.events.is_empty() {
            self.readable.clear();
        }
        taken
    }

    /// The transports that ended by themselves since the last call, also where their events were dropped.
    pub(crate) fn take_ended(&self) -> Vec<Arc<str>> {
        std::mem::take(&mut lock(&self.waiting).ended)
    }

    /// Readable while events wait.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }
}
