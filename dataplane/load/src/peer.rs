//! One peer: a socket, an ICE agent, a DTLS association, SRTP both ways, and its streams.

use core::time::Duration;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::SystemTime;

use parley_core::srtp::{MAX_OVERHEAD, OpenError, Opener, Profile, Sealer};
use parley_core::time::Instant;
use parley_core::wire::rtcp::{self, Buffer, Packet};
use parley_core::wire::rtp;

use crate::chance;
use crate::command::StreamSpec;
use crate::dtls::{Failure, Handshake, Identity, Keys};
use crate::ice::{Agent, Credentials, Outcome};
use crate::incoming::Incoming;
use crate::outgoing::{Frame, OutStream};
use crate::sys;

const SOCKET_BUFFER: i32 = 1 << 20;
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Seconds from 1900 to 1970.
const NTP_OFFSET: u64 = 2_208_988_800;

/// How far a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Not asked to connect.
    New,
    /// ICE or DTLS goes on.
    Connecting,
    /// It has keys of this profile.
    Connected(Profile),
    /// Why it never will.
    Failed(Failure),
}

/// What a peer needs from the process.
pub struct Surroundings<'a> {
    /// The certificate.
    pub identity: &'a mut Identity,
    /// The moment.
    pub now: Instant,
    /// The same on the clock that DTLS uses.
    pub wall: std::time::Instant,
}

struct Target {
    remote: SocketAddr,
    fingerprint: String,
    profiles: Vec<Profile>,
}

struct Srtp {
    sealer: Sealer,
    opener: Opener,
}

/// One peer.
pub struct Peer {
    /// What commands call it.
    pub id: String,
    /// Its socket.
    pub socket: UdpSocket,
    /// The address of the socket.
    pub local: SocketAddr,
    /// Its side of ICE.
    pub credentials: Credentials,
    /// How far it is.
    pub stage: Stage,
    /// What it receives.
    pub incoming: Incoming,
    /// RTP packets sent in this window.
    pub sent: u64,
    /// Those that the socket did not take.
    pub unsent: u64,
    streams: Vec<OutStream>,
    target: Option<Target>,
    agent: Option<Agent>,
    handshake: Option<Handshake>,
    srtp: Option<Srtp>,
    wide: u16,
    ssrc: u32,
    next_report: Instant,
    next_feedback: Instant,
}

impl Peer {
    /// Binds a socket. Fails as `bind` does.
    pub fn new(id: String, host: std::net::IpAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind((host, 0))?;
        socket.set_nonblocking(true)?;
        sys::set_buffers(socket.as_fd(), SOCKET_BUFFER);
        let local = socket.local_addr()?;
        Ok(Self {
            id,
            socket,
            local,
            credentials: Credentials::random(),
            stage: Stage::New,
            incoming: Incoming::default(),
            sent: 0,
            unsent: 0,
            streams: Vec::new(),
            target: None,
            agent: None,
            handshake: None,
            srtp: None,
            wide: 0,
            ssrc: chance::number(),
            next_report: Instant::default(),
            next_feedback: Instant::default(),
        })
    }

    // --- connecting ---

    /// Begins ICE towards a server; DTLS follows.
    pub fn connect(
        &mut self,
        remote: SocketAddr,
        theirs: Credentials,
        fingerprint: String,
        profiles: Vec<Profile>,
        now: Instant,
    ) -> io::Result<()> {
        self.socket.connect(remote)?;
        self.agent = Some(Agent::new(self.credentials.clone(), theirs, now));
        self.target = Some(Target { remote, fingerprint, profiles });
        self.stage = Stage::Connecting;
        Ok(())
    }

    /// Takes keys in place of a handshake.
    pub fn preset(&mut self, remote: SocketAddr, keys: &Keys) -> Result<(), Failure> {
        self.socket.connect(remote).map_err(|error| error.to_string())?;
        self.set_keys(keys)
    }

    fn set_keys(&mut self, keys: &Keys) -> Result<(), Failure> {
        let sealer = Sealer::new(keys.profile, &keys.send).map_err(|_| "the key to send with has a wrong length")?;
        let opener =
            Opener::new(keys.profile, &keys.receive).map_err(|_| "the key to receive with has a wrong length")?;
        self.srtp = Some(Srtp { sealer, opener });
        self.stage = Stage::Connected(keys.profile);
        Ok(())
    }

    fn begin_handshake(&mut self, around: &mut Surroundings<'_>) -> Result<(), Failure> {
        let Some(target) = &self.target else { return Ok(()) };
        let addresses = (self.local, target.remote);
        let begun = around.identity.connect(addresses, &target.fingerprint, &target.profiles, around.wall)?;
        self.handshake = Some(begun);
        self.flush_handshake();
        Ok(())
    }

    fn flush_handshake(&mut self) {
        while let Some(datagram) = self.handshake.as_mut().and_then(Handshake::poll_transmit) {
            // What is lost here is repeated by the timer.
            let _ = self.socket.send(&datagram);
        }
    }

    fn fail(&mut self, why: Failure) {
        if !matches!(self.stage, Stage::Connected(_)) {
            self.stage = Stage::Failed(why);
        }
    }

    // --- what arrives ---

    /// Takes a datagram (RFC 7983 7).
    pub fn receive(&mut self, datagram: &mut [u8], around: &mut Surroundings<'_>) {
        match datagram.first() {
            Some(128..=191) => self.receive_media(datagram, around.now),
            Some(0..=3) => self.receive_stun(datagram, around),
            Some(20..=63) => self.receive_dtls(datagram, around),
            _ => self.incoming.counts.bad += 1,
        }
    }

    fn receive_stun(&mut self, datagram: &[u8], around: &mut Surroundings<'_>) {
        let (Some(agent), Some(target)) = (&mut self.agent, &self.target) else { return };
        match agent.receive(datagram, target.remote) {
            Outcome::Nothing => {}
            Outcome::Answer(reply) => {
                // A lost answer is asked for again.
                let _ = self.socket.send(reply.as_slice());
            }
            Outcome::Connected => {
                if let Err(why) = self.begin_handshake(around) {
                    self.fail(why);
                }
            }
        }
    }

    fn receive_dtls(&mut self, datagram: &[u8], around: &Surroundings<'_>) {
        let Some(handshake) = &mut self.handshake else { return };
        let outcome = handshake.receive(datagram, around.wall);
        self.flush_handshake();
        let set = outcome.and_then(|keys| keys.map_or(Ok(()), |keys| self.set_keys(&keys)));
        if let Err(why) = set {
            self.fail(why);
        }
    }

    fn receive_media(&mut self, datagram: &mut [u8], now: Instant) {
        let Some(srtp) = &mut self.srtp else { return };
        if matches!(datagram.get(1), Some(192..=223)) {
            match srtp.opener.open_rtcp(datagram) {
                Ok(length) => self.take_rtcp(datagram.get(..length).unwrap_or_default(), now),
                Err(error) => self.refuse(error),
            }
            return;
        }
        match srtp.opener.open_rtp(datagram) {
            Ok(opened) => self.incoming.take(datagram.get(..opened.len).unwrap_or_default(), now),
            Err(error) => self.refuse(error),
        }
    }

    fn refuse(&mut self, error: OpenError) {
        let counts = &mut self.incoming.counts;
        *if matches!(error, OpenError::Replayed) { &mut counts.duplicated } else { &mut counts.bad } += 1;
    }

    fn take_rtcp(&mut self, data: &[u8], now: Instant) {
        let Ok(compound) = rtcp::parse(data) else {
            self.incoming.counts.bad += 1;
            return;
        };
        for packet in compound {
            self.incoming.counts.rtcp += 1;
            match packet {
                Packet::PictureLoss { media_ssrc } => self.want_key_frame(media_ssrc),
                Packet::FullIntra { entries } => {
                    for ssrc in entries {
                        self.want_key_frame(ssrc);
                    }
                }
                Packet::SenderReport { ssrc, ntp, .. } => self.incoming.note_sender_report(ssrc, ntp, now),
                Packet::Nack { numbers, .. } => self.incoming.counts.nacked += numbers.count() as u64,
                _ => {}
            }
        }
    }

    fn want_key_frame(&mut self, ssrc: u32) {
        self.incoming.counts.key_frame_requests += 1;
        for stream in self.streams.iter_mut().filter(|stream| stream.ssrc() == ssrc) {
            stream.want_key_frame();
        }
    }

    // --- what is sent ---

    /// The place of a stream, which goes on where it was if it is known.
    pub fn set_stream(&mut self, spec: StreamSpec) -> usize {
        if let Some(place) = self.streams.iter().position(|stream| stream.ssrc() == spec.ssrc) {
            self.streams[place].respecify(spec);
            return place;
        }
        self.streams.push(OutStream::new(spec));
        self.streams.len() - 1
    }

    /// A stream's interval in microseconds and its phase.
    #[must_use]
    pub fn timing(&self, place: usize) -> Option<(f64, f64)> {
        self.streams.get(place).map(|stream| (stream.interval(), stream.phase()))
    }

    /// Sends a frame of a stream.
    pub fn send_frame(&mut self, place: usize, now: Instant, frame: &mut Frame) {
        let (Some(stream), Some(srtp)) = (self.streams.get_mut(place), &self.srtp) else { return };
        if !stream.write_frame(now, &mut self.wide, &srtp.sealer, frame) {
            return;
        }
        let sent = sys::send_all(self.socket.as_fd(), frame.datagrams()).unwrap_or(0);
        self.sent += sent as u64;
        self.unsent += (frame.count() - sent) as u64;
    }

    /// Does what is due: checks, handshake flights, reports, feedback. The next call is due at the time that comes back.
    pub fn tend(&mut self, around: &Surroundings<'_>) -> Instant {
        let now = around.now;
        if let Some(check) = self.agent.as_mut().and_then(|agent| agent.poll(now)) {
            let _ = self.socket.send(check.as_slice());
        }
        if self.stage == Stage::Connecting {
            if let Some(Err(why)) = self.handshake.as_mut().map(|handshake| handshake.tend(around.wall)) {
                self.fail(why);
            }
            self.flush_handshake();
            return now + Duration::from_millis(50);
        }
        self.send_feedback(now);
        if now >= self.next_report {
            self.next_report = now + REPORT_INTERVAL;
            self.send_reports(now);
        }
        let pause = self.incoming.spec().map_or(250, |spec| spec.feedback_ms.clamp(5, 250));
        now + Duration::from_millis(u64::from(pause))
    }

    fn send_feedback(&mut self, now: Instant) {
        let Some(spec) = self.incoming.spec().filter(|spec| spec.rtcp) else { return };
        if now < self.next_feedback {
            return;
        }
        // The call that is due may come some microseconds early.
        self.next_feedback = now + Duration::from_millis(u64::from(spec.feedback_ms)) - Duration::from_millis(1);
        let mut buffer = Buffer::new();
        while self.incoming.write_feedback(&mut buffer, self.ssrc) {
            self.send_rtcp(&mut buffer);
        }
        if self.incoming.write_nacks(&mut buffer, self.ssrc, now) {
            self.send_rtcp(&mut buffer);
        }
    }

    fn send_reports(&mut self, now: Instant) {
        let mut buffer = Buffer::new();
        if self.incoming.spec().is_some_and(|spec| spec.rtcp) {
            self.incoming.write_report(&mut buffer, self.ssrc, now);
            rtcp::write_cname(&mut buffer, self.ssrc, &self.id);
            self.send_rtcp(&mut buffer);
        }
        for place in 0..self.streams.len() {
            self.streams[place].write_report(&mut buffer, ntp_now());
            self.send_rtcp(&mut buffer);
        }
    }

    fn send_rtcp(&mut self, buffer: &mut Buffer) {
        let mut sealed = [0; rtp::MAX_DATAGRAM + 2 * MAX_OVERHEAD];
        let length = buffer.len();
        if let (Some(srtp), Some(room)) = (&mut self.srtp, sealed.get_mut(..length)) {
            room.copy_from_slice(buffer.as_slice());
            if let Some(sealed) = srtp.sealer.seal_rtcp(&mut sealed, length).and_then(|length| sealed.get(..length)) {
                // RTCP is repeated by its nature.
                let _ = self.socket.send(sealed);
            }
        }
        buffer.clear();
    }
}

/// The time of day in 1/2^32 s since 1900 (RFC 3550 4).
fn ntp_now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    ((since.as_secs() + NTP_OFFSET) << 32) | ((u64::from(since.subsec_nanos()) << 32) / 1_000_000_000)
}
