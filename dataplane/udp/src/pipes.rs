//! Rings between the workers of a node: packets of tracks that have subscribers on another worker, and notices both
//! ways. A ring has one writer and one reader; what does not fit is dropped and counted, nobody waits.
//!
//! A packet travels in a box that goes back to its writer, so that none is allocated once a ring has been full.

use std::sync::Arc;

use parley_core::engine::pipe::{PipeNotice, PipedPacket};
use rtrb::{Consumer, Producer, RingBuffer};

use crate::counters::{Counters, Reason};
use crate::sys::EventFd;

/// Packets that wait in one ring at most: 50 ms of ten videos of 1.5 Mb/s and much of a key frame.
pub const RING: usize = 512;
/// Notices that wait in one ring at most.
const NOTICES: usize = 256;
/// Workers that a pipe's id can name.
pub const MAX_WORKERS: usize = 64;
/// Pipes between two workers.
pub const MAX_PIPES: u32 = 1 << 20;
/// Bytes of a packet: no payload and no header extension is longer than a datagram.
const MAX_BYTES: usize = 1_500;

/// The name of a pipe: the worker that receives the track, the one that has the subscribers, and a number.
#[must_use]
pub fn pipe_id(from: usize, to: usize, number: u32) -> u32 {
    let worker = |index: usize| u32::try_from(index % MAX_WORKERS).unwrap_or(0);
    (worker(from) << 26) | (worker(to) << 20) | (number % MAX_PIPES)
}

/// The workers of a pipe: where the track is received, where its subscribers are.
#[must_use]
pub fn ends(pipe: u32) -> (usize, usize) {
    let worker = |shift: u32| (pipe >> shift) as usize % MAX_WORKERS;
    (worker(26), worker(20))
}

/// A packet in a ring.
struct Parcel {
    pipe: u32,
    packet: PipedPacket<'static>,
    descriptor_len: usize,
    len: usize,
    bytes: [u8; MAX_BYTES],
}

impl Parcel {
    fn new() -> Self {
        let packet = PipedPacket {
            place: 0,
            ssrc: 0,
            number: 0,
            timestamp: 0,
            marker: false,
            padding: 0,
            level: 0xFF,
            orientation: 0xFF,
            frame: 0,
            info: parley_core::payload::PacketInfo::default(),
            descriptor: &[],
            payload: &[],
        };
        Self { pipe: 0, packet, descriptor_len: 0, len: 0, bytes: [0; MAX_BYTES] }
    }

    /// Copies a packet in; false where it is too long.
    fn fill(&mut self, pipe: u32, packet: &PipedPacket<'_>) -> bool {
        let (descriptor, payload) = (packet.descriptor, packet.payload);
        let len = descriptor.len() + payload.len();
        let Some((head, tail)) = self.bytes.get_mut(..len).and_then(|room| room.split_at_mut_checked(descriptor.len()))
        else {
            return false;
        };
        head.copy_from_slice(descriptor);
        tail.copy_from_slice(payload);
        self.packet = PipedPacket { descriptor: &[], payload: &[], ..*packet };
        (self.pipe, self.descriptor_len, self.len) = (pipe, descriptor.len(), len);
        true
    }

    fn packet(&self) -> PipedPacket<'_> {
        let (descriptor, payload) = self.bytes.split_at(self.descriptor_len);
        let payload = payload.get(..self.len - self.descriptor_len).unwrap_or_default();
        PipedPacket { descriptor, payload, ..self.packet }
    }
}

/// The writing end towards one worker.
struct Outgoing {
    packets: Producer<Box<Parcel>>,
    empties: Consumer<Box<Parcel>>,
    /// A box that was taken and not used.
    spare: Option<Box<Parcel>>,
    allocated: usize,
    notices: Producer<(u32, PipeNotice)>,
    wake: Arc<EventFd>,
    is_touched: bool,
}

/// The reading end from one worker.
struct Incoming {
    packets: Consumer<Box<Parcel>>,
    empties: Producer<Box<Parcel>>,
    notices: Consumer<(u32, PipeNotice)>,
}

/// What came through the rings.
#[derive(Debug)]
pub enum Arrival<'a> {
    /// A packet of a pipe.
    Packet(u32, PipedPacket<'a>),
    /// A notice of a pipe.
    Notice(u32, PipeNotice),
}

/// The writing ends of one worker.
pub struct PipeSender {
    me: usize,
    /// By the other worker's index; none to itself.
    outgoing: Vec<Option<Outgoing>>,
    counters: Arc<Counters>,
}

/// The reading ends of one worker.
pub struct PipeReceiver {
    incoming: Vec<Incoming>,
}

/// The rings between all workers, both ends of each worker in its place; `wakes` and `counters` are the workers'.
pub(crate) fn between(wakes: &[Arc<EventFd>], counters: &[Arc<Counters>]) -> Vec<(PipeSender, PipeReceiver)> {
    let senders = counters.iter().enumerate().map(|(me, counters)| PipeSender {
        me,
        outgoing: Vec::with_capacity(wakes.len()),
        counters: Arc::clone(counters),
    });
    let mut ends: Vec<_> = senders.map(|sender| (sender, PipeReceiver { incoming: Vec::new() })).collect();
    for from in 0..ends.len() {
        for (to, wake) in wakes.iter().enumerate() {
            let (outgoing, incoming) = ring(Arc::clone(wake));
            if let Some((sender, _)) = ends.get_mut(from) {
                sender.outgoing.push((to != from).then_some(outgoing));
            }
            if let Some((_, receiver)) = ends.get_mut(to).filter(|_| to != from) {
                receiver.incoming.push(incoming);
            }
        }
    }
    ends
}

impl PipeSender {
    /// Puts a packet into the ring of the pipe's other worker.
    pub fn send(&mut self, pipe: u32, packet: &PipedPacket<'_>) {
        let sent = self.outgoing_of(pipe).is_some_and(|outgoing| outgoing.send(pipe, packet));
        if !sent {
            self.counters.add(Reason::PipeFull, 1);
        }
    }

    /// Puts a notice into the ring of the pipe's other worker.
    pub fn notify(&mut self, pipe: u32, notice: PipeNotice) {
        let sent = self.outgoing_of(pipe).is_some_and(|outgoing| {
            outgoing.is_touched = true;
            outgoing.notices.push((pipe, notice)).is_ok()
        });
        if !sent {
            self.counters.add(Reason::PipeFull, 1);
        }
    }

    /// Wakes the workers that something was put in for.
    pub fn wake(&mut self) {
        for outgoing in self.outgoing.iter_mut().flatten().filter(|outgoing| outgoing.is_touched) {
            outgoing.is_touched = false;
            outgoing.wake.raise();
        }
    }

    fn outgoing_of(&mut self, pipe: u32) -> Option<&mut Outgoing> {
        let (from, to) = ends(pipe);
        let other = if from == self.me { to } else { from };
        self.outgoing.get_mut(other)?.as_mut()
    }
}

impl PipeReceiver {
    /// Hands on what came, at most one ring's content of each worker; whether anything is left.
    pub fn receive(&mut self, mut take: impl FnMut(Arrival<'_>)) -> bool {
        let mut is_left = false;
        for ring in &mut self.incoming {
            for _ in 0..NOTICES {
                let Ok((pipe, notice)) = ring.notices.pop() else { break };
                take(Arrival::Notice(pipe, notice));
            }
            for _ in 0..RING {
                let Ok(parcel) = ring.packets.pop() else { break };
                take(Arrival::Packet(parcel.pipe, parcel.packet()));
                drop(ring.empties.push(parcel)); // there is room: as many places as boxes
            }
            is_left |= !ring.packets.is_empty() || !ring.notices.is_empty();
        }
        is_left
    }
}

impl Outgoing {
    fn send(&mut self, pipe: u32, packet: &PipedPacket<'_>) -> bool {
        self.is_touched = true;
        let Some(mut parcel) = self.empty() else { return false };
        if !parcel.fill(pipe, packet) {
            self.spare = Some(parcel);
            return false;
        }
        self.packets.push(parcel).is_ok() // there is room: as many places as boxes
    }

    fn empty(&mut self) -> Option<Box<Parcel>> {
        if let Some(parcel) = self.spare.take().or_else(|| self.empties.pop().ok()) {
            return Some(parcel);
        }
        (self.allocated < RING).then(|| {
            self.allocated += 1;
            Box::new(Parcel::new())
        })
    }
}

fn ring(wake: Arc<EventFd>) -> (Outgoing, Incoming) {
    let (packets, packets_end) = RingBuffer::new(RING);
    let (empties_end, empties) = RingBuffer::new(RING);
    let (notices, notices_end) = RingBuffer::new(NOTICES);
    let outgoing = Outgoing { packets, empties, spare: None, allocated: 0, notices, wake, is_touched: false };
    (outgoing, Incoming { packets: packets_end, empties: empties_end, notices: notices_end })
}
