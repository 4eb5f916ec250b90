//! SRTP against libsrtp, and where libsrtp has nothing to say: bounds, bad lengths, new SSRCs.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use parley_core::srtp::{BadKey, MAX_OVERHEAD, MAX_SSRCS, OpenError, Opener, Profile, Sealer};
use proptest::prelude::*;

/// What `data/libsrtp.py` wrote.
const LIBSRTP: &str = include_str!("data/libsrtp.txt");
const PROFILES: [Profile; 3] = [Profile::Aes128CmSha1_80, Profile::AeadAes128Gcm, Profile::AeadAes256Gcm];

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn master(profile: Profile) -> Vec<u8> {
    (1..).take(profile.key_len() + profile.salt_len()).collect()
}

fn pair(profile: Profile) -> (Sealer, Opener) {
    let key = master(profile);
    (Sealer::new(profile, &key).unwrap(), Opener::new(profile, &key).unwrap())
}

fn rtp(ssrc: u32, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend(sequence.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(ssrc.to_be_bytes());
    packet.extend(payload);
    packet
}

fn sealed(sealer: &Sealer, packet: &[u8], index: u64) -> Vec<u8> {
    let mut buf = packet.to_vec();
    buf.resize(packet.len() + MAX_OVERHEAD, 0);
    let len = sealer.seal_rtp(&mut buf, 12, packet.len(), index).unwrap();
    buf.truncate(len);
    buf
}

/// A line of the file: protocol, verdict, index, sealed packet and plain packet.
struct Line {
    is_rtcp: bool,
    verdict: &'static str,
    index: u64,
    wire: Vec<u8>,
    plain: Vec<u8>,
}

/// Calls `play` for each profile with its key and its lines.
fn libsrtp_sessions(mut play: impl FnMut(Profile, &[u8], &[Line])) {
    let mut sessions: Vec<(Profile, Vec<u8>, Vec<Line>)> = Vec::new();
    for line in LIBSRTP.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if words[0] == "profile" {
            sessions.push((Profile::from_name(words[1]).unwrap(), bytes(words[2]), Vec::new()));
            continue;
        }
        let plain = if words[4] == "-" { Vec::new() } else { bytes(words[4]) };
        let (is_rtcp, index) = (words[0] == "rtcp", words[2].parse().unwrap());
        let line = Line { is_rtcp, verdict: words[1], index, wire: bytes(words[3]), plain };
        sessions.last_mut().unwrap().2.push(line);
    }
    assert_eq!(sessions.len(), PROFILES.len());
    for (profile, key, lines) in &sessions {
        play(*profile, key, lines);
    }
}

fn verdict(error: OpenError) -> &'static str {
    match error {
        OpenError::Replayed => "replayed",
        OpenError::TooOld => "old",
        OpenError::Forged => "forged",
        OpenError::TooShort => "short",
        OpenError::TooManySsrcs => "full",
    }
}

#[test]
fn the_opener_says_of_every_packet_what_libsrtp_says() {
    libsrtp_sessions(|profile, key, lines| {
        let mut opener = Opener::new(profile, key).unwrap();
        for (number, line) in lines.iter().enumerate() {
            let mut buf = line.wire.clone();
            let opened = if line.is_rtcp {
                opener.open_rtcp(&mut buf).map(|len| (len, line.index))
            } else {
                opener.open_rtp(&mut buf).map(|opened| (opened.len, opened.index))
            };
            match opened {
                Ok((len, index)) => {
                    assert_eq!((line.verdict, index), ("ok", line.index), "{profile:?}, line {number}");
                    assert_eq!(buf[..len], line.plain, "{profile:?}, line {number}");
                }
                Err(error) => assert_eq!(line.verdict, verdict(error), "{profile:?}, line {number}"),
            }
        }
    });
}

#[test]
fn the_sealer_makes_the_bytes_that_libsrtp_makes() {
    libsrtp_sessions(|profile, key, lines| {
        for line in lines.iter().filter(|line| line.verdict == "ok") {
            let mut sealer = Sealer::new(profile, key).unwrap();
            let mut buf = line.plain.clone();
            buf.resize(line.plain.len() + MAX_OVERHEAD, 0);
            let len = if line.is_rtcp {
                for _ in 0..line.index {
                    sealer.seal_rtcp(&mut [0; 64], 8).unwrap(); // libsrtp counts from one
                }
                sealer.seal_rtcp(&mut buf, line.plain.len()).unwrap()
            } else {
                let header_len = rtp_header_len(&line.plain);
                sealer.seal_rtp(&mut buf, header_len, line.plain.len(), line.index).unwrap()
            };
            assert_eq!(buf[..len], line.wire, "{profile:?}, index {}", line.index);
        }
    });
}

/// Fixed header, CSRCs and extension (RFC 3550 5.1) of a packet that is known to be whole.
fn rtp_header_len(packet: &[u8]) -> usize {
    let csrcs = 4 * usize::from(packet[0] & 0x0F);
    let words = if packet[0] & 0x10 == 0 { None } else { Some(usize::from(packet[15 + csrcs])) };
    12 + csrcs + words.map_or(0, |words| 4 + 4 * words)
}

#[test]
fn a_key_of_another_length_is_refused() {
    for profile in PROFILES {
        let key = master(profile);
        for wrong in [&key[1..], &[], &[&key[..], &[0]].concat()[..]] {
            assert_eq!(Opener::new(profile, wrong).unwrap_err(), BadKey);
            assert_eq!(Sealer::new(profile, wrong).unwrap_err(), BadKey);
        }
    }
}

#[test]
fn keys_never_show_in_debug_output() {
    let (sealer, opener) = pair(Profile::AeadAes128Gcm);
    assert_eq!(format!("{sealer:?}"), "Sealer { profile: AeadAes128Gcm, .. }");
    assert_eq!(format!("{opener:?}"), "Opener { profile: AeadAes128Gcm, ssrcs: 0, .. }");
}

#[test]
fn a_forged_packet_leaves_no_trace_of_its_ssrc() {
    for profile in PROFILES {
        let (sealer, mut opener) = pair(profile);
        let mut forged = sealed(&sealer, &rtp(1, 40_000, b"payload"), 40_000);
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(opener.open_rtp(&mut forged), Err(OpenError::Forged));
        assert!(format!("{opener:?}").contains("ssrcs: 0"));
    }
}

#[test]
fn one_ssrc_too_many_is_refused_and_the_known_ones_go_on() {
    let (sealer, mut opener) = pair(Profile::AeadAes128Gcm);
    let last = u32::try_from(MAX_SSRCS).unwrap();
    for ssrc in 0..last {
        assert!(opener.open_rtp(&mut sealed(&sealer, &rtp(ssrc, 1, b"x"), 1)).is_ok());
    }
    assert_eq!(opener.open_rtp(&mut sealed(&sealer, &rtp(last, 1, b"x"), 1)), Err(OpenError::TooManySsrcs));
    assert!(opener.open_rtp(&mut sealed(&sealer, &rtp(7, 2, b"x"), 2)).is_ok());
}

#[test]
fn the_sealer_refuses_lengths_and_indexes_that_contradict_each_other() {
    for profile in PROFILES {
        let (sealer, _) = pair(profile);
        let packet = rtp(1, 7, &[0; 20]);
        let room = packet.len() + profile.rtp_overhead();
        let seal = |size: usize, header_len, len, index| {
            let mut buf = packet.clone();
            buf.resize(size, 0);
            sealer.seal_rtp(&mut buf, header_len, len, index)
        };
        assert_eq!(seal(room, 12, 32, 7), Some(room));
        assert_eq!(seal(room - 1, 12, 32, 7), None, "no room for the tag");
        assert_eq!(seal(room, 11, 32, 7), None, "a header too short");
        assert_eq!(seal(room, 33, 32, 7), None, "a header longer than the packet");
        assert_eq!(seal(room, 12, 32, 8), None, "another sequence number");
        assert_eq!(seal(room, 12, 32, (1 << 48) + 7), None, "an index of 49 bits");
        assert_eq!(seal(room, 12, usize::MAX - 40, 7), None, "a length out of the buffer");
        let (mut sealer, _) = pair(profile);
        assert_eq!(sealer.seal_rtcp(&mut [0; 64], 7), None, "no RTCP header");
        assert_eq!(sealer.seal_rtcp(&mut [0; 64], 65 - profile.rtcp_overhead()), None, "no room for the trailer");
    }
}

proptest! {
    #[test]
    fn bytes_from_anybody_never_open_and_never_panic(
        mut data in prop::collection::vec(any::<u8>(), 0..200),
        profile in prop::sample::select(&PROFILES[..]),
    ) {
        let (_, mut opener) = pair(profile);
        let mut copy = data.clone();
        prop_assert!(opener.open_rtp(&mut data).is_err());
        prop_assert!(opener.open_rtcp(&mut copy).is_err());
    }

    #[test]
    fn a_changed_bit_anywhere_is_found(
        bit in 0_usize..(12 + 33 + 10) * 8,
        profile in prop::sample::select(&PROFILES[..]),
    ) {
        let (sealer, mut opener) = pair(profile);
        let mut packet = sealed(&sealer, &rtp(5, 9, &[3; 33]), 9);
        packet[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(opener.open_rtp(&mut packet).is_err());
    }

    #[test]
    fn the_index_is_found_again_within_half_a_turn(
        start in 0_u64..0x8000,
        steps in prop::collection::vec(1_u64..0x7FFF, 1..40),
    ) {
        let (sealer, mut opener) = pair(Profile::AeadAes128Gcm);
        let mut index = start;
        for step in steps {
            let sequence = u16::try_from(index & 0xFFFF).unwrap();
            let opened = opener.open_rtp(&mut sealed(&sealer, &rtp(5, sequence, b"x"), index)).unwrap();
            prop_assert_eq!(opened.index, index);
            index += step;
        }
    }
}
