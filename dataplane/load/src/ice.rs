//! The full agent's side of ICE towards a peer with one candidate: checks, nomination at once, consent (RFC 8445, 7675).

use core::time::Duration;
use std::net::SocketAddr;

use parley_core::time::Instant;
use parley_core::wire::stun::{self, Reply};

use crate::chance;

/// A check that got no answer is repeated after this.
const REPEAT: Duration = Duration::from_millis(100);
/// RFC 7675 5.1: five seconds, less up to a fifth.
const CONSENT_MIN: Duration = Duration::from_millis(4_000);
const CONSENT_SPREAD_MICROS: u64 = 1_000_000;
/// RFC 8445 5.1.2 for a host candidate of one component.
const PRIORITY: u32 = (126 << 24) | (65_535 << 8) | 255;

/// One side's user name fragment and password.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// `a=ice-ufrag`.
    pub ufrag: String,
    /// `a=ice-pwd`.
    pub pwd: String,
}

impl Credentials {
    /// Fresh ones.
    #[must_use]
    pub fn random() -> Self {
        Self { ufrag: chance::text(8), pwd: chance::text(24) }
    }
}

/// What a STUN message meant.
pub enum Outcome {
    /// Nothing to be done.
    Nothing,
    /// The first good answer: the pair is valid and nominated.
    Connected,
    /// The peer's own check, and the answer to it.
    Answer(Box<Reply>),
}

/// The controlling agent of one pair.
pub struct Agent {
    local: Credentials,
    remote: Credentials,
    tie_breaker: u64,
    transaction: [u8; 12],
    next_check: Instant,
    is_connected: bool,
}

impl Agent {
    /// Begins with a check at once.
    #[must_use]
    pub fn new(local: Credentials, remote: Credentials, now: Instant) -> Self {
        let mut tie_breaker = [0; 8];
        chance::fill(&mut tie_breaker);
        Self {
            local,
            remote,
            tie_breaker: u64::from_be_bytes(tie_breaker),
            transaction: [0; 12],
            next_check: now,
            is_connected: false,
        }
    }

    /// The check that is due, if one is.
    pub fn poll(&mut self, now: Instant) -> Option<Reply> {
        if now < self.next_check {
            return None;
        }
        // A check whose answer is late keeps its transaction, as a retransmission does (RFC 8489 6.2.1).
        if self.is_connected || self.transaction == [0; 12] {
            chance::fill(&mut self.transaction);
        }
        self.next_check = now + if self.is_connected { consent_interval() } else { REPEAT };
        let username = format!("{}:{}", self.remote.ufrag, self.local.ufrag);
        Some(stun::binding_request(self.transaction, &username, &self.remote.pwd, PRIORITY, true, self.tie_breaker))
    }

    /// Takes a STUN message that came from `from`. What is malformed or not authentic is nothing.
    pub fn receive(&mut self, datagram: &[u8], from: SocketAddr) -> Outcome {
        let Ok(message) = stun::parse(datagram) else { return Outcome::Nothing };
        match message.kind {
            stun::BINDING_SUCCESS if message.transaction_id == self.transaction => {
                if self.is_connected || !message.has_integrity(&self.remote.pwd) {
                    return Outcome::Nothing;
                }
                self.is_connected = true;
                self.next_check = self.next_check + consent_interval();
                Outcome::Connected
            }
            stun::BINDING_REQUEST if message.has_integrity(&self.local.pwd) => {
                Outcome::Answer(Box::new(stun::binding_success(&message, from, &self.local.pwd)))
            }
            _ => Outcome::Nothing,
        }
    }
}

fn consent_interval() -> Duration {
    let mut bytes = [0; 8];
    chance::fill(&mut bytes);
    CONSENT_MIN + Duration::from_micros(u64::from_be_bytes(bytes) % CONSENT_SPREAD_MICROS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(name: &str) -> Credentials {
        Credentials { ufrag: name.to_owned(), pwd: format!("the password of {name}") }
    }

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    fn address() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 9))
    }

    fn answer(check: &Reply, password: &str) -> Vec<u8> {
        let request = stun::parse(check.as_slice()).unwrap();
        stun::binding_success(&request, address(), password).as_slice().to_vec()
    }

    #[test]
    fn a_check_nominates_is_repeated_and_once_answered_becomes_consent() {
        let (ours, theirs) = (credentials("ours"), credentials("theirs"));
        let mut agent = Agent::new(ours, theirs.clone(), at(0));
        let check = agent.poll(at(0)).unwrap();
        let request = stun::parse(check.as_slice()).unwrap();
        assert_eq!(request.username, "theirs:ours");
        assert!(request.use_candidate && request.has_integrity(&theirs.pwd));
        assert!(agent.poll(at(99)).is_none());
        let again = agent.poll(at(100)).unwrap();
        assert_eq!(again.as_slice(), check.as_slice(), "the same transaction");
        assert!(matches!(agent.receive(&answer(&again, &theirs.pwd), address()), Outcome::Connected));
        assert!(matches!(agent.receive(&answer(&again, &theirs.pwd), address()), Outcome::Nothing), "connected once");
        assert!(agent.poll(at(4_000)).is_none());
        let consent = agent.poll(at(5_300)).unwrap();
        assert_ne!(stun::parse(consent.as_slice()).unwrap().transaction_id, request.transaction_id);
        assert!(agent.poll(at(5_300 + 3_999)).is_none());
        assert!(agent.poll(at(5_300 + 5_000)).is_some(), "consent within five seconds");
    }

    #[test]
    fn a_forged_answer_and_one_to_another_check_are_nothing() {
        let mut agent = Agent::new(credentials("ours"), credentials("theirs"), at(0));
        let check = agent.poll(at(0)).unwrap();
        assert!(matches!(agent.receive(&answer(&check, "a guess"), address()), Outcome::Nothing));
        let other = Agent::new(credentials("ours"), credentials("theirs"), at(0)).poll(at(0)).unwrap();
        let foreign = answer(&other, &credentials("theirs").pwd);
        assert!(matches!(agent.receive(&foreign, address()), Outcome::Nothing));
        assert!(matches!(agent.receive(b"no stun", address()), Outcome::Nothing));
    }

    #[test]
    fn a_peer_that_checks_is_answered_where_it_knows_our_password() {
        let (ours, theirs) = (credentials("ours"), credentials("theirs"));
        let mut agent = Agent::new(ours.clone(), theirs.clone(), at(0));
        let check = Agent::new(theirs, ours.clone(), at(0)).poll(at(0)).unwrap();
        let Outcome::Answer(reply) = agent.receive(check.as_slice(), address()) else { panic!("no answer") };
        let message = stun::parse(reply.as_slice()).unwrap();
        assert!(message.is_success() && message.has_integrity(&ours.pwd));
        let stranger = Agent::new(credentials("x"), Credentials { pwd: "wrong".to_owned(), ..ours }, at(0)).poll(at(0));
        assert!(matches!(agent.receive(stranger.unwrap().as_slice(), address()), Outcome::Nothing));
    }
}
