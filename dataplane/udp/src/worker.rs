//! One packet worker: a thread with its sockets around an engine.
//!
//! A turn waits for something to do, applies commands, hands in the datagrams of a few system calls, lets the engine
//! forward them all, and sends what that yields at once. Workers share nothing but rings and counters.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use parley_core::engine::event::Snapshot;
use parley_core::engine::pipe::{PipeNotice, PipedPacket};
use parley_core::engine::{Batch, Command, Event, Outlet, Path, Stats};
use parley_core::time::Instant;

use crate::counters::{Counters, Reason};
use crate::events::EventQueue;
use crate::pipes::{Arrival, PipeReceiver, PipeSender};
use crate::socket::UdpPort;
use crate::sys::{self, EventFd, Interest, Poller, RECEIVE_BATCH, Ready};
use crate::tcp::{Input, LISTENER_TOKEN, TcpServer, connection_of};

const UDP_TOKEN: u64 = 0;
const WAKE_TOKEN: u64 = 2;
/// System calls' worth of datagrams before they are forwarded and timers get their turn.
const MAX_DRAINED: usize = 8;
/// The longest wait for the next packet of a picture.
const FRAME_GAP: Duration = Duration::from_micros(150);
/// Packets to be sent before the rest of a drain is read: about a millisecond of work.
const MAX_PENDING: usize = 512;
/// Commands before packets get their turn.
const MAX_COMMANDS: usize = 512;
/// Turns that forward nothing begin at least so far apart: thousands of subscribers' reports come one by one, and each
/// would wake the worker. A packet that comes meanwhile waits for the rest of it.
const CALM: Duration = Duration::from_micros(500);
/// Commands that wait for a worker; some 100 for each of 600 people who come at once.
const MAX_INBOX: usize = 65_536;
/// Reads of one connection before the others get their turn.
const MAX_READS: usize = 8;
/// The longest wait; a clock that is shifted (in tests) is noticed after it.
const MAX_WAIT: Duration = Duration::from_millis(100);
/// Time between two publications of the counts.
const PUBLISH: Duration = Duration::from_millis(50);

/// What a worker runs: [`parley_core::engine::Engine`], or a stand-in of a test.
pub trait PacketEngine: Send + 'static {
    /// Takes in one datagram.
    fn receive(&mut self, now: Instant, from: Path, datagram: &mut [u8], batch: &mut Batch, outlet: &mut dyn Outlet);
    /// Takes in a packet that another worker received.
    fn receive_piped(
        &mut self,
        now: Instant,
        pipe: u32,
        packet: &PipedPacket<'_>,
        batch: &mut Batch,
        outlet: &mut dyn Outlet,
    );
    /// Takes in a notice of a pipe's other end.
    fn receive_notice(
        &mut self,
        now: Instant,
        pipe: u32,
        notice: PipeNotice,
        batch: &mut Batch,
        outlet: &mut dyn Outlet,
    );
    /// Sends on what came.
    fn forward(&mut self, now: Instant, batch: &mut Batch, outlet: &mut dyn Outlet);
    /// Applies a command.
    fn apply(&mut self, now: Instant, command: Command, batch: &mut Batch, outlet: &mut dyn Outlet);
    /// Does what is due.
    fn tick(&mut self, now: Instant, batch: &mut Batch, outlet: &mut dyn Outlet);
    /// When [`tick`](Self::tick) is due.
    fn next_wakeup(&self) -> Instant;

    /// Whether more of a picture is likely to come at once.
    fn is_mid_frame(&self) -> bool {
        false
    }

    /// How many packets the next `forward` will send, about.
    fn pending_sends(&self) -> usize {
        0
    }

    /// The oldest event that waits.
    fn poll_event(&mut self) -> Option<Event>;
    /// Totals.
    fn stats(&self) -> Stats;
    /// Everything at this moment.
    fn snapshot(&self) -> Snapshot;
    /// A TCP connection is closed and its number free.
    fn tcp_closed(&mut self, now: Instant, connection: u32);
}

/// The engine's clock: CLOCK_MONOTONIC in microseconds, and a shift that tests set.
#[derive(Debug, Default)]
pub struct Clock {
    shift: AtomicU64,
}

impl Clock {
    /// The time now.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::from_micros(sys::monotonic_micros() + self.shift.load(Ordering::Relaxed))
    }

    /// Moves the clock forward.
    pub fn advance(&self, micros: u64) {
        self.shift.fetch_add(micros, Ordering::Relaxed);
    }
}

/// What is asked of a worker.
pub(crate) enum Message {
    Command(Command),
    Snapshot(SyncSender<(usize, Snapshot)>),
}

/// What a worker publishes.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// The engine's totals.
    pub stats: Stats,
    /// CPU time of the thread.
    pub cpu: Duration,
    /// Open TCP connections.
    pub tcp_connections: usize,
}

/// What a worker and the node share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) wake: Arc<EventFd>,
    pub(crate) counters: Arc<Counters>,
    inbox: Mutex<Vec<Message>>,
    has_mail: AtomicBool,
    published: Mutex<Published>,
    is_stopping: AtomicBool,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str(match self {
            Self::Command(_) => "Command",
            Self::Snapshot(_) => "Snapshot",
        })
    }
}

/// A lock whose holder panicked holds nothing that could be half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(wake: Arc<EventFd>, counters: Arc<Counters>) -> Self {
        let (inbox, published) = (Mutex::default(), Mutex::default());
        let (has_mail, is_stopping) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { wake, counters, inbox, has_mail, published, is_stopping }
    }

    /// Gives the worker messages and wakes it; false where it has not taken any for so long that these find no room.
    /// Without all of its commands its state is wrong: it then counts as failed.
    #[must_use]
    pub(crate) fn send(&self, messages: Vec<Message>) -> bool {
        let mut inbox = lock(&self.inbox);
        if inbox.len() + messages.len() > MAX_INBOX {
            self.counters.add(Reason::CommandQueueFull, messages.len());
            return false;
        }
        inbox.extend(messages);
        drop(inbox);
        self.has_mail.store(true, Ordering::Release);
        self.wake.raise();
        true
    }

    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.wake.raise();
    }

    pub(crate) fn published(&self) -> Published {
        lock(&self.published).clone()
    }
}

/// The socket layer as the engine sees it.
struct Sockets {
    udp: UdpPort,
    tcp: TcpServer,
    pipes: PipeSender,
}

impl Outlet for Sockets {
    fn flush(&mut self, batch: &mut Batch) {
        let tcp = &mut self.tcp;
        self.udp.send(batch, |message| {
            if let Path::Tcp(connection) = message.to {
                message.segments.for_each(|datagram| tcp.queue(connection, datagram));
            }
        });
        batch.clear();
    }

    fn peer_of(&self, connection: u32) -> Option<SocketAddr> {
        self.tcp.peer_of(connection)
    }

    fn piped(&mut self, pipe: u32, packet: &PipedPacket<'_>) {
        self.pipes.send(pipe, packet);
    }

    fn notify(&mut self, pipe: u32, notice: PipeNotice) {
        self.pipes.notify(pipe, notice);
    }
}

/// What a worker is made of.
pub(crate) struct Parts<E> {
    pub(crate) index: usize,
    pub(crate) engine: E,
    pub(crate) udp: UdpPort,
    pub(crate) listener: std::net::TcpListener,
    pub(crate) pipes: (PipeSender, PipeReceiver),
    pub(crate) shared: Arc<Shared>,
    pub(crate) events: Arc<EventQueue>,
    pub(crate) clock: Arc<Clock>,
}

/// A worker, to be run on its thread.
pub(crate) struct Worker<E> {
    index: usize,
    engine: E,
    batch: Batch,
    sockets: Sockets,
    receiver: sys::Receiver,
    arrivals: PipeReceiver,
    poller: Arc<Poller>,
    ready: Vec<Ready>,
    shared: Arc<Shared>,
    events: Arc<EventQueue>,
    clock: Arc<Clock>,
    backlog: VecDeque<Message>,
    is_behind: bool,
    next_publication: Instant,
    began: Instant,
    has_forwarded: bool,
}

impl<E: PacketEngine> Worker<E> {
    pub(crate) fn new(parts: Parts<E>) -> io::Result<Self> {
        let poller = Arc::new(Poller::new()?);
        poller.add(parts.udp.socket(), UDP_TOKEN, Interest::Read)?;
        poller.add(parts.shared.wake.as_fd(), WAKE_TOKEN, Interest::Read)?;
        let tcp = TcpServer::new(parts.listener, Arc::clone(&poller), Arc::clone(&parts.shared.counters))?;
        Ok(Self {
            index: parts.index,
            engine: parts.engine,
            batch: Batch::new(),
            sockets: Sockets { udp: parts.udp, tcp, pipes: parts.pipes.0 },
            receiver: sys::Receiver::new(),
            arrivals: parts.pipes.1,
            poller,
            ready: Vec::with_capacity(128),
            shared: parts.shared,
            events: parts.events,
            clock: parts.clock,
            backlog: VecDeque::new(),
            is_behind: false,
            next_publication: Instant::default(),
            began: Instant::default(),
            has_forwarded: true,
        })
    }

    /// Works until the node is stopped.
    pub(crate) fn run(mut self) -> io::Result<()> {
        while !self.shared.is_stopping.load(Ordering::Relaxed) {
            self.turn()?;
        }
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        self.calm_down();
        let wait = self.wait();
        self.poller.wait(&mut self.ready, wait)?;
        self.is_behind = false;
        self.began = self.clock.now();
        self.has_forwarded = false;
        let mut ready = std::mem::take(&mut self.ready);
        for each in ready.drain(..) {
            self.serve(each);
        }
        self.ready = ready;
        self.run_commands();
        self.receive_piped();
        self.has_forwarded |= self.engine.pending_sends() > 0;
        let now = self.clock.now();
        self.engine.forward(now, &mut self.batch, &mut self.sockets);
        if now >= self.engine.next_wakeup() {
            self.engine.tick(now, &mut self.batch, &mut self.sockets);
        }
        self.sockets.tcp.sweep(now);
        while let Some(connection) = self.sockets.tcp.next_closed() {
            self.engine.tcp_closed(now, connection);
        }
        self.flush();
        self.report(now);
        Ok(())
    }

    /// Lets reports gather, as network cards let interrupts.
    fn calm_down(&self) {
        let rest = CALM.saturating_sub(self.clock.now().since(self.began));
        if !self.has_forwarded && !rest.is_zero() && self.wait() > rest {
            std::thread::sleep(rest);
        }
    }

    /// How long there is nothing to do.
    fn wait(&self) -> Duration {
        if self.is_behind || !self.backlog.is_empty() || self.shared.has_mail.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let now = self.clock.now();
        let due = self.sockets.tcp.next_wakeup().map_or(MAX_WAIT, |at| at.since(now));
        self.engine.next_wakeup().since(now).min(due).min(MAX_WAIT)
    }

    fn serve(&mut self, ready: Ready) {
        match ready.token {
            UDP_TOKEN => self.receive_udp(),
            LISTENER_TOKEN => self.sockets.tcp.accept(self.clock.now()),
            WAKE_TOKEN => self.shared.wake.clear(),
            token => {
                let Some(connection) = connection_of(token) else { return };
                if ready.is_writable {
                    self.sockets.tcp.write(connection);
                }
                if ready.is_readable {
                    self.receive_tcp(connection);
                }
            }
        }
    }

    fn flush(&mut self) {
        if !self.batch.is_empty() {
            self.sockets.flush(&mut self.batch);
        }
        self.sockets.tcp.flush();
        self.sockets.pipes.wake();
    }

    // --- what comes in ----------------------------------------------------------------------------------------------
    /// Everything that waits, but not more than a bounded number of calls brings.
    fn receive_udp(&mut self) {
        for _ in 0..MAX_DRAINED {
            // an error other than "nothing there" is about an earlier datagram, and cleared by having been told
            let count = self.receiver.receive(self.sockets.udp.socket()).unwrap_or(0);
            self.run_commands();
            let now = self.clock.now();
            for index in 0..count {
                if let Some((from, datagram)) = self.receiver.datagram(index) {
                    self.engine.receive(now, Path::Udp(from), datagram, &mut self.batch, &mut self.sockets);
                }
                if self.engine.pending_sends() >= MAX_PENDING {
                    self.has_forwarded = true;
                    self.engine.forward(self.clock.now(), &mut self.batch, &mut self.sockets);
                    self.flush();
                }
            }
            if count < RECEIVE_BATCH && !self.awaits_frame() {
                return;
            }
        }
    }

    /// Waits a moment for the rest of a picture: its packets come within 0.4 ms, and a run of four costs half of four.
    fn awaits_frame(&mut self) -> bool {
        self.engine.is_mid_frame() && self.sockets.udp.wait_readable(FRAME_GAP)
    }

    fn receive_tcp(&mut self, id: u32) {
        let now = self.clock.now();
        for _ in 0..MAX_READS {
            let input = self.sockets.tcp.read(id, now);
            self.run_commands();
            match input {
                Input::Nothing => return,
                Input::End => return self.sockets.tcp.close(id),
                Input::Frames(mut reader) => {
                    let is_good = loop {
                        match reader.next_frame() {
                            Ok(Some([])) => {}
                            Ok(Some(frame)) if self.sockets.tcp.accepts(id, frame, now) => {
                                let from = Path::Tcp(id);
                                self.engine.receive(now, from, frame, &mut self.batch, &mut self.sockets);
                            }
                            Ok(None) => break true,
                            Ok(Some(_)) | Err(_) => break false,
                        }
                    };
                    if !is_good {
                        return self.sockets.tcp.refuse(id);
                    }
                    self.sockets.tcp.give_back(id, reader);
                }
            }
        }
    }

    fn receive_piped(&mut self) {
        let now = self.clock.now();
        let Self { engine, batch, sockets, arrivals, .. } = self;
        let is_left = arrivals.receive(|arrival| match arrival {
            Arrival::Packet(pipe, packet) => engine.receive_piped(now, pipe, &packet, batch, sockets),
            Arrival::Notice(pipe, notice) => engine.receive_notice(now, pipe, notice, batch, sockets),
        });
        self.is_behind |= is_left;
    }

    /// Applies the commands that came. Called after every read and before what was read is handed in: a datagram that a
    /// peer sent after a command was given meets an engine that knows the command.
    fn run_commands(&mut self) {
        if self.backlog.is_empty() && self.shared.has_mail.swap(false, Ordering::Acquire) {
            self.backlog.extend(lock(&self.shared.inbox).drain(..));
        }
        if self.backlog.is_empty() {
            return;
        }
        let now = self.clock.now();
        for _ in 0..MAX_COMMANDS {
            match self.backlog.pop_front() {
                None => return,
                Some(Message::Command(command)) => {
                    self.engine.apply(now, command, &mut self.batch, &mut self.sockets);
                }
                Some(Message::Snapshot(reply)) => {
                    self.publish(); // totals that go with it
                    // who asked may have given up
                    let _ = reply.try_send((self.index, self.engine.snapshot()));
                }
            }
        }
    }

    // --- what goes out ----------------------------------------------------------------------------------------------
    fn report(&mut self, now: Instant) {
        let dropped = self.events.extend(self.index, std::iter::from_fn(|| self.engine.poll_event()));
        self.shared.counters.add(Reason::EventQueueFull, dropped);
        if now >= self.next_publication {
            self.next_publication = now + PUBLISH;
            self.publish();
        }
    }

    fn publish(&mut self) {
        self.sockets.udp.count_receive_drops();
        let cpu = Duration::from_micros(sys::thread_cpu_micros());
        let tcp_connections = self.sockets.tcp.len();
        *lock(&self.shared.published) = Published { stats: self.engine.stats(), cpu, tcp_connections };
    }
}
