//! Hostile input costs nothing but counters: no event, no growth, and the call goes on.

mod call;

use std::time::{Duration, Instant as Wall};

use call::{Call, RTX_SSRC, VIDEO_SSRC};
use parley_core::engine::Event;
use parley_core::wire::rtcp::{self, Buffer};

/// xorshift: a million packets need many numbers, and none of them good.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn fill(&mut self, room: &mut [u8]) {
        for chunk in room.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

fn media(call: &Call) -> usize {
    call.sealed.iter().filter(|packet| packet.ssrc == VIDEO_SSRC).count()
}

/// A call in which the lowest layer flows.
fn flowing() -> Call {
    let mut call = Call::new();
    call.publish(0, 0, 0, 0, true, 500);
    call.publish(0, 0, 0, 0, false, 500);
    assert_eq!(media(&call), 2);
    call.events.clear();
    call
}

fn is_going_on(call: &mut Call) {
    let before = media(call);
    for _ in 0..5 {
        call.publish(0, 0, 0, 0, false, 500);
    }
    assert_eq!(media(call), before + 5, "the call goes on");
}

#[test]
fn a_million_packets_of_garbage_cost_nothing_but_counters() {
    let mut call = flowing();
    let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
    let mut packet = [0_u8; 1_600];
    let began = Wall::now();
    for number in 0..1_000_000_u64 {
        let len = usize::try_from(noise.next() % 160).unwrap() + usize::from(number % 500 == 0) * 1_430;
        let room = &mut packet[..len];
        noise.fill(room);
        if let Some(first) = room.first_mut() {
            // Mostly what is told apart: STUN, SRTP and SRTCP; DTLS only from strangers, whose it never is.
            *first = match number % 4 {
                0 => *first & 3,
                1..3 => 0x80 | (*first & 0x3F),
                _ => 64 + (*first & 0x1F),
            };
        }
        let port = Call::ports()[usize::try_from(noise.next() % 3).unwrap()];
        call.garbage(port, room);
    }
    let stats = call.engine.stats();
    let counted: u64 = stats.dropped.iter().sum();
    assert!(counted >= 999_000, "{counted} of a million are counted, the rest is STUN that asks nothing");
    assert_eq!((stats.transports, stats.tracks, stats.senders, stats.queued), (2, 1, 1, 0));
    assert!(call.engine.poll_event().is_none(), "garbage is no event");
    assert!(began.elapsed() < Duration::from_secs(60));
    is_going_on(&mut call);
}

#[test]
fn a_replayed_packet_is_refused_also_over_the_wrap_of_sequence_numbers() {
    let mut call = flowing(); // numbers begin 36 below the wrap
    for _ in 0..30 {
        call.publish(0, 0, 0, 0, false, 100);
    }
    let before = media(&call);
    // After the wrap, late packets of before it, each once and again.
    for _ in 0..10 {
        call.publish(0, 1, 0, 0, false, 100);
    }
    for back in [2, 4, 6, 8, 10, 12, 14, 16] {
        call.publish(0, 0, back, 0, false, 100);
        call.publish(0, 0, back, 0, false, 100);
    }
    assert_eq!(media(&call), before + 10 + 8, "each late packet goes on once");
    let refused = call.engine.stats().dropped[7];
    assert_eq!(refused, 8, "srtp-refused");
    is_going_on(&mut call);
}

#[test]
fn rtcp_with_lying_lengths_is_dropped_as_a_whole() {
    let mut call = flowing();
    let mut honest = Buffer::new();
    assert!(rtcp::write_nack(&mut honest, 1, VIDEO_SSRC, &[1, 2, 3]));
    for words in [0_u16, 1, 2, 5, 100, 0xFFFF] {
        let mut lying = Buffer::new();
        assert!(rtcp::write_nack(&mut lying, 1, VIDEO_SSRC, &[1, 2, 3]));
        lying.as_mut()[2..4].copy_from_slice(&words.to_be_bytes());
        call.rtcp(&lying);
    }
    for count in 1..=31_u8 {
        let mut lying = Buffer::new();
        assert!(rtcp::write_receiver_report(&mut lying, 1, &[]));
        lying.as_mut()[0] = 0x80 | count; // blocks that are not there
        call.rtcp(&lying);
    }
    assert!(call.engine.stats().dropped[10] >= 31, "bad-rtcp: {:?}", call.engine.stats().dropped);
    call.rtcp(&honest);
    is_going_on(&mut call);
}

#[test]
fn a_storm_of_nacks_is_served_within_a_share_of_what_was_sent() {
    let mut call = flowing();
    for _ in 0..400 {
        call.publish(0, 0, 0, 0, false, 900);
        call.pass(Duration::from_millis(5));
    }
    let sent = media(&call);
    for _ in 0..20 {
        for back in 0..200 {
            call.nack(back);
        }
        call.pass(Duration::from_millis(400));
    }
    let repairs = call.sealed.iter().filter(|packet| packet.ssrc == RTX_SSRC).count();
    assert!(repairs <= sent / 2 + 450, "{repairs} repairs of {sent} packets");
    is_going_on(&mut call);
}

#[test]
fn a_strangers_client_hello_is_no_event() {
    let mut call = flowing();
    let [_, _, stranger] = Call::ports();
    let mut hello = [22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 1, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 8];
    call.garbage(stranger, &mut hello);
    assert!(!call.engine.has_events());
    let [publisher, ..] = Call::ports();
    call.garbage(publisher, &mut hello);
    assert!(matches!(call.engine.poll_event(), Some(Event::DtlsReceived { .. })), "a peer's own is");
}
