//! SRTP and SRTCP under a fixed key: each datagram is two bytes of length, and as many bytes. What is forged changes
//! nothing: a sealed packet opens after all of them, once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parley_core::srtp::{OpenError, Opener, Profile, Sealer};
use parley_fuzz::{KEY, datagrams};

const PROFILES: [Profile; 3] = [Profile::Aes128CmSha1_80, Profile::AeadAes128Gcm, Profile::AeadAes256Gcm];

fuzz_target!(|data: &[u8]| {
    let Some((&choice, rest)) = data.split_first() else { return };
    let profile = PROFILES[usize::from(choice) % PROFILES.len()];
    let key = &KEY[..profile.key_len() + profile.salt_len()];
    let mut opener = Opener::new(profile, key).expect("a key of the profile's length");
    for datagram in datagrams(rest) {
        let mut buffer = datagram.to_vec();
        if let Ok(opened) = opener.open_rtp(&mut buffer) {
            assert!(opened.len < datagram.len());
            assert_eq!(opener.open_rtp(&mut datagram.to_vec()), Err(OpenError::Replayed));
        }
        let mut buffer = datagram.to_vec();
        if let Ok(len) = opener.open_rtcp(&mut buffer) {
            assert!(len < datagram.len());
        }
    }
    let mut own = [0_u8; 64];
    own[..12].copy_from_slice(&[0x80, 96, 0, 1, 0, 0, 0, 0, 0xDE, 0xAD, 0xBE, 0xEF]);
    let sealer = Sealer::new(profile, key).expect("a key of the profile's length");
    let len = sealer.seal_rtp(&mut own, 12, 30, 1).expect("there is room");
    let mut first = own;
    match opener.open_rtp(&mut first[..len]) {
        Ok(opened) => assert_eq!(opened.len, 30),
        // Only one of the datagrams that is this very packet, or many later ones of its SSRC, can be the reason.
        Err(error) => assert!(matches!(error, OpenError::Replayed | OpenError::TooOld), "{error}"),
    }
});
