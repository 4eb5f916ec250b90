//! SRTP against the test vectors of RFC 3711 and RFC 7714.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use parley_core::srtp::{KeySet, OpenError, Opener, Profile, Sealer, SessionKeys};

const RTP: &str = "8040f17b8041f8d35501a0b247616c6c696120657374206f6d6e69732064697669736120696e20706172746573207472\
                   6573";
const RTCP: &str = "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61deadbeefdeadbeefdeadbeefdeadbeef\
                    deadbeef";
/// The index of every packet in section 17 of RFC 7714.
const RTCP_INDEX: u32 = 0x5D4;

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn padded<const N: usize>(hex: &str) -> [u8; N] {
    let mut all = [0; N];
    let given = bytes(hex);
    all[..given.len()].copy_from_slice(&given);
    all
}

fn session_keys(cipher: &str, salt: &str) -> SessionKeys {
    let set = KeySet { cipher: padded(cipher), authentication: [0; 20], salt: padded(salt) };
    SessionKeys { rtp: set.clone(), rtcp: set }
}

/// The keys of RFC 7714 sections 16 and 17.
fn quid_pro_quo(profile: Profile) -> SessionKeys {
    let key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    session_keys(&key[..2 * profile.key_len()], "517569642070726f2071756f")
}

fn seal_rtp(sealer: &Sealer, packet: &[u8], header_len: usize, index: u64) -> Vec<u8> {
    let mut buf = packet.to_vec();
    buf.resize(packet.len() + 20, 0);
    let len = sealer.seal_rtp(&mut buf, header_len, packet.len(), index).unwrap();
    buf.truncate(len);
    buf
}

fn seal_rtcp_number(sealer: &mut Sealer, packet: &[u8], number: u32) -> Vec<u8> {
    let mut buf = Vec::new();
    for _ in 0..=number {
        buf = packet.to_vec();
        buf.resize(packet.len() + 20, 0);
        let len = sealer.seal_rtcp(&mut buf, packet.len()).unwrap();
        buf.truncate(len);
    }
    buf
}

#[test]
fn counter_mode_has_the_key_stream_of_rfc_3711_b_2() {
    let keys = session_keys("2b7e151628aed2a6abf7158809cf4f3c", "f0f1f2f3f4f5f6f7f8f9fafbfcfd");
    let sealer = Sealer::with_session_keys(Profile::Aes128CmSha1_80, &keys).unwrap();
    let mut packet = vec![0; 12 + 0xFF02 * 16];
    packet[0] = 0x80;
    let sealed = seal_rtp(&sealer, &packet, 12, 0);
    for (block, expected) in [
        (0, "e03ead0935c95e80e166b16dd92b4eb4"),
        (1, "d23513162b02d0f72a43a2fe4a5f97ab"),
        (2, "41e95b3bb0a2e8dd477901e4fca894c0"),
        (0xFEFF, "ec8cdf7398607cb0f2d21675ea9ea1e4"),
        (0xFF00, "362b7c3c6773516318a077d7fc5073ae"),
        (0xFF01, "6a2cc3787889374fbeb4c81b17ba6c44"),
    ] {
        assert_eq!(sealed[12 + 16 * block..][..16], bytes(expected), "block {block:#x}");
    }
}

#[test]
fn session_keys_are_those_of_rfc_3711_b_3() {
    let master = bytes("e1f97a0d3e018be0d64fa32c06de41390ec675ad498afeebb6960b3aabe6");
    let keys = SessionKeys::derive(Profile::Aes128CmSha1_80, &master).unwrap();
    assert_eq!(keys.rtp.cipher[..16], bytes("c61e7a93744f39ee10734afe3ff7a087"));
    assert_eq!(keys.rtp.salt[..], bytes("30cbbc08863d8c85d49db34a9ae1"));
    assert_eq!(keys.rtp.authentication[..], bytes("cebe321f6ff7716b6fd4ab49af256a156d38baa4"));
}

#[test]
fn gcm_seals_and_opens_the_rtp_packets_of_rfc_7714_16() {
    for (profile, sealed) in [
        (
            Profile::AeadAes128Gcm,
            "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833\
             899d7f27beb16a9152cf765ee4390cce",
        ),
        (
            Profile::AeadAes256Gcm,
            "8040f17b8041f8d35501a0b232b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b\
             7aa3db36dfffd6b0f9bb7878d7a76c13",
        ),
    ] {
        let keys = quid_pro_quo(profile);
        let sealer = Sealer::with_session_keys(profile, &keys).unwrap();
        let mut packet = seal_rtp(&sealer, &bytes(RTP), 12, 0xF17B);
        assert_eq!(packet, bytes(sealed), "{profile:?}");
        let opened = Opener::with_session_keys(profile, &keys).unwrap().open_rtp(&mut packet).unwrap();
        assert_eq!((opened.index, &packet[..opened.len]), (0xF17B, &bytes(RTP)[..]));
    }
}

#[test]
fn gcm_seals_and_opens_the_rtcp_packets_of_rfc_7714_17() {
    for (profile, sealed) in [
        (
            Profile::AeadAes128Gcm,
            "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda4ce09b4686303ded\
             0bb9275bc84aa45896cf4d2fc5abf87245d9eade800005d4",
        ),
        (
            Profile::AeadAes256Gcm,
            "81c8000d4d617273d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be8415f658c61de047\
             6f1b6fad1d1eb30c4446839f57ff6f6cb26ac3be800005d4",
        ),
    ] {
        let keys = quid_pro_quo(profile);
        let mut sealer = Sealer::with_session_keys(profile, &keys).unwrap();
        let mut packet = seal_rtcp_number(&mut sealer, &bytes(RTCP), RTCP_INDEX);
        assert_eq!(packet, bytes(sealed), "{profile:?}");
        let len = Opener::with_session_keys(profile, &keys).unwrap().open_rtcp(&mut packet).unwrap();
        assert_eq!(packet[..len], bytes(RTCP));
    }
}

/// RFC 7714 17.3: authentic, but the E flag is clear; a WebRTC peer must not send that (RFC 8827 6.5).
#[test]
fn rtcp_that_is_only_tagged_is_refused() {
    let profile = Profile::AeadAes128Gcm;
    let mut packet = bytes(RTCP);
    packet.extend(bytes("841dd9683dd78ec92ae58790125f62b3000005d4"));
    let mut opener = Opener::with_session_keys(profile, &quid_pro_quo(profile)).unwrap();
    assert_eq!(opener.open_rtcp(&mut packet), Err(OpenError::Forged));
}
