//! An engine in a steady state allocates nothing for a packet: receiving, forwarding, feedback, repairs and ticks are
//! counted by the process's allocator. Time is simulated; the peers seal and open as real ones do.
#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use parley_core::engine::command::{Credentials, Keys, SetSender, SetTrack, TrackCodec};
use parley_core::engine::{Batch, Command, Config, Engine, Outlet, Path};
use parley_core::payload::Codec;
use parley_core::srtp::{MAX_OVERHEAD, Opener, Profile, Sealer};
use parley_core::time::Instant;
use parley_core::wire::rtcp::{self, Buffer, ReportBlock};
use parley_core::wire::rtp::{self, ExtensionIds, ExtensionWriter};
use parley_core::wire::{stun, twcc};

/// Counts what is asked of the system's allocator while `COUNTING`.
struct Counting;

thread_local! {
    // Made at compile time and without a destructor: reading them allocates nothing.
    static COUNTING: Cell<bool> = const { Cell::new(false) };
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn note() {
    if COUNTING.get() {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    }
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps `alloc`'s contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `alloc` above, that is from the system's allocator, with this layout.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: as for `dealloc`; `size` is the caller's to get right.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations made by `work`.
fn counted(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    COUNTING.set(true);
    work();
    COUNTING.set(false);
    ALLOCATIONS.get() - before
}

const SUBSCRIBERS: u16 = 20;
const PUBLISHER_PORT: u16 = 1_000;
const PWD: &str = "a password of at least 22";
const IDS: ExtensionIds = ExtensionIds {
    mid: Some(4),
    rid: None,
    repaired_rid: None,
    audio_level: Some(1),
    transport_cc: Some(3),
    dependency_descriptor: None,
    orientation: None,
    abs_send_time: None,
};
const VIDEO: TrackCodec =
    TrackCodec { codec: Codec::Vp8, payload_type: 96, clock_rate: 90_000, rtx_payload_type: Some(97), has_nack: true };
const AUDIO: TrackCodec =
    TrackCodec { codec: Codec::Opus, payload_type: 111, clock_rate: 48_000, rtx_payload_type: None, has_nack: false };
const VIDEO_SSRC: u32 = 50;
const AUDIO_SSRC: u32 = 60;

fn path(port: u16) -> Path {
    Path::Udp(SocketAddr::from(([127, 0, 0, 1], port)))
}

fn keys(peer: u16) -> (Vec<u8>, Vec<u8>) {
    let [high, low] = peer.to_be_bytes();
    let mut theirs = vec![1; 28];
    theirs[..2].copy_from_slice(&[high, low]);
    let mut ours = theirs.clone();
    ours[27] = 9;
    (theirs, ours)
}

/// One peer's keys and what it has to tell the engine.
struct Far {
    port: u16,
    sealer: Sealer,
    opener: Opener,
    arrivals: Vec<(u64, Instant)>,
    /// When the link of 100 Mb/s has delivered what was sent before.
    idle_at: Instant,
    next_wide: u64,
    feedbacks: u8,
    lost: Vec<u16>,
    seen: u64,
    received: u64,
    highest: u16,
}

impl Far {
    fn new(port: u16) -> Self {
        let (theirs, ours) = keys(port);
        Self {
            port,
            sealer: Sealer::new(Profile::AeadAes128Gcm, &theirs).unwrap(),
            opener: Opener::new(Profile::AeadAes128Gcm, &ours).unwrap(),
            arrivals: Vec::new(),
            idle_at: Instant::default(),
            next_wide: 1 << 16,
            feedbacks: 0,
            lost: Vec::new(),
            seen: 0,
            received: 0,
            highest: 0,
        }
    }

    /// Takes a datagram of the engine's; one packet of video in 50 is lost on the way.
    fn take(&mut self, now: Instant, datagram: &[u8]) {
        if !(128..192).contains(&datagram[0]) || (192..=223).contains(&datagram[1]) {
            return;
        }
        let mut copy = datagram.to_vec();
        let opened = self.opener.open_rtp(&mut copy).unwrap();
        let header = rtp::parse(&copy[..opened.len]).unwrap();
        self.seen += 1;
        if header.payload_type == VIDEO.payload_type {
            self.highest = header.sequence;
            if self.seen.is_multiple_of(50) {
                self.lost.push(header.sequence);
                return;
            }
        }
        self.received += 1;
        let bytes = u32::try_from(datagram.len()).unwrap();
        self.idle_at = self.idle_at.max(now) + Duration::from_nanos(80) * bytes;
        let wide = header.extensions(&copy).find(|(id, _)| Some(*id) == IDS.transport_cc).unwrap().1;
        let number = rtp::unroll(u16::from_be_bytes([wide[0], wide[1]]), self.next_wide);
        self.arrivals.push((number, self.idle_at));
    }

    fn seal(&mut self, buffer: &Buffer) -> Vec<u8> {
        let mut sealed = buffer.as_slice().to_vec();
        sealed.resize(buffer.len() + MAX_OVERHEAD, 0);
        let length = self.sealer.seal_rtcp(&mut sealed, buffer.len()).unwrap();
        sealed.truncate(length);
        sealed
    }

    /// Transport feedback, a request for what was lost and a receiver report, sealed.
    fn answers(&mut self, ssrc: u32) -> Vec<Vec<u8>> {
        let mut made = Vec::new();
        let mut buffer = Buffer::new();
        self.arrivals.sort_unstable();
        while let Some(&(first, _)) = self.arrivals.first() {
            buffer.clear();
            let base = self.next_wide.min(first);
            let covered = twcc::write_feedback(&mut buffer, 7, ssrc, self.feedbacks, base, &self.arrivals);
            self.next_wide = self.arrivals[covered - 1].0 + 1;
            self.feedbacks = self.feedbacks.wrapping_add(1);
            self.arrivals.drain(..covered);
            made.push(self.seal(&buffer));
        }
        buffer.clear();
        if !self.lost.is_empty() && rtcp::write_nack(&mut buffer, 7, ssrc, &self.lost) {
            made.push(self.seal(&buffer));
            self.lost.clear();
        }
        buffer.clear();
        let block = ReportBlock {
            ssrc,
            fraction_lost: 5,
            lost: 10,
            highest_sequence: self.highest.into(),
            jitter: 3,
            last_sr: 0,
            delay: 0,
        };
        assert!(rtcp::write_receiver_report(&mut buffer, 7, &[block]));
        made.push(self.seal(&buffer));
        made
    }
}

/// The subscribers' end of the socket layer. What it does itself is not counted.
struct Wire {
    now: Instant,
    subscribers: Vec<Far>,
    segments: u64,
    messages: u64,
}

impl Outlet for Wire {
    fn flush(&mut self, batch: &mut Batch) {
        let was_counting = COUNTING.replace(false);
        for message in batch.messages() {
            self.messages += 1;
            let Path::Udp(address) = message.to else { continue };
            for segment in message.segments {
                self.segments += 1;
                if let Some(far) = self.subscribers.iter_mut().find(|far| far.port == address.port()) {
                    far.take(self.now, segment);
                }
            }
        }
        batch.clear();
        COUNTING.set(was_counting);
    }
}

/// The publisher's stream.
struct Source {
    ssrc: u32,
    payload_type: u8,
    mid: &'static [u8],
    size: usize,
    index: u64,
    timestamp: u32,
    picture: u8,
}

impl Source {
    fn packet(&mut self, sealer: &Sealer, wide: &mut u16, (place, count): (usize, usize)) -> Vec<u8> {
        let mut packet = vec![0x5a; self.size + MAX_OVERHEAD];
        self.index += 1;
        *wide = wide.wrapping_add(1);
        let [.., high, low] = self.index.to_be_bytes();
        let marker = if place + 1 == count { 0x80 } else { 0 };
        packet[..4].copy_from_slice(&[0x90, self.payload_type | marker, high, low]);
        packet[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        packet[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        let mut writer = ExtensionWriter::new(&mut packet[12..], false);
        writer.push(4, self.mid).unwrap();
        writer.push(3, &wide.to_be_bytes()).unwrap();
        if self.payload_type == AUDIO.payload_type {
            writer.push(1, &[0x80 | 30]).unwrap();
        }
        let header = 12 + writer.finish();
        if self.payload_type == VIDEO.payload_type {
            let start = if place == 0 { 0x90 } else { 0x80 };
            let is_key_frame = self.picture.is_multiple_of(60);
            let descriptor = [start, 0xe0, 0x80, self.picture, self.picture, 0x20, u8::from(!is_key_frame), 0, 0];
            packet[header..header + 9].copy_from_slice(&descriptor);
            packet[header + 9..header + 16].copy_from_slice(&[0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01]);
        }
        let length = sealer.seal_rtp(&mut packet, header, self.size, self.index).unwrap();
        packet.truncate(length);
        packet
    }
}

/// An engine with everybody connected.
struct Meeting {
    engine: Engine,
    batch: Batch,
    wire: Wire,
    publisher: Far,
    video: Source,
    audio: Source,
    wide: u16,
    now: Instant,
}

impl Meeting {
    fn new() -> Self {
        let now = Instant::from_micros(1_000_000);
        let ports = (1..=SUBSCRIBERS).map(|place| PUBLISHER_PORT + place);
        let source = |ssrc, payload_type, mid, size| Source {
            ssrc,
            payload_type,
            mid,
            size,
            index: 1_000,
            timestamp: 0,
            picture: 0,
        };
        let wire = Wire { now, subscribers: ports.map(Far::new).collect(), segments: 0, messages: 0 };
        let mut made = Self {
            engine: Engine::new(Config { seed: 7 }),
            batch: Batch::new(),
            wire,
            publisher: Far::new(PUBLISHER_PORT),
            video: source(VIDEO_SSRC, VIDEO.payload_type, b"0", 1_200),
            audio: source(AUDIO_SSRC, AUDIO.payload_type, b"1", 160),
            wide: 0,
            now,
        };
        for port in PUBLISHER_PORT..=PUBLISHER_PORT + SUBSCRIBERS {
            made.connect(port);
        }
        made.publish();
        made
    }

    fn apply(&mut self, command: Command) {
        self.engine.apply(self.now, command, &mut self.batch, &mut self.wire);
        self.wire.flush(&mut self.batch);
    }

    fn connect(&mut self, port: u16) {
        let (name, (theirs, ours)) = (format!("t{port}"), keys(port));
        let credentials = Credentials { ufrag: name.as_str().into(), pwd: PWD.into() };
        self.apply(Command::AddTransport { transport: name.as_str().into(), credentials });
        self.check(port);
        let keys = Keys { profile: Profile::AeadAes128Gcm, receive: theirs, send: ours };
        self.apply(Command::SetKeys { transport: name.as_str().into(), keys });
    }

    fn check(&mut self, port: u16) -> u64 {
        let request = stun::binding_request([3; 12], &format!("t{port}:far"), PWD, 1, true, 1);
        self.receive(port, request.as_slice().to_vec())
    }

    fn publish(&mut self) {
        let publisher = format!("t{PUBLISHER_PORT}");
        for (track, mid, codec, ssrc) in [("video", "0", VIDEO, VIDEO_SSRC), ("audio", "1", AUDIO, AUDIO_SSRC)] {
            self.apply(Command::SetTrack(SetTrack {
                transport: publisher.as_str().into(),
                track: track.into(),
                mid: mid.into(),
                codec,
                extensions: IDS,
                ssrcs: vec![(ssrc, None)],
                rids: Vec::new(),
                is_screen: false,
            }));
            for port in PUBLISHER_PORT + 1..=PUBLISHER_PORT + SUBSCRIBERS {
                self.apply(Command::SetSender(SetSender {
                    sender: format!("{port}/{track}").into(),
                    transport: format!("t{port}").into(),
                    track: track.into(),
                    mid: mid.into(),
                    codec,
                    extensions: IDS,
                    ssrc: sent_ssrc(port, codec),
                    rtx_ssrc: codec.rtx_payload_type.map(|_| sent_ssrc(port, codec) + 1),
                    cname: "someone".into(),
                }));
            }
        }
    }

    /// Allocations while a datagram of a peer's is taken in.
    fn receive(&mut self, port: u16, mut datagram: Vec<u8>) -> u64 {
        let Self { engine, batch, wire, now, .. } = self;
        let found = counted(|| engine.receive(*now, path(port), &mut datagram, batch, wire));
        wire.flush(batch);
        found
    }

    fn forward(&mut self) -> u64 {
        let Self { engine, batch, wire, now, .. } = self;
        let found = counted(|| engine.forward(*now, batch, wire));
        wire.flush(batch);
        found
    }

    fn tick(&mut self) -> u64 {
        let Self { engine, batch, wire, now, .. } = self;
        let found = counted(|| engine.tick(*now, batch, wire));
        wire.flush(batch);
        while engine.poll_event().is_some() {}
        found
    }

    /// So many times 10 ms of a call; what receiving and forwarding, and what ticks allocated.
    fn run(&mut self, steps: u32) -> (u64, u64) {
        let (mut packets, mut ticks) = (0, 0);
        for step in 0..steps {
            ticks += self.sleep(Duration::from_millis(10));
            if step % 3 == 0 {
                packets += self.send_video(4, step % 90 == 0);
            }
            if step % 2 == 0 {
                packets += self.send_audio();
            }
            packets += self.forward();
            if step % 10 == 5 {
                packets += self.answer();
            }
            if step % 400 == 7 {
                packets += (PUBLISHER_PORT..=PUBLISHER_PORT + SUBSCRIBERS).map(|port| self.check(port)).sum::<u64>();
            }
        }
        (packets, ticks)
    }

    /// Lets time pass; what ticks allocated meanwhile.
    fn sleep(&mut self, time: Duration) -> u64 {
        let (end, mut found) = (self.now + time, 0);
        while self.now < end {
            self.now = self.engine.next_wakeup().max(self.now + Duration::from_micros(500)).min(end);
            self.wire.now = self.now;
            found += self.tick();
        }
        found
    }

    /// A frame; with `has_loss` one of its packets comes after the next frame only.
    fn send_video(&mut self, count: usize, has_loss: bool) -> u64 {
        let mut found = 0;
        self.video.timestamp = self.video.timestamp.wrapping_add(3_000);
        self.video.picture = (self.video.picture + 1) & 0x7f;
        for place in 0..count {
            let packet = self.video.packet(&self.publisher.sealer, &mut self.wide, (place, count));
            if !(has_loss && place == 1) {
                found += self.receive(PUBLISHER_PORT, packet);
            }
        }
        found
    }

    fn send_audio(&mut self) -> u64 {
        self.audio.timestamp = self.audio.timestamp.wrapping_add(960);
        let packet = self.audio.packet(&self.publisher.sealer, &mut self.wide, (0, 2));
        self.receive(PUBLISHER_PORT, packet)
    }

    /// What subscribers answer.
    fn answer(&mut self) -> u64 {
        let mut found = 0;
        for place in 0..self.wire.subscribers.len() {
            let port = self.wire.subscribers[place].port;
            for datagram in self.wire.subscribers[place].answers(sent_ssrc(port, VIDEO)) {
                found += self.receive(port, datagram);
            }
        }
        found
    }

    fn received(&self) -> u64 {
        self.wire.subscribers.iter().map(|far| far.received).sum()
    }
}

fn sent_ssrc(port: u16, codec: TrackCodec) -> u32 {
    u32::from(port) * 10 + u32::from(codec.payload_type) * 100_000
}

#[test]
fn a_call_in_a_steady_state_allocates_nothing_for_a_packet() {
    let mut meeting = Meeting::new();
    meeting.run(3_000);
    let before = (meeting.received(), meeting.engine.stats());
    let (packets, ticks) = meeting.run(1_000);
    let (received, stats) = (meeting.received() - before.0, meeting.engine.stats());
    assert!(received > 30_000, "everything is forwarded: {received} packets, {:?}", stats.dropped);
    assert!(stats.retransmitted_packets > before.1.retransmitted_packets, "losses are repaired meanwhile");
    assert!(meeting.wire.messages < meeting.wire.segments, "packets leave in runs");
    assert_eq!(packets, 0, "receiving and forwarding {received} packets allocated");
    // Events that name several tracks own their lists: some a second, whatever the rate of packets.
    assert!(ticks < 500, "{ticks} allocations in ticks of 10 s");
}

#[test]
fn the_counting_allocator_counts() {
    assert_eq!(counted(|| drop(std::hint::black_box(vec![1_u8; 10]))), 1);
    assert_eq!(counted(|| ()), 0);
}
