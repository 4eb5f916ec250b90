//! What the ends of a transport share: addresses, keys, numbers of payloads and extensions.

use parley_core::engine::Path;
use parley_core::engine::command::{Credentials, Keys, TrackCodec};
use parley_core::payload::Codec;
use parley_core::srtp::{Opener, Profile, Sealer};
use parley_core::wire::rtp::ExtensionIds;
use parley_core::wire::stun;
use std::net::SocketAddr;
use std::sync::Arc;

pub const PROFILE: Profile = Profile::AeadAes128Gcm;
pub const AUDIO: TrackCodec =
    TrackCodec { codec: Codec::Opus, payload_type: 111, clock_rate: 48_000, rtx_payload_type: None, has_nack: false };
pub const VIDEO: TrackCodec =
    TrackCodec { codec: Codec::Vp8, payload_type: 96, clock_rate: 90_000, rtx_payload_type: Some(97), has_nack: true };
pub const MID: u8 = 1;
pub const RID: u8 = 2;
pub const TRANSPORT_CC: u8 = 3;
const PASSWORD: &str = "a password of an end of a transport";

pub fn extensions() -> ExtensionIds {
    ExtensionIds { mid: Some(MID), rid: Some(RID), transport_cc: Some(TRANSPORT_CC), ..ExtensionIds::default() }
}

/// The end `index` of the simulation: 0 is the publisher's.
#[derive(Clone, Debug)]
pub struct End {
    pub name: Arc<str>,
    pub path: Path,
    index: u8,
    checks: u8,
}

impl End {
    pub fn new(index: u8) -> Self {
        let name = format!("end{index}").into();
        Self { name, path: Path::Udp(SocketAddr::from(([10, 0, 0, index], 5_000))), index, checks: 0 }
    }

    pub fn credentials(&self) -> Credentials {
        Credentials { ufrag: self.name.clone(), pwd: PASSWORD.into() }
    }

    fn key(&self, is_ours: bool) -> Vec<u8> {
        vec![self.index * 2 + u8::from(is_ours); PROFILE.key_len() + PROFILE.salt_len()]
    }

    /// The engine's view of the keys.
    pub fn keys(&self) -> Keys {
        Keys { profile: PROFILE, receive: self.key(false), send: self.key(true) }
    }

    pub fn sealer(&self) -> Sealer {
        Sealer::new(PROFILE, &self.key(false)).expect("a key of the profile's length")
    }

    pub fn opener(&self) -> Opener {
        Opener::new(PROFILE, &self.key(true)).expect("a key of the profile's length")
    }

    /// A check that nominates the pair and renews consent.
    pub fn check(&mut self) -> Vec<u8> {
        self.checks = self.checks.wrapping_add(1);
        let username = format!("{}:peer", self.name);
        stun::binding_request([self.checks; 12], &username, PASSWORD, 1, true, 7).as_slice().to_vec()
    }
}

/// Seals an RTCP compound.
pub fn seal_rtcp(sealer: &mut Sealer, plain: &[u8]) -> Vec<u8> {
    let mut sealed = plain.to_vec();
    sealed.resize(plain.len() + parley_core::srtp::MAX_OVERHEAD, 0);
    let len = sealer.seal_rtcp(&mut sealed, plain.len()).expect("there is room");
    sealed.truncate(len);
    sealed
}

pub fn is_rtcp(datagram: &[u8]) -> bool {
    datagram.get(1).is_some_and(|kind| (192..=223).contains(kind))
}
