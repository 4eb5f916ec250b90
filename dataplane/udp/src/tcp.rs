//! ICE/TCP, the passive side (RFC 6544): a listener on the port of the worker's UDP socket.
//!
//! A connection costs little before it has proved itself: it must begin with a STUN message within
//! [`FIRST_FRAME`], may break the framing not once, and is closed when it is silent for [`SILENCE`]. What it may keep
//! waiting in memory is bounded in both directions.

use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use parley_core::time::Instant;
use rustc_hash::FxHashMap;

use crate::counters::{Counters, Reason};
use crate::framing::{FrameQueue, FrameReader};
use crate::sys::{self, Interest, Poller};

/// Connections of one worker.
pub const MAX_CONNECTIONS: usize = 1_024;
/// Connections of one remote address.
pub const MAX_PER_ADDRESS: usize = 16;
/// How long a connection may take to its first frame.
pub const FIRST_FRAME: Duration = Duration::from_secs(10);
/// How long a connection may say nothing; consent checks come every few seconds (RFC 7675 5.1).
pub const SILENCE: Duration = Duration::from_secs(30);
/// Connections accepted before the worker does something else.
const MAX_ACCEPTED: usize = 32;
/// How long the listener rests when the process has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time between looks for silent connections.
const SWEEP: Duration = Duration::from_secs(1);
/// Bytes that the kernel may hold unsent; more would only grow old there.
const NOT_SENT_LIMIT: i32 = 32 * 1_024;
/// The poller's tokens: connections follow those of the worker's own descriptors.
const CONNECTION_TOKENS: u64 = 1 << 32;

/// The token of the listener.
pub const LISTENER_TOKEN: u64 = 1;

/// All TCP connections of one worker.
pub struct TcpServer {
    listener: TcpListener,
    poller: Arc<Poller>,
    counters: Arc<Counters>,
    connections: FxHashMap<u32, Connection>,
    per_address: FxHashMap<IpAddr, usize>,
    last_id: u32,
    /// Connections with something to write.
    dirty: Vec<u32>,
    /// Connections that were closed and not told yet.
    closed: Vec<u32>,
    rests_until: Option<Instant>,
    next_sweep: Instant,
}

struct Connection {
    stream: TcpStream,
    peer: IpAddr,
    /// Away while a frame of it is being handled.
    reader: Option<FrameReader>,
    queue: FrameQueue,
    heard: Instant,
    has_begun: bool,
    waits_for_room: bool,
}

/// What one read of a connection brought.
#[derive(Debug)]
pub enum Input {
    /// Bytes; their frames are in the reader.
    Frames(FrameReader),
    /// Nothing for now.
    Nothing,
    /// The peer is gone.
    End,
}

/// The connection of a poller's token.
#[must_use]
pub fn connection_of(token: u64) -> Option<u32> {
    u32::try_from(token.checked_sub(CONNECTION_TOKENS)?).ok()
}

impl TcpServer {
    /// Starts to listen.
    ///
    /// # Errors
    /// Those of the system calls.
    pub(crate) fn new(listener: TcpListener, poller: Arc<Poller>, counters: Arc<Counters>) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        poller.add(listener.as_fd(), LISTENER_TOKEN, Interest::Read)?;
        Ok(Self {
            listener,
            poller,
            counters,
            connections: FxHashMap::default(),
            per_address: FxHashMap::default(),
            last_id: 0,
            dirty: Vec::new(),
            closed: Vec::new(),
            rests_until: None,
            next_sweep: Instant::default(),
        })
    }

    /// Connections that are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// True where no connection is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    // --- accepting --------------------------------------------------------------------------------------------------
    /// Accepts what waits.
    pub fn accept(&mut self, now: Instant) {
        for _ in 0..MAX_ACCEPTED {
            match self.listener.accept() {
                Ok((stream, peer)) => self.admit(stream, peer.ip().to_canonical(), now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => return self.rest(now),
            }
        }
    }

    /// A listener without descriptors left would be ready all the time.
    fn rest(&mut self, now: Instant) {
        self.rests_until = Some(now + ACCEPT_PAUSE);
        self.listen(Interest::Nothing);
    }

    /// Where this fails, the next sweep tries again or the listener stays ready: nothing is lost.
    fn listen(&mut self, interest: Interest) {
        if self.poller.change(self.listener.as_fd(), LISTENER_TOKEN, interest).is_err() {
            self.counters.add(Reason::TcpRefused, 1);
        }
    }

    fn admit(&mut self, stream: TcpStream, peer: IpAddr, now: Instant) {
        let of_address = self.per_address.get(&peer).copied().unwrap_or(0);
        let is_full = self.connections.len() >= MAX_CONNECTIONS || of_address >= MAX_PER_ADDRESS;
        let id = self.free_id();
        if is_full || self.prepare(&stream, id).is_err() {
            self.counters.add(Reason::TcpRefused, 1);
            return; // closes the stream
        }
        self.per_address.insert(peer, of_address + 1);
        let connection = Connection {
            stream,
            peer,
            reader: Some(FrameReader::default()),
            queue: FrameQueue::default(),
            heard: now,
            has_begun: false,
            waits_for_room: false,
        };
        self.connections.insert(id, connection);
        self.last_id = id;
    }

    fn free_id(&self) -> u32 {
        let mut id = self.last_id.wrapping_add(1);
        while self.connections.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        id
    }

    fn prepare(&self, stream: &TcpStream, id: u32) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        sys::set_not_sent_limit(stream.as_fd(), NOT_SENT_LIMIT)?;
        self.poller.add(stream.as_fd(), token(id), Interest::Read)
    }

    // --- reading ----------------------------------------------------------------------------------------------------
    /// Reads once. The frames are the caller's until it gives the reader back by [`give_back`](Self::give_back).
    pub fn read(&mut self, id: u32, now: Instant) -> Input {
        let Some(connection) = self.connections.get_mut(&id) else { return Input::Nothing };
        let Some(mut reader) = connection.reader.take() else { return Input::Nothing };
        match connection.stream.read(reader.space()) {
            Ok(0) => Input::End,
            Ok(count) => {
                reader.filled(count);
                if connection.has_begun {
                    connection.heard = now; // before that the first frame is waited for
                }
                Input::Frames(reader)
            }
            Err(error) if is_for_now(&error) => {
                connection.reader = Some(reader);
                Input::Nothing
            }
            Err(_) => Input::End,
        }
    }

    /// Whether a frame may be handed on: the first of a connection has to be STUN (RFC 8489 5).
    pub fn accepts(&mut self, id: u32, frame: &[u8], now: Instant) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        if !connection.has_begun && is_stun(frame) {
            connection.has_begun = true;
            connection.heard = now;
        }
        connection.has_begun
    }

    /// Takes the reader of a connection back, if that is still open.
    pub fn give_back(&mut self, id: u32, reader: FrameReader) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.reader = Some(reader);
        }
    }

    // --- writing ----------------------------------------------------------------------------------------------------
    /// Adds a datagram to what a connection is to write; nothing where that is closed.
    pub fn queue(&mut self, id: u32, datagram: &[u8]) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.queue.is_empty() {
            self.dirty.push(id);
        }
        let dropped = connection.queue.push(datagram);
        self.counters.add(Reason::TcpQueueFull, dropped);
    }

    /// Writes what was queued, as far as the peers take it.
    pub fn flush(&mut self) {
        for index in 0..self.dirty.len() {
            if let Some(&id) = self.dirty.get(index) {
                self.write(id);
            }
        }
        self.dirty.clear();
    }

    /// Writes on; for a connection that has room again.
    pub fn write(&mut self, id: u32) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.write().is_err() {
            return self.close(id);
        }
        let waits = !connection.queue.is_empty();
        if waits == connection.waits_for_room {
            return;
        }
        connection.waits_for_room = waits;
        let interest = if waits { Interest::ReadWrite } else { Interest::Read };
        if self.poller.change(connection.stream.as_fd(), token(id), interest).is_err() {
            self.close(id);
        }
    }

    // --- closing ----------------------------------------------------------------------------------------------------
    /// Closes a connection that broke the rules.
    pub fn refuse(&mut self, id: u32) {
        self.counters.add(Reason::TcpBadFraming, 1);
        self.close(id);
    }

    /// Closes a connection; [`next_closed`](Self::next_closed) tells it.
    pub fn close(&mut self, id: u32) {
        let Some(connection) = self.connections.remove(&id) else { return };
        self.closed.push(id);
        if let Some(count) = self.per_address.get_mut(&connection.peer) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&connection.peer);
            }
        }
    }

    /// The address of a connection's peer.
    #[must_use]
    pub fn peer_of(&self, id: u32) -> Option<SocketAddr> {
        self.connections.get(&id)?.stream.peer_addr().ok()
    }

    /// A connection that was closed since the last call.
    pub fn next_closed(&mut self) -> Option<u32> {
        self.closed.pop()
    }

    /// Closes what was silent for too long, and listens again after a rest; does its work once a second.
    pub fn sweep(&mut self, now: Instant) {
        if self.rests_until.is_some_and(|until| now >= until) {
            self.rests_until = None;
            self.listen(Interest::Read);
        }
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP;
        let silent = |connection: &Connection| {
            now.since(connection.heard) >= if connection.has_begun { SILENCE } else { FIRST_FRAME }
        };
        let ids: Vec<u32> = self.connections.iter().filter(|(_, each)| silent(each)).map(|(id, _)| *id).collect();
        self.counters.add(Reason::TcpSilent, ids.len());
        for id in ids {
            self.close(id);
        }
    }

    /// When [`sweep`](Self::sweep) has something to do.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Instant> {
        let sweep = (!self.connections.is_empty()).then_some(self.next_sweep);
        [sweep, self.rests_until].into_iter().flatten().min()
    }
}

impl Connection {
    fn write(&mut self) -> io::Result<()> {
        while !self.queue.is_empty() {
            let (first, second) = self.queue.slices();
            match self.stream.write_vectored(&[IoSlice::new(first), IoSlice::new(second)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.queue.written(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn token(id: u32) -> u64 {
    CONNECTION_TOKENS + u64::from(id)
}

/// The magic cookie behind type and length (RFC 8489 5).
fn is_stun(frame: &[u8]) -> bool {
    frame.first().is_some_and(|first| *first < 4) && frame.get(4..8) == Some(&[0x21, 0x12, 0xA4, 0x42])
}

fn is_for_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Errors of accept that concern the connection alone (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable,
    };
    let network = matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | HostUnreachable | Interrupted | NetworkDown | NetworkUnreachable
    );
    network || matches!(error.raw_os_error(), Some(libc::EPROTO | libc::ENOPROTOOPT | libc::EOPNOTSUPP))
}
