//! All packet workers of a process.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant as Deadline};

use parley_core::engine::event::{DROPPED_NAMES, Snapshot, SubscriberStats, TrackStats};
use parley_core::engine::{Command, Event, Stats};

use crate::counters::{Counters, REASON_NAMES, Reason};
use crate::events::EventQueue;
use crate::pipes::{self, MAX_WORKERS, PipeReceiver, PipeSender};
use crate::router::{MERGED, Orders, Router};
use crate::socket::UdpPort;
use crate::sys::EventFd;
use crate::worker::{Clock, Message, PacketEngine, Parts, Shared, Worker, lock};

/// How long a snapshot waits for the workers.
const SNAPSHOT: Duration = Duration::from_millis(100);
/// Attempts to find a port that is free for both UDP and TCP.
const PORT_ATTEMPTS: usize = 32;

/// What a node is started with.
#[derive(Clone, Copy, Debug)]
pub struct NodeConfig {
    /// The local address of all sockets; an unspecified IPv6 one takes IPv4 as well.
    pub host: IpAddr,
    /// The first worker's port, for UDP and TCP; the others follow. 0: any free ones, in no order.
    pub base_port: u16,
    /// How many packet workers, 1 to [`MAX_WORKERS`].
    pub workers: usize,
    /// Seed of everything random in the engines.
    pub seed: u64,
}

/// Totals of all workers.
#[derive(Clone, Debug, Default)]
pub struct NodeStats {
    /// The engines' totals, summed. A track that travels between workers counts on each.
    pub engine: Stats,
    /// What was dropped, by reason, engines and sockets together; every reason is there.
    pub dropped: Vec<(&'static str, u64)>,
    /// One for each worker.
    pub workers: Vec<WorkerStats>,
}

/// One packet worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerStats {
    /// CPU time of its thread.
    pub cpu: Duration,
    /// Transports that live on it.
    pub transports: usize,
    /// Packets that wait in its pacers.
    pub queued: usize,
    /// Packets for other workers that found a full ring.
    pub pipe_dropped: u64,
    /// Open TCP connections.
    pub tcp_connections: usize,
}

/// Everything at one moment.
#[derive(Clone, Debug, Default)]
pub struct NodeSnapshot {
    /// Tracks, each once: as its own worker receives it, with the senders of all.
    pub tracks: Vec<TrackStats>,
    /// Transports with senders.
    pub subscribers: Vec<SubscriberStats>,
    /// Workers that answered in time.
    pub answered: usize,
}

/// A running node. One thread at a time uses it; dropping it stops it.
#[derive(Debug)]
pub struct Node {
    ports: Vec<u16>,
    workers: Vec<Arc<Shared>>,
    threads: Vec<JoinHandle<()>>,
    router: Mutex<Router>,
    events: Arc<EventQueue>,
    clock: Arc<Clock>,
    has_failed: Arc<AtomicBool>,
}

impl Node {
    /// Binds the ports and starts a node of engines.
    ///
    /// # Errors
    /// Those of the system calls; `InvalidInput` for no workers or too many, or for ports beyond 65,535.
    pub fn start(config: &NodeConfig) -> io::Result<Self> {
        let seed = config.seed;
        Self::start_with(config, |index| {
            let seed = seed.wrapping_add(u64::try_from(index).unwrap_or(0).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            parley_core::engine::Engine::new(parley_core::engine::Config { seed })
        })
    }

    /// Starts a node of engines that `make` makes for each worker.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with<E: PacketEngine>(config: &NodeConfig, make: impl Fn(usize) -> E) -> io::Result<Self> {
        if config.workers == 0 || config.workers > MAX_WORKERS {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the number of packet workers is out of range"));
        }
        let sockets = bind_all(config)?;
        let ports = sockets.iter().map(|(udp, _)| Ok(udp.local_addr()?.port())).collect::<io::Result<_>>()?;
        let counters: Vec<_> = sockets.iter().map(|_| Arc::<Counters>::default()).collect();
        let wakes = sockets.iter().map(|_| EventFd::new().map(Arc::new)).collect::<io::Result<Vec<_>>>()?;
        let mut node = Self {
            ports,
            workers: Vec::new(),
            threads: Vec::new(),
            router: Mutex::new(Router::new(config.workers)),
            events: Arc::new(EventQueue::new()?),
            clock: Arc::default(),
            has_failed: Arc::default(),
        };
        let rings = pipes::between(&wakes, &counters);
        for ((index, sockets), (pipes, (wake, counters))) in
            sockets.into_iter().enumerate().zip(rings.into_iter().zip(wakes.into_iter().zip(counters)))
        {
            let shared = Arc::new(Shared::new(wake, counters));
            node.spawn(index, make(index), sockets, pipes, shared)?;
        }
        Ok(node)
    }

    fn spawn<E: PacketEngine>(
        &mut self,
        index: usize,
        engine: E,
        (udp, listener): (UdpSocket, TcpListener),
        pipes: (PipeSender, PipeReceiver),
        shared: Arc<Shared>,
    ) -> io::Result<()> {
        let worker = Worker::new(Parts {
            index,
            engine,
            udp: UdpPort::new(udp, Arc::clone(&shared.counters))?,
            listener,
            pipes,
            shared: Arc::clone(&shared),
            events: Arc::clone(&self.events),
            clock: Arc::clone(&self.clock),
        })?;
        let has_failed = Arc::clone(&self.has_failed);
        let thread = std::thread::Builder::new().name(format!("packets-{index}")).spawn(move || {
            let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker.run()));
            if !matches!(end, Ok(Ok(()))) {
                has_failed.store(true, Ordering::Relaxed);
            }
        })?;
        self.workers.push(shared);
        self.threads.push(thread);
        Ok(())
    }

    /// The port of each worker, UDP and TCP.
    #[must_use]
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// False once a worker ended by an error or a panic: its transports are lost, and the node should be replaced.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        !self.has_failed.load(Ordering::Relaxed)
    }

    /// Hands commands to the workers, in order; never waits for them. The number beside a command is the worker that a
    /// new transport is to live on (modulo their number) and counts for nothing else.
    pub fn apply(&self, commands: impl IntoIterator<Item = (usize, Command)>) {
        let mut orders = Orders::new();
        let mut router = lock(&self.router);
        self.forget_ended(&mut router, &mut orders);
        for (worker, command) in commands {
            router.route(worker, command, &mut orders);
        }
        let dropped = self.events.extend(MERGED, router.take_events().into_iter());
        if let Some(worker) = self.workers.first() {
            worker.counters.add(Reason::EventQueueFull, dropped);
        }
        self.hand_out(orders);
    }

    fn hand_out(&self, orders: Orders) {
        let mut messages: Vec<Vec<Message>> = self.workers.iter().map(|_| Vec::new()).collect();
        for (worker, command) in orders {
            if let Some(messages) = messages.get_mut(worker) {
                messages.push(Message::Command(command));
            }
        }
        for (worker, messages) in self.workers.iter().zip(messages) {
            if !messages.is_empty() && !worker.send(messages) {
                self.has_failed.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Takes at most `max` events, oldest first. What several workers say of one track becomes one event.
    #[must_use]
    pub fn poll_events(&self, max: usize) -> Vec<Event> {
        let mut orders = Orders::new();
        let mut router = lock(&self.router);
        let taken = self.events.take(max);
        let mut events: Vec<Event> =
            taken.into_iter().filter_map(|(worker, event)| router.merge(worker, event)).collect();
        self.forget_ended(&mut router, &mut orders);
        events.extend(router.take_events());
        self.hand_out(orders);
        events
    }

    /// The end of a transport may close pipes.
    fn forget_ended(&self, router: &mut Router, orders: &mut Orders) {
        for transport in self.events.take_ended() {
            router.transport_ended(&transport, orders);
        }
    }

    /// Readable while events wait.
    #[must_use]
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Totals, at most 200 ms old.
    #[must_use]
    pub fn stats(&self) -> NodeStats {
        let mut stats = NodeStats::default();
        let mut reasons = [0; REASON_NAMES.len()];
        for worker in &self.workers {
            let published = worker.published();
            let own = &published.stats;
            stats.workers.push(WorkerStats {
                cpu: published.cpu,
                transports: own.transports,
                queued: own.queued,
                pipe_dropped: worker.counters.get(Reason::PipeFull),
                tcp_connections: published.tcp_connections,
            });
            add(&mut stats.engine, own);
            for (sum, count) in reasons.iter_mut().zip(worker.counters.all()) {
                *sum += count;
            }
        }
        stats.dropped = DROPPED_NAMES.into_iter().zip(stats.engine.dropped).collect();
        for (name, count) in REASON_NAMES.into_iter().zip(reasons) {
            match stats.dropped.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += count,
                None => stats.dropped.push((name, count)),
            }
        }
        stats
    }

    /// Asks every worker for everything; waits 100 ms at most, and leaves out who does not answer by then.
    #[must_use]
    pub fn snapshot(&self) -> NodeSnapshot {
        let (reply, answers) = sync_channel::<(usize, Snapshot)>(self.workers.len());
        for worker in &self.workers {
            // a worker without room for it answers nothing, like one that is late
            let _ = worker.send(vec![Message::Snapshot(reply.clone())]);
        }
        drop(reply);
        let deadline = Deadline::now() + SNAPSHOT;
        let mut all = Vec::new();
        while let Ok(answer) = answers.recv_timeout(deadline.saturating_duration_since(Deadline::now())) {
            all.push(answer);
        }
        all.sort_by_key(|(worker, _)| *worker);
        merge(all, &lock(&self.router))
    }

    /// Moves the engines' clock forward by `micros` microseconds (for tests of time-outs).
    pub fn shift_clock(&self, micros: u64) {
        self.clock.advance(micros);
        for worker in &self.workers {
            worker.wake.raise();
        }
    }

    /// Ends all workers and waits for their threads; then the ports are free.
    pub fn stop(&mut self) {
        for worker in &self.workers {
            worker.stop();
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                self.has_failed.store(true, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

fn add(sum: &mut Stats, other: &Stats) {
    sum.transports += other.transports;
    sum.tracks += other.tracks;
    sum.senders += other.senders;
    sum.received_packets += other.received_packets;
    sum.received_bytes += other.received_bytes;
    sum.forwarded_packets += other.forwarded_packets;
    sum.forwarded_bytes += other.forwarded_bytes;
    sum.retransmitted_packets += other.retransmitted_packets;
    sum.queued += other.queued;
    for (sum, count) in sum.dropped.iter_mut().zip(other.dropped) {
        *sum += count;
    }
}

/// A track that is also on other workers is told as its own worker sees it.
fn merge(all: Vec<(usize, Snapshot)>, router: &Router) -> NodeSnapshot {
    let mut merged = NodeSnapshot { answered: all.len(), ..NodeSnapshot::default() };
    let mut piped = Vec::new();
    for (worker, snapshot) in all {
        let (own, others): (Vec<_>, Vec<_>) = snapshot
            .tracks
            .into_iter()
            .partition(|track| router.worker_of_track(&track.track).is_none_or(|owner| owner == worker));
        merged.tracks.extend(own);
        piped.extend(others);
        merged.subscribers.extend(snapshot.subscribers);
    }
    for other in piped {
        if let Some(track) = merged.tracks.iter_mut().find(|track| track.track == other.track) {
            track.senders += other.senders;
        }
    }
    merged
}

// --- ports -----------------------------------------------------------------------------------------------------------
fn bind_all(config: &NodeConfig) -> io::Result<Vec<(UdpSocket, TcpListener)>> {
    (0..config.workers)
        .map(|index| match config.base_port {
            0 => bind_any(config.host),
            base => {
                let port = u16::try_from(index).ok().and_then(|index| base.checked_add(index));
                let port = port.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a port is out of range"))?;
                bind(SocketAddr::new(config.host, port))
            }
        })
        .collect()
}

fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let udp = UdpSocket::bind(address)?;
    let tcp = TcpListener::bind(SocketAddr::new(address.ip(), udp.local_addr()?.port()))?;
    Ok((udp, tcp))
}

/// A port that is free for UDP may be taken for TCP.
fn bind_any(host: IpAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut attempt = bind(SocketAddr::new(host, 0));
    for _ in 1..PORT_ATTEMPTS {
        match &attempt {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => attempt = bind(SocketAddr::new(host, 0)),
            _ => break,
        }
    }
    attempt
}
