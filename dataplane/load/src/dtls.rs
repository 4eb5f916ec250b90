//! DTLS 1.2 as client, and the SRTP keys that it agrees on (RFC 5764). One certificate serves all peers of a process.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use parley_core::srtp::Profile;
use rtc_crypto::RTCCryptoProvider;
use rtc_dtls::config::{ConfigBuilder, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use rtc_shared::error::Error;

/// How long a flight waits for its answer.
const FLIGHT_INTERVAL: Duration = Duration::from_millis(500);
const EXPORTER_LABEL: &str = "EXTRACTOR-dtls_srtp";

/// What went wrong, in words.
pub type Failure = String;

/// The keys of both directions, each master key and salt.
#[derive(Debug)]
pub struct Keys {
    /// What the server chose.
    pub profile: Profile,
    /// Seals what we send.
    pub send: Vec<u8>,
    /// Opens what we receive.
    pub receive: Vec<u8>,
}

/// The certificate of this process, and the configurations made with it.
pub struct Identity {
    provider: Arc<dyn RTCCryptoProvider>,
    certificate: Certificate,
    fingerprint: String,
    configurations: HashMap<(String, Vec<Profile>), Arc<HandshakeConfig>>,
}

fn failure(error: impl std::fmt::Display) -> Failure {
    error.to_string()
}

/// SHA-256 of a certificate as SDP writes it (RFC 8122 5).
fn fingerprint_of(certificate: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    let mut text = String::with_capacity(95);
    for (place, byte) in digest.as_ref().iter().enumerate() {
        let colon = if place == 0 { "" } else { ":" };
        let _ = write!(text, "{colon}{byte:02X}"); // writing to a String does not fail
    }
    text
}

const fn protection_profile(profile: Profile) -> SrtpProtectionProfile {
    match profile {
        Profile::Aes128CmSha1_80 => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        Profile::AeadAes128Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
        Profile::AeadAes256Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
    }
}

fn profile_of(chosen: SrtpProtectionProfile) -> Option<Profile> {
    [Profile::Aes128CmSha1_80, Profile::AeadAes128Gcm, Profile::AeadAes256Gcm]
        .into_iter()
        .find(|profile| protection_profile(*profile) == chosen)
}

impl Identity {
    /// Makes a new ECDSA certificate.
    pub fn new() -> Result<Self, Failure> {
        let provider = rtc_crypto::default_provider().map_err(failure)?;
        let certificate =
            Certificate::generate_self_signed(vec!["parley-load".to_owned()], provider.crypto()).map_err(failure)?;
        let fingerprint = fingerprint_of(certificate.certificate.first().ok_or("there is no certificate")?);
        Ok(Self { provider, certificate, fingerprint, configurations: HashMap::new() })
    }

    /// SHA-256 of the certificate, colon-separated hex.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The configuration of a client that accepts one certificate and offers `profiles` in that order.
    fn configuration(&mut self, expected: &str, profiles: &[Profile]) -> Result<Arc<HandshakeConfig>, Failure> {
        let key = (expected.to_ascii_uppercase(), profiles.to_vec());
        if let Some(known) = self.configurations.get(&key) {
            return Ok(Arc::clone(known));
        }
        let wanted = key.0.clone();
        let built = ConfigBuilder::default()
            .with_crypto_provider(Arc::clone(&self.provider))
            .with_certificates(vec![self.certificate.clone()])
            .with_srtp_protection_profiles(profiles.iter().copied().map(protection_profile).collect())
            .with_flight_interval(FLIGHT_INTERVAL)
            // There is no chain: the fingerprint is what vouches for the certificate (RFC 5763 5).
            .with_insecure_skip_verify(true)
            .with_verify_peer_certificate(Some(Arc::new(move |chain, _| match chain.first() {
                Some(certificate) if fingerprint_of(certificate) == wanted => Ok(()),
                _ => Err(Error::Other("the certificate has another fingerprint".to_owned())),
            })))
            .build(true, None)
            .map_err(failure)?;
        let built = Arc::new(built);
        self.configurations.insert(key, Arc::clone(&built));
        Ok(built)
    }

    /// Begins a handshake; its first flight waits in `poll_transmit`.
    pub fn connect(
        &mut self,
        (local, remote): (SocketAddr, SocketAddr),
        expected_fingerprint: &str,
        profiles: &[Profile],
        now: Instant,
    ) -> Result<Handshake, Failure> {
        let configuration = self.configuration(expected_fingerprint, profiles)?;
        let mut endpoint = Endpoint::new(local, TransportProtocol::UDP, None);
        endpoint.connect(now, remote, configuration, None).map_err(failure)?;
        Ok(Handshake { endpoint, remote })
    }
}

/// One association. It lives on after the handshake, because a server whose last flight was lost asks again.
pub struct Handshake {
    endpoint: Endpoint,
    remote: SocketAddr,
}

impl Handshake {
    /// Takes a datagram; the keys once both sides are through.
    pub fn receive(&mut self, datagram: &[u8], now: Instant) -> Result<Option<Keys>, Failure> {
        let events = self.endpoint.read(now, self.remote, None, BytesMut::from(datagram)).map_err(failure)?;
        let is_complete = events.iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete));
        if is_complete { self.export().map(Some) } else { Ok(None) }
    }

    /// Client key, server key, client salt, server salt (RFC 5764 4.2).
    fn export(&self) -> Result<Keys, Failure> {
        let state = self.endpoint.get_connection_state(self.remote).ok_or("the association is gone")?;
        let profile = profile_of(state.srtp_protection_profile()).ok_or("no SRTP profile was agreed on")?;
        let (key, salt) = (profile.key_len(), profile.salt_len());
        let material = state.export_keying_material(EXPORTER_LABEL, &[], 2 * (key + salt)).map_err(failure)?;
        let (keys, salts) = material.as_ref().split_at_checked(2 * key).ok_or("the keys are too short")?;
        let side = |at: usize| -> Option<Vec<u8>> {
            Some([keys.get(at * key..(at + 1) * key)?, salts.get(at * salt..(at + 1) * salt)?].concat())
        };
        let (send, receive) = (side(0).ok_or("the keys are too short")?, side(1).ok_or("the keys are too short")?);
        Ok(Keys { profile, send, receive })
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.endpoint.poll_transmit().map(|transmit| transmit.message)
    }

    /// Repeats a flight whose time is over. Fails when it was repeated too often.
    pub fn tend(&mut self, now: Instant) -> Result<(), Failure> {
        self.endpoint.handle_timeout(self.remote, now).map_err(failure)
    }
}
