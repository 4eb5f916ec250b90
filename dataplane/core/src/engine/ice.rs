//! The ICE-lite side of one transport: answers checks, follows nomination, keeps consent (RFC 8445, RFC 7675).
//!
//! Every pair that passed the integrity check may send to us, and we send on the nominated pair of the highest priority
//! that is still alive. A lite agent sends no checks; the peer's silence is the loss of consent.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use crate::engine::batch::Path;
use crate::engine::command::Credentials;
use crate::time::Instant;
use crate::wire::stun::{self, Message, Reply};

/// Pairs that one peer may have.
pub const MAX_PAIRS: usize = 16;
/// A nominated pair that was silent for so long yields to one that is not.
const STALE: Duration = Duration::from_secs(6);
/// RFC 7675 5.1.
pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);

/// A remote address that passed a connectivity check.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub(crate) path: Path,
    priority: u32,
    is_nominated: bool,
    pub(crate) seen: Instant,
}

/// Pairs and credentials of one transport.
#[derive(Debug)]
pub(crate) struct IceAgent {
    /// The current credentials first; new ones wait behind them for their first check.
    credentials: Vec<Credentials>,
    pub(crate) pairs: Vec<Pair>,
    pub(crate) selected: Option<Path>,
    pub(crate) last_check: Option<Instant>,
}

impl IceAgent {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self { credentials: vec![credentials], pairs: Vec::new(), selected: None, last_check: None }
    }

    /// An agent whose only pair is fixed and needs no checks.
    pub(crate) fn fixed(address: SocketAddr) -> Self {
        Self { credentials: Vec::new(), pairs: Vec::new(), selected: Some(Path::Udp(address)), last_check: None }
    }

    pub(crate) fn ufrags(&self) -> impl Iterator<Item = &Arc<str>> {
        self.credentials.iter().map(|known| &known.ufrag)
    }

    /// Where to send: the selected pair, and before nomination the one that was checked last.
    ///
    /// RFC 8445 lets a lite agent wait for nomination. Chromium nominates towards one only with its second check, and
    /// its ClientHello comes between the two: an answer held back is asked for again 50 ms later.
    pub(crate) fn destination(&self) -> Option<Path> {
        self.selected.or_else(|| self.pairs.iter().max_by_key(|pair| pair.seen).map(|pair| pair.path))
    }

    /// New credentials beside the present ones, which go with the first check that uses the new ones.
    pub(crate) fn restart(&mut self, credentials: Credentials) {
        self.credentials.truncate(1);
        self.credentials.push(credentials);
    }

    /// Drops all pairs and credentials: only a restart brings the transport back.
    pub(crate) fn forget(&mut self) {
        self.credentials.truncate(1);
        if let Some(current) = self.credentials.first_mut() {
            current.pwd = "".into();
        }
        self.pairs.clear();
        self.selected = None;
    }

    /// The answer to a check, `None` where it must be ignored. A good check validates its address.
    pub(crate) fn answer(
        &mut self,
        request: &Message<'_>,
        from: Path,
        seen_as: SocketAddr,
        now: Instant,
    ) -> Option<Reply> {
        let ufrag = request.username.split(':').next().unwrap_or_default();
        let at = self.credentials.iter().position(|known| &*known.ufrag == ufrag)?;
        let pwd = Arc::clone(&self.credentials.get(at)?.pwd);
        if pwd.is_empty() || !request.has_integrity(&pwd) {
            return None;
        }
        if request.ice_controlled {
            return Some(stun::role_conflict(request, &pwd)); // RFC 8445 7.3.1.1: that role is always ours
        }
        self.credentials.drain(..at);
        self.validate(request, from, now);
        Some(stun::binding_success(request, seen_as, &pwd))
    }

    fn validate(&mut self, request: &Message<'_>, from: Path, now: Instant) {
        self.last_check = Some(now);
        let known = self.pairs.iter().position(|pair| pair.path == from);
        if known.is_none() && self.pairs.len() >= MAX_PAIRS {
            self.drop_oldest();
        }
        match known.and_then(|at| self.pairs.get_mut(at)) {
            Some(pair) => {
                pair.seen = now;
                pair.priority = request.priority;
                pair.is_nominated |= request.use_candidate;
            }
            None => self.pairs.push(Pair {
                path: from,
                priority: request.priority,
                is_nominated: request.use_candidate,
                seen: now,
            }),
        }
        self.select(now);
    }

    fn drop_oldest(&mut self) {
        let selected = self.selected;
        let others = self.pairs.iter().enumerate().filter(|(_, pair)| Some(pair.path) != selected);
        if let Some(at) = others.min_by_key(|(_, pair)| pair.seen).map(|(at, _)| at) {
            self.pairs.swap_remove(at);
        }
    }

    /// The address belongs to another transport now, or its connection is gone.
    pub(crate) fn release(&mut self, path: Path, now: Instant) {
        let before = self.pairs.len();
        self.pairs.retain(|pair| pair.path != path);
        if self.pairs.len() != before {
            self.select(now);
        }
    }

    /// Chooses the pair to send on.
    fn select(&mut self, now: Instant) {
        let best = |pairs: &[Pair], alive: bool| {
            pairs
                .iter()
                .filter(|pair| pair.is_nominated && (!alive || now.since(pair.seen) < STALE))
                .max_by_key(|pair| (pair.priority, pair.seen))
                .map(|pair| pair.path)
        };
        self.selected = best(&self.pairs, true).or_else(|| best(&self.pairs, false));
    }

    /// Removes the pairs whose consent is gone.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.pairs.retain(|pair| now.since(pair.seen) < CONSENT_TIMEOUT);
        self.select(now);
    }
}
