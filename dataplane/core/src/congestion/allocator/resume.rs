//! Which paused video may come back when, and on what proof.

use super::{Budget, HEAD_ROOM, SPENT};
use crate::time::Instant;
use crate::units::DataRate;
use core::time::Duration;

const FIRST_WAIT: Duration = Duration::from_secs(5);
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Between a success and the next video's probe.
const NEXT: Duration = Duration::from_millis(500);
/// What the probe must carry, in what the videos would take.
const PROBED: f64 = 1.2;
/// A video that is paused again so soon has come back on a false promise.
const TOO_SOON: Duration = Duration::from_secs(10);
/// A probe that has brought no result for so long will not.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u32,
    rate: DataRate,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    candidate: Candidate,
    flowing: DataRate,
    began: Instant,
}

/// The wait between the attempts to bring paused videos back, one at a time.
#[derive(Clone, Debug)]
pub(super) struct Resume {
    wait: Duration,
    former_wait: Duration, // before the last success
    next_at: Instant,
    ended_at: Instant, // of the last attempt, or when the last video was paused
    resumed_at: Option<Instant>,
    failed: Option<DataRate>, // the rate of the video whose probe failed last
    pending: Option<Pending>,
    best: Option<Candidate>,
    cheaper: Option<Candidate>, // the best of those that cost less than the one that failed
    budget: Budget,
    flowing: DataRate,
}

impl Default for Resume {
    fn default() -> Self {
        Self {
            wait: FIRST_WAIT,
            former_wait: FIRST_WAIT,
            next_at: Instant::default(),
            ended_at: Instant::default(),
            resumed_at: None,
            failed: None,
            pending: None,
            best: None,
            cheaper: None,
            budget: Budget::default(),
            flowing: DataRate::ZERO,
        }
    }
}

impl Resume {
    /// Begins a round of allocation.
    pub const fn begin(&mut self, budget: Budget) {
        self.budget = budget;
        self.best = None;
        self.cheaper = None;
    }

    /// A video has just been paused.
    pub fn paused(&mut self, now: Instant) {
        if self.resumed_at.take().is_some_and(|at| now.since(at) < TOO_SOON) {
            self.wait = (self.former_wait * 2).min(MAX_WAIT);
        }
        self.ended_at = now;
        self.next_at = self.next_at.max(now + self.wait);
    }

    /// A paused video, in the order of rank, and what its lowest layer takes.
    pub fn candidate(&mut self, id: u32, rate: DataRate) {
        let candidate = Candidate { id, rate };
        self.best = self.best.or(Some(candidate));
        let is_cheaper = self.failed.is_some_and(|failed| rate < failed);
        self.cheaper = self.cheaper.or(Some(candidate).filter(|_| is_cheaper));
    }

    /// What the lowest layers of all others take.
    pub const fn flowing(&mut self, rate: DataRate) {
        self.flowing = rate;
    }

    /// The rate to probe, when it is time: what is sent at the lowest layers and the video would need 1.2 times over.
    pub fn probe(&mut self, now: Instant) -> Option<DataRate> {
        self.pending = self.pending.filter(|pending| now.since(pending.began) < PATIENCE);
        let candidate = self.cheaper.or(self.best)?;
        let video = self.flowing + candidate.rate;
        // An estimate that has grown so far by itself ends the longer waits, not the shortest.
        let is_promised = self.budget.for_video() >= video.scaled(PROBED) && now.since(self.ended_at) >= FIRST_WAIT;
        if self.pending.is_some() || (now < self.next_at && !is_promised) {
            return None;
        }
        self.pending = Some(Pending { candidate, flowing: self.flowing, began: now });
        Some((video + self.budget.audio + self.budget.retransmissions).scaled(PROBED / SPENT))
    }

    /// The outcome; gives the id of the video that may come back.
    pub fn result(&mut self, measured: DataRate, now: Instant) -> Option<u32> {
        let pending = self.pending.take()?;
        self.ended_at = now;
        let needed = (pending.flowing + pending.candidate.rate).scaled(HEAD_ROOM);
        if self.budget.of(measured) < needed {
            self.failed = Some(pending.candidate.rate);
            self.wait = (self.wait * 2).min(MAX_WAIT);
            self.next_at = now + self.wait;
            return None;
        }
        self.failed = None;
        self.former_wait = self.wait;
        self.wait = FIRST_WAIT;
        self.next_at = now + NEXT;
        self.resumed_at = Some(now);
        Some(pending.candidate.id)
    }
}
