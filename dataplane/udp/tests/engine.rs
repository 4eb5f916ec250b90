//! Real engines behind real sockets: ICE, SRTP and forwarding over UDP, over TCP and from worker to worker.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parley_core::engine::command::{Credentials, Keys, SetSender, SetTrack, TrackCodec};
use parley_core::engine::event::LinkState;
use parley_core::engine::{Command, Event};
use parley_core::payload::Codec;
use parley_core::srtp::{Opener, Profile, Sealer};
use parley_core::wire::rtp::ExtensionIds;
use parley_core::wire::{rtp, stun};
use parley_udp::node::{Node, NodeConfig};

const PROFILE: Profile = Profile::AeadAes128Gcm;
const PWD: &str = "a password of 22 chars";
const MEDIA_SSRC: u32 = 0x1111;
const SENT_SSRC: u32 = 0x2222;
const OPUS: TrackCodec =
    TrackCodec { codec: Codec::Opus, payload_type: 111, clock_rate: 48_000, rtx_payload_type: None, has_nack: false };

fn id(text: &str) -> Arc<str> {
    Arc::from(text)
}

fn node(workers: usize) -> Node {
    let config = NodeConfig { host: Ipv4Addr::LOCALHOST.into(), base_port: 0, workers, seed: 7 };
    Node::start(&config).unwrap()
}

/// How a peer talks to the node.
enum Wire {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

/// A browser's end of a transport.
struct Peer {
    wire: Wire,
    name: &'static str,
    sealer: Sealer,
    opener: Opener,
}

fn key(name: &str, direction: u8) -> Vec<u8> {
    let mut key = vec![direction; PROFILE.key_len() + PROFILE.salt_len()];
    key[0] = name.as_bytes()[0];
    key
}

impl Peer {
    /// Adds a transport to the node and connects to its worker.
    fn join(node: &Node, name: &'static str, worker: usize, over_tcp: bool) -> Self {
        let keys = Keys { profile: PROFILE, receive: key(name, 1), send: key(name, 2) };
        let credentials = Credentials { ufrag: id(name), pwd: id(PWD) };
        node.apply([
            (worker, Command::AddTransport { transport: id(name), credentials }),
            (0, Command::SetKeys { transport: id(name), keys }),
        ]);
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, node.ports()[worker]));
        let wait = Some(Duration::from_secs(2));
        let wire = if over_tcp {
            let stream = TcpStream::connect(to).unwrap();
            stream.set_read_timeout(wait).unwrap();
            Wire::Tcp(stream)
        } else {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            socket.connect(to).unwrap();
            socket.set_read_timeout(wait).unwrap();
            Wire::Udp(socket)
        };
        let sealer = Sealer::new(PROFILE, &key(name, 1)).unwrap();
        let opener = Opener::new(PROFILE, &key(name, 2)).unwrap();
        let mut peer = Self { wire, name, sealer, opener };
        peer.check();
        peer
    }

    fn local(&self) -> SocketAddr {
        match &self.wire {
            Wire::Udp(socket) => socket.local_addr().unwrap(),
            Wire::Tcp(stream) => stream.local_addr().unwrap(),
        }
    }

    /// A nominating check, answered with the address that it came from.
    fn check(&mut self) {
        let username = format!("{}:peer", self.name);
        let request = stun::binding_request([9; 12], &username, PWD, 1_000, true, 5);
        self.send(request.as_slice());
        loop {
            let answer = self.receive();
            let Ok(answer) = stun::parse(&answer) else { continue };
            assert!(answer.has_integrity(PWD));
            assert_eq!((answer.kind, answer.mapped), (stun::BINDING_SUCCESS, Some(self.local())));
            return;
        }
    }

    fn send(&mut self, datagram: &[u8]) {
        match &mut self.wire {
            Wire::Udp(socket) => assert_eq!(socket.send(datagram).unwrap(), datagram.len()),
            Wire::Tcp(stream) => {
                let prefix = u16::try_from(datagram.len()).unwrap().to_be_bytes();
                stream.write_all(&[&prefix[..], datagram].concat()).unwrap();
            }
        }
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut datagram = vec![0; 2_000];
        let len = match &mut self.wire {
            Wire::Udp(socket) => socket.recv(&mut datagram).unwrap(),
            Wire::Tcp(stream) => {
                let mut prefix = [0; 2];
                stream.read_exact(&mut prefix).unwrap();
                let len = usize::from(u16::from_be_bytes(prefix));
                stream.read_exact(&mut datagram[..len]).unwrap();
                len
            }
        };
        datagram.truncate(len);
        datagram
    }

    /// Sends an Opus packet of the published track.
    fn publish(&mut self, sequence: u16, payload: &[u8]) {
        let mut packet = vec![0x80, OPUS.payload_type];
        packet.extend(sequence.to_be_bytes());
        packet.extend((u32::from(sequence) * 960).to_be_bytes());
        packet.extend(MEDIA_SSRC.to_be_bytes());
        packet.extend(payload);
        let len = packet.len();
        packet.resize(len + 16, 0);
        self.sealer.seal_rtp(&mut packet, 12, len, sequence.into()).unwrap();
        self.send(&packet);
    }

    /// The payload of the next RTP packet of the subscription.
    fn next_payload(&mut self) -> Vec<u8> {
        loop {
            let mut datagram = self.receive();
            let is_media = datagram[0] >> 6 == 2 && !(192..=223).contains(&datagram[1]);
            if !is_media {
                continue;
            }
            let opened = self.opener.open_rtp(&mut datagram).unwrap();
            datagram.truncate(opened.len);
            let header = rtp::parse(&datagram).unwrap();
            assert_eq!(header.ssrc, SENT_SSRC);
            return header.payload(&datagram).to_vec();
        }
    }
}

fn set_track(transport: &str) -> Command {
    Command::SetTrack(SetTrack {
        transport: id(transport),
        track: id("track"),
        mid: id("0"),
        codec: OPUS,
        extensions: ExtensionIds::default(),
        ssrcs: vec![(MEDIA_SSRC, None)],
        rids: Vec::new(),
        is_screen: false,
    })
}

fn set_sender(transport: &str) -> Command {
    Command::SetSender(SetSender {
        sender: id(&format!("to {transport}")),
        transport: id(transport),
        track: id("track"),
        mid: id("0"),
        codec: OPUS,
        extensions: ExtensionIds::default(),
        ssrc: SENT_SSRC,
        rtx_ssrc: None,
        cname: id("node"),
    })
}

/// Waits for an event; fails after five seconds.
fn await_event(node: &Node, is_it: impl Fn(&Event) -> bool) {
    let end = Instant::now() + Duration::from_secs(5);
    let mut waiting = VecDeque::new();
    loop {
        waiting.extend(node.poll_events(100));
        match waiting.pop_front() {
            Some(event) if is_it(&event) => return,
            Some(_) => {}
            None => std::thread::sleep(Duration::from_millis(2)),
        }
        assert!(Instant::now() < end, "no such event within five seconds");
    }
}

fn is_link(event: &Event, name: &str, expected: LinkState) -> bool {
    matches!(event, Event::IceChanged { transport, state } if **transport == *name && *state == expected)
}

/// Publishes until the subscribers hear it, since commands to other workers take their time, then counts on order.
fn assert_forwarded(node: &Node, publisher: &mut Peer, subscribers: &mut [Peer]) {
    let mut sequence = 100;
    let mut publish = |payload: &[u8]| {
        sequence += 1;
        publisher.publish(sequence, payload);
        std::thread::sleep(Duration::from_millis(1));
    };
    let end = Instant::now() + Duration::from_secs(5);
    let mut heard = Vec::new();
    while heard.len() < subscribers.len() {
        assert!(Instant::now() < end, "not everybody hears the track");
        publish(b"first");
        heard.extend(node.poll_events(100).into_iter().filter(|event| matches!(event, Event::FirstForwarded { .. })));
    }
    for number in 0..200_u8 {
        publish(&[number; 80]);
    }
    for subscriber in subscribers {
        let mut payload = subscriber.next_payload();
        while payload == b"first" {
            payload = subscriber.next_payload();
        }
        for number in 0..200_u8 {
            assert_eq!(payload, [number; 80], "{}", subscriber.name);
            if number < 199 {
                payload = subscriber.next_payload();
            }
        }
    }
}

#[test]
fn a_track_is_forwarded_over_udp_and_tcp_and_to_another_worker() {
    let node = node(2);
    let mut publisher = Peer::join(&node, "publisher", 0, false);
    node.apply([(0, set_track("publisher"))]);
    let mut subscribers = [
        Peer::join(&node, "near", 0, false),
        Peer::join(&node, "tcp", 0, true),
        Peer::join(&node, "far", 1, false),
        Peer::join(&node, "far tcp", 1, true),
    ];
    for name in ["near", "tcp", "far", "far tcp"] {
        node.apply([(0, set_sender(name))]);
    }
    assert_forwarded(&node, &mut publisher, &mut subscribers);
    let snapshot = node.snapshot();
    let tracks: Vec<_> = snapshot.tracks.iter().map(|track| (&*track.track, track.senders)).collect();
    assert_eq!((tracks, snapshot.subscribers.len(), snapshot.answered), (vec![("track", 4)], 4, 2));
    assert!(node.is_healthy());
}

#[test]
fn a_publisher_over_tcp_is_heard() {
    let node = node(1);
    let mut publisher = Peer::join(&node, "publisher", 0, true);
    node.apply([(0, set_track("publisher"))]);
    let mut subscribers = [Peer::join(&node, "near", 0, false)];
    node.apply([(0, set_sender("near"))]);
    assert_forwarded(&node, &mut publisher, &mut subscribers);
}

#[test]
fn a_link_is_told_to_be_up_silent_and_lost() {
    let node = node(1);
    let _peer = Peer::join(&node, "peer", 0, false);
    await_event(&node, |event| is_link(event, "peer", LinkState::Connected));
    node.shift_clock(10_000_000);
    await_event(&node, |event| is_link(event, "peer", LinkState::Disconnected));
    node.shift_clock(25_000_000);
    await_event(&node, |event| is_link(event, "peer", LinkState::Failed));
}

#[test]
fn what_strangers_send_is_counted() {
    let node = node(1);
    let mut peer = Peer::join(&node, "peer", 0, false);
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, node.ports()[0]));
    for datagram in [&[][..], &[0x80; 2_000], &[0x80; 60], &[0x16; 60], &[0, 1, 2]] {
        stranger.send_to(datagram, to).unwrap();
    }
    peer.check();
    let count = |reason: &str| node.stats().dropped.iter().find(|(name, _)| *name == reason).unwrap().1;
    let end = Instant::now() + Duration::from_secs(5);
    while (count("oversize"), count("stranger"), count("bad-stun")) != (2, 2, 1) {
        assert!(Instant::now() < end, "{:?}", node.stats().dropped);
        std::thread::sleep(Duration::from_millis(5));
    }
}
