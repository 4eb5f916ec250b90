//! The floor of forwarders that send one packet a call: receive, open once, and for every subscriber copy, rewrite the
//! header, seal with its own key, `sendto`. No RTCP, no routing, no repair, no state but the keys.

use std::io::{self, BufRead, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use parley_core::srtp::{MAX_OVERHEAD, Opener, Profile, Sealer};
use parley_core::wire::rtp::{self, RtpHeader};
use serde::Deserialize;

use crate::driver::unhex;
use crate::sys::{self, Poller};

const SOCKET_BUFFER: i32 = 8 << 20;
const INPUT: u64 = 1;
const MEDIA: u64 = 0;

/// `{"host": "127.0.0.1", "profile": "AEAD_AES_128_GCM", "publishers": [...], "subscribers": [...]}`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Setting {
    host: String,
    profile: String,
    /// The id of the transport-wide number.
    #[serde(default)]
    transport_cc: Option<u8>,
    publishers: Vec<End>,
    subscribers: Vec<End>,
}

/// A peer's address, and the key of what comes from it or goes to it, in hex.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    ip: String,
    port: u16,
    key: String,
}

struct Subscriber {
    address: SocketAddr,
    sealer: Sealer,
    /// What is added to a publisher's sequence number, and the transport-wide counter that a real one writes.
    offset: u16,
    wide: u16,
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

impl End {
    fn address(&self) -> io::Result<SocketAddr> {
        let ip: IpAddr = self.ip.parse().map_err(invalid)?;
        Ok(SocketAddr::new(ip, self.port))
    }
}

/// Forwards from all publishers to all subscribers.
pub struct Floor {
    socket: UdpSocket,
    transport_cc: Option<u8>,
    publishers: Vec<(SocketAddr, Opener)>,
    subscribers: Vec<Subscriber>,
    /// Packets that went out.
    pub forwarded: u64,
    /// Packets that the socket did not take.
    pub refused: u64,
}

impl Floor {
    fn new(setting: &Setting) -> io::Result<Self> {
        let profile = Profile::from_name(&setting.profile).ok_or_else(|| invalid("there is no such SRTP profile"))?;
        let socket = UdpSocket::bind((setting.host.as_str(), 0))?;
        socket.set_nonblocking(true)?;
        sys::set_buffers(socket.as_fd(), SOCKET_BUFFER);
        let mut publishers = Vec::new();
        for end in &setting.publishers {
            let opener = Opener::new(profile, &unhex(&end.key).map_err(invalid)?);
            publishers.push((end.address()?, opener.map_err(|_| invalid("a key has a wrong length"))?));
        }
        let mut subscribers = Vec::new();
        for (end, offset) in setting.subscribers.iter().zip(0..) {
            let sealer = Sealer::new(profile, &unhex(&end.key).map_err(invalid)?);
            let sealer = sealer.map_err(|_| invalid("a key has a wrong length"))?;
            subscribers.push(Subscriber { address: end.address()?, sealer, offset, wide: 0 });
        }
        Ok(Self { socket, transport_cc: setting.transport_cc, publishers, subscribers, forwarded: 0, refused: 0 })
    }

    /// Forwards what waits at the socket.
    fn drain(&mut self) -> io::Result<()> {
        let mut packet = [0; sys::MAX_DATAGRAM];
        loop {
            let (length, from) = match self.socket.recv_from(&mut packet) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error),
            };
            let is_media = length > 12 && (128..192).contains(&packet[0]) && !(192..=223).contains(&packet[1]);
            let Some((_, opener)) = self.publishers.iter_mut().find(|(known, _)| is_media && *known == from) else {
                continue;
            };
            let Ok(opened) = opener.open_rtp(&mut packet[..length]) else { continue };
            self.forward(&packet[..opened.len], opened.index);
        }
    }

    /// Where the transport-wide number of a packet is.
    fn wide_number_at(&self, header: &RtpHeader, packet: &[u8]) -> Option<usize> {
        let id = self.transport_cc?;
        let (_, value) = header.extensions(packet).find(|(found, value)| *found == id && value.len() == 2)?;
        Some(value.as_ptr().addr() - packet.as_ptr().addr())
    }

    fn forward(&mut self, packet: &[u8], index: u64) {
        let Ok(header) = rtp::parse(packet) else { return };
        let wide_at = self.wide_number_at(&header, packet);
        let mut copy = [0; sys::MAX_DATAGRAM + MAX_OVERHEAD];
        for subscriber in &mut self.subscribers {
            let number = index + u64::from(subscriber.offset);
            subscriber.wide = subscriber.wide.wrapping_add(1);
            let [.., high, low] = number.to_be_bytes();
            copy[..packet.len()].copy_from_slice(packet);
            copy[2..4].copy_from_slice(&[high, low]);
            if let Some(place) = wide_at.and_then(|at| copy.get_mut(at..at + 2)) {
                place.copy_from_slice(&subscriber.wide.to_be_bytes());
            }
            let Some(length) = subscriber.sealer.seal_rtp(&mut copy, header.header_len, packet.len(), number) else {
                continue;
            };
            match self.socket.send_to(&copy[..length], subscriber.address) {
                Ok(_) => self.forwarded += 1,
                Err(_) => self.refused += 1,
            }
        }
    }
}

/// Reads a line of JSON with the peers, answers with the address, and forwards until the input ends. Then it says how
/// much went out. Fails for a line that is not understood and as sockets do.
pub fn run(mut input: impl BufRead + AsFd, mut output: impl Write) -> io::Result<()> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    let setting: Setting = serde_json::from_str(&line).map_err(invalid)?;
    let mut floor = Floor::new(&setting)?;
    let address = floor.socket.local_addr()?;
    writeln!(output, "{{\"ip\":\"{}\",\"port\":{}}}", address.ip(), address.port())?;
    output.flush()?;
    let mut poller = Poller::new()?;
    poller.add(floor.socket.as_fd(), MEDIA)?;
    poller.add(input.as_fd(), INPUT)?;
    loop {
        let ready = poller.wait(Duration::from_secs(1))?;
        for place in 0..ready {
            match poller.token(place) {
                Some(MEDIA) => floor.drain()?,
                _ => {
                    let (forwarded, refused) = (floor.forwarded, floor.refused);
                    let cpu = sys::process_cpu().as_secs_f64();
                    writeln!(output, "{{\"packets\":{forwarded},\"refused\":{refused},\"cpu_s\":{cpu}}}")?;
                    return output.flush();
                }
            }
        }
    }
}
