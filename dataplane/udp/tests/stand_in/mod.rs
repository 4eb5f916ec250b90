//! An engine that does what a datagram's first byte says, so that tests see the sockets and threads alone.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part, and fails by panicking")]

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant as Wall};

use parley_core::engine::batch::RunSlot;
use parley_core::engine::event::{LinkState, Snapshot};
use parley_core::engine::pipe::{PipeNotice, PipedPacket};
use parley_core::engine::{Batch, Command, Event, Outlet, Path, Stats};
use parley_core::time::Instant;
use parley_udp::node::{Node, NodeConfig};
use parley_udp::worker::PacketEngine;

/// Answers with the same bytes.
pub const ECHO: u8 = b'E';
/// Answers with as many datagrams as the second byte says, each of the next two bytes' length, then one of two more.
pub const RUN: u8 = b'R';
/// Becomes an event.
pub const EVENT: u8 = b'V';
/// Is sent on to the pipe.
pub const PIPE: u8 = b'P';
/// Answers to an IPv6 address, which an IPv4 socket cannot reach.
pub const LOST: u8 = b'L';
/// Keeps the worker busy for as many milliseconds as the second byte says.
pub const BUSY: u8 = b'B';
/// Breaks the worker.
pub const PANIC: u8 = b'X';
/// The transport fails.
pub const FAIL: u8 = b'F';

/// See the module.
#[derive(Default)]
pub struct StandIn {
    pub index: usize,
    events: VecDeque<Event>,
    stats: Stats,
    pipe: Option<u32>,
    next: Instant,
}

fn event(name: &str, datagram: &[u8]) -> Event {
    Event::DtlsReceived { transport: Arc::from(name), datagram: datagram.to_vec() }
}

fn answer(to: Path, datagram: &[u8], batch: &mut Batch, outlet: &mut dyn Outlet) {
    if !batch.has_room() {
        outlet.flush(batch);
    }
    batch.push(to, datagram);
}

fn run(to: Path, sizes: impl Iterator<Item = usize>, batch: &mut Batch, outlet: &mut dyn Outlet) {
    let mut slot = RunSlot::default();
    for (number, size) in sizes.enumerate() {
        if !batch.has_room() {
            outlet.flush(batch);
        }
        let space = batch.space();
        space[..size].fill(u8::try_from(number % 256).unwrap());
        batch.commit(size, to, &mut slot);
    }
}

fn packet_info() -> parley_core::payload::PacketInfo {
    parley_core::payload::PacketInfo { temporal: 2, ..Default::default() }
}

fn piped(payload: &[u8]) -> PipedPacket<'_> {
    PipedPacket {
        place: 2,
        ssrc: 77,
        number: 1 << 33,
        timestamp: 90_000,
        marker: true,
        padding: 0,
        level: 0xFF,
        orientation: 1,
        frame: 9,
        info: packet_info(),
        descriptor: b"descriptor",
        payload,
    }
}

impl PacketEngine for StandIn {
    fn receive(&mut self, _: Instant, from: Path, datagram: &mut [u8], batch: &mut Batch, outlet: &mut dyn Outlet) {
        self.stats.received_packets += 1;
        let word = |at: usize| usize::from(u16::from_be_bytes([datagram[at], datagram[at + 1]]));
        match datagram.first() {
            None => answer(from, b"empty", batch, outlet),
            Some(0..=3 | &ECHO) => answer(from, datagram, batch, outlet),
            Some(&RUN) => {
                let sizes = std::iter::repeat_n(word(2), usize::from(datagram[1])).chain([word(4)]);
                run(from, sizes.filter(|size| *size > 0), batch, outlet);
            }
            Some(&EVENT) => self.events.push_back(event("event", &datagram[1..])),
            Some(&PIPE) => {
                if let Some(pipe) = self.pipe {
                    outlet.piped(pipe, &piped(&datagram[1..]));
                }
            }
            Some(&LOST) => answer(Path::Udp("[2001:db8::1]:9".parse().unwrap()), b"x", batch, outlet),
            Some(&BUSY) => std::thread::sleep(Duration::from_millis(u64::from(datagram[1]))),
            Some(&PANIC) => panic!("asked for by a test"),
            Some(&FAIL) => {
                let transport = Arc::from(std::str::from_utf8(&datagram[1..]).unwrap());
                self.events.push_back(Event::IceChanged { transport, state: LinkState::Failed });
            }
            Some(_) => answer(from, datagram.len().to_string().as_bytes(), batch, outlet),
        }
    }

    fn receive_piped(
        &mut self,
        _: Instant,
        pipe: u32,
        packet: &PipedPacket<'_>,
        _: &mut Batch,
        outlet: &mut dyn Outlet,
    ) {
        let expected = piped(packet.payload);
        assert_eq!(format!("{packet:?}"), format!("{expected:?}"));
        self.events.push_back(event("piped", packet.payload));
        outlet.notify(pipe, PipeNotice::KeyFrame { place: packet.place });
    }

    fn receive_notice(&mut self, _: Instant, _: u32, notice: PipeNotice, _: &mut Batch, _: &mut dyn Outlet) {
        self.events.push_back(event("notice", format!("{notice:?}").as_bytes()));
    }

    fn forward(&mut self, _: Instant, _: &mut Batch, _: &mut dyn Outlet) {
        self.stats.forwarded_packets += 1;
    }

    fn apply(&mut self, _: Instant, command: Command, _: &mut Batch, _: &mut dyn Outlet) {
        match command {
            Command::AddTransport { .. } => self.stats.transports += 1,
            // counts the commands, and those out of order
            Command::SetLastN { count: Some(number), .. } => {
                self.stats.senders += usize::from(number != self.stats.tracks);
                self.stats.tracks += 1;
            }
            Command::OpenPipe { pipe, .. } => self.pipe = Some(pipe),
            Command::ClosePipe { .. } => self.pipe = None,
            other => self.events.push_back(event("command", format!("{other:?}").as_bytes())),
        }
    }

    fn tick(&mut self, now: Instant, _: &mut Batch, _: &mut dyn Outlet) {
        self.next = now + Duration::from_millis(20);
    }

    fn next_wakeup(&self) -> Instant {
        self.next
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn stats(&self) -> Stats {
        self.stats.clone()
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::default()
    }

    fn tcp_closed(&mut self, _now: Instant, connection: u32) {
        self.events.push_back(event("closed", &connection.to_be_bytes()));
    }
}

/// A node of stand-ins on the IPv4 loopback.
pub fn node(workers: usize) -> Node {
    let config = NodeConfig { host: Ipv4Addr::LOCALHOST.into(), base_port: 0, workers, seed: 1 };
    Node::start_with(&config, |index| StandIn { index, ..StandIn::default() }).unwrap()
}

/// The address of a worker.
pub fn address(node: &Node, worker: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, node.ports()[worker]))
}

/// A UDP socket towards a worker that waits at most two seconds for an answer.
pub fn client(node: &Node, worker: usize) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(address(node, worker)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket
}

/// The next datagram.
pub fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 70_000];
    let len = socket.recv(&mut buffer).unwrap();
    buffer.truncate(len);
    buffer
}

/// A `RUN` request.
pub fn run_of(count: u8, size: u16, last: u16) -> Vec<u8> {
    [&[RUN, count][..], &size.to_be_bytes(), &last.to_be_bytes()].concat()
}

/// How much was dropped for a reason.
pub fn dropped(node: &Node, reason: &str) -> u64 {
    node.stats().dropped.iter().find(|(name, _)| *name == reason).unwrap().1
}

/// Waits until something is so; fails after five seconds.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Wall::now() + Duration::from_secs(5);
    while !is_so() {
        assert!(Wall::now() < end, "not within five seconds: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The next event of the given name; others are skipped.
pub fn await_event(node: &Node, name: &str) -> Vec<u8> {
    let mut found = None;
    eventually(name, || {
        for event in node.poll_events(1) {
            if let Event::DtlsReceived { transport, datagram } = event
                && *transport == *name
            {
                found = Some(datagram);
            }
        }
        found.is_some()
    });
    found.unwrap()
}
