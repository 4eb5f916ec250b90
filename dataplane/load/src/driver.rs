//! The one thread that does everything: reads commands, sends frames when they are due, reads every socket.

use core::time::Duration;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use parley_core::srtp::Profile;
use parley_core::time::Instant;

use crate::command::{
    Answer, Command, Connect, ConnectResult, ConnectedPeer, Connection, FailedPeer, Load, MadePeer, PeerReport, Peers,
    Report,
};
use crate::dtls::{Failure, Identity, Keys};
use crate::histogram::Histogram;
use crate::ice::Credentials;
use crate::incoming::set_delays;
use crate::outgoing::Frame;
use crate::peer::{Peer, Stage, Surroundings};
use crate::sys::{self, Poller, Ring};

const INPUT: u64 = u64::MAX;
/// Datagrams read from one socket before others have their turn.
const TURN: usize = sys::BATCH;
/// Handshakes at a time, so that a server's flights do not wait for their turn longer than a retransmission.
const MAX_CONNECTING: usize = 16;
const IDLE: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Job {
    Tend { peer: usize },
    Frame { peer: usize, stream: usize, load: u64 },
}

/// Peers that a `connect` still waits for.
struct Connecting {
    waiting: VecDeque<Connection>,
    asked: Vec<usize>,
    failed: Vec<FailedPeer>,
    since: Instant,
    deadline: Instant,
}

/// The load that is on.
struct Running {
    number: u64,
    ends: Option<Instant>,
    spin: bool,
}

/// The start of the window that reports are on.
struct Window {
    since: Instant,
    cpu: Duration,
    late: Duration,
}

/// All peers and what they do.
pub struct Driver<W> {
    identity: Identity,
    peers: Vec<Peer>,
    by_id: HashMap<String, usize>,
    poller: Poller,
    ring: Ring,
    frame: Frame,
    origin: std::time::Instant,
    jobs: BinaryHeap<Reverse<(Instant, Job)>>,
    /// When a frame is due without the rounding to microseconds, by peer and stream.
    exact: HashMap<(usize, usize), f64>,
    window: Window,
    connecting: Option<Connecting>,
    running: Option<Running>,
    loads: u64,
    lines: VecDeque<String>,
    input: Vec<u8>,
    is_input_over: bool,
    output: W,
}

impl<W: Write> Driver<W> {
    /// A driver without peers that answers on `output`. Fails without epoll or randomness.
    pub fn new(output: W) -> Result<Self, Failure> {
        Ok(Self {
            identity: Identity::new()?,
            peers: Vec::new(),
            by_id: HashMap::new(),
            poller: Poller::new().map_err(|error| error.to_string())?,
            ring: Ring::default(),
            frame: Frame::default(),
            origin: std::time::Instant::now(),
            jobs: BinaryHeap::new(),
            exact: HashMap::new(),
            window: Window { since: Instant::default(), cpu: Duration::ZERO, late: Duration::ZERO },
            connecting: None,
            running: None,
            loads: 0,
            lines: VecDeque::new(),
            input: Vec::new(),
            is_input_over: false,
            output,
        })
    }

    /// Serves the standard input until it ends.
    pub fn run(&mut self) -> io::Result<()> {
        let input = io::stdin();
        sys::make_nonblocking(&input)?;
        self.poller.add(input.as_fd(), INPUT)?;
        while !self.is_input_over {
            self.work()?;
            let timeout = self.timeout();
            let ready = self.poller.wait(timeout)?;
            for place in 0..ready {
                match self.poller.token(place) {
                    Some(INPUT) => self.read_input(&input)?,
                    Some(token) => self.drain(token)?,
                    None => {}
                }
                self.do_jobs();
            }
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn timeout(&self) -> Duration {
        if self.running.as_ref().is_some_and(|running| running.spin) {
            return Duration::ZERO;
        }
        let now = self.now();
        let next = self.jobs.peek().map_or(now + IDLE, |Reverse((at, _))| *at);
        next.since(now).min(IDLE)
    }

    /// Everything but input and sockets.
    fn work(&mut self) -> io::Result<()> {
        self.do_jobs();
        self.go_on_connecting()?;
        let now = self.now();
        if self.running.as_ref().and_then(|running| running.ends).is_some_and(|ends| now >= ends) {
            self.end_load()?;
        }
        while self.connecting.is_none() {
            let Some(line) = self.lines.pop_front() else { break };
            self.obey(&line)?;
        }
        Ok(())
    }

    // --- input ---

    fn read_input(&mut self, mut input: impl Read) -> io::Result<()> {
        let mut chunk = [0; 65_536];
        match input.read(&mut chunk) {
            Ok(0) => self.is_input_over = true,
            Ok(count) => self.input.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            self.lines.push_back(String::from_utf8_lossy(&line).into_owned());
        }
        Ok(())
    }

    fn answer(&mut self, answer: &Answer) -> io::Result<()> {
        serde_json::to_writer(&mut self.output, answer)?;
        self.output.write_all(b"\n")?;
        self.output.flush()
    }

    fn obey(&mut self, line: &str) -> io::Result<()> {
        let outcome = match serde_json::from_str(line) {
            Err(error) => Err(format!("not a command: {error}")),
            Ok(Command::Peers(command)) => self.make_peers(&command).map(Some),
            Ok(Command::Connect(command)) => {
                self.begin_connecting(command);
                Ok(None)
            }
            Ok(Command::Load(command)) => self.begin_load(command),
            Ok(Command::Mark(_)) => {
                self.restart_window();
                Ok(Some(Answer::Marked(true)))
            }
            Ok(Command::Snapshot(_)) => Ok(Some(Answer::Report(Box::new(self.totals())))),
            Ok(Command::Stop(_)) => return self.end_load(),
        };
        match outcome {
            Ok(None) => Ok(()),
            Ok(Some(answer)) => self.answer(&answer),
            Err(why) => self.answer(&Answer::Error(why)),
        }
    }

    fn make_peers(&mut self, command: &Peers) -> Result<Answer, Failure> {
        let host: IpAddr = command.host.parse().map_err(|_| "the host is no IP address")?;
        let mut made = Vec::new();
        for new in &command.peers {
            if self.by_id.contains_key(&new.id) {
                return Err(format!("there is a peer {} already", new.id));
            }
            let place = self.peers.len();
            let peer = Peer::new(new.id.clone(), host).map_err(|error| error.to_string())?;
            self.poller.add(peer.socket.as_fd(), place as u64).map_err(|error| error.to_string())?;
            made.push(MadePeer {
                id: peer.id.clone(),
                ip: peer.local.ip().to_string(),
                port: peer.local.port(),
                ufrag: peer.credentials.ufrag.clone(),
                pwd: peer.credentials.pwd.clone(),
                fingerprint: self.identity.fingerprint().to_owned(),
            });
            self.by_id.insert(new.id.clone(), place);
            self.peers.push(peer);
        }
        Ok(Answer::Peers(made))
    }

    fn place(&self, id: &str) -> Result<usize, Failure> {
        self.by_id.get(id).copied().ok_or_else(|| format!("there is no peer {id}"))
    }

    // --- connecting ---

    fn begin_connecting(&mut self, command: Connect) {
        let since = self.now();
        let wait = Duration::try_from_secs_f64(command.timeout_s).unwrap_or(IDLE);
        self.connecting = Some(Connecting {
            waiting: command.connect.into(),
            asked: Vec::new(),
            failed: Vec::new(),
            since,
            deadline: since + wait,
        });
    }

    fn go_on_connecting(&mut self) -> io::Result<()> {
        let Some(mut connecting) = self.connecting.take() else { return Ok(()) };
        let now = self.now();
        let is_open = |place: &&usize| self.peers[**place].stage == Stage::Connecting;
        let mut open = connecting.asked.iter().filter(is_open).count();
        while open < MAX_CONNECTING {
            let Some(connection) = connecting.waiting.pop_front() else { break };
            let id = connection.id.clone();
            match self.connect(connection, now) {
                Ok(place) => connecting.asked.push(place),
                Err(why) => connecting.failed.push(FailedPeer { id, why }),
            }
            open += 1;
        }
        if open > 0 && now < connecting.deadline {
            self.connecting = Some(connecting);
            return Ok(());
        }
        let result = self.connect_result(connecting, now);
        self.answer(&Answer::Connected(result))
    }

    fn connect_result(&self, connecting: Connecting, now: Instant) -> ConnectResult {
        let mut result = ConnectResult { connected: Vec::new(), failed: connecting.failed, seconds: 0.0 };
        result.seconds = now.since(connecting.since).as_secs_f64();
        for place in connecting.asked {
            let peer = &self.peers[place];
            let id = peer.id.clone();
            match &peer.stage {
                Stage::Connected(profile) => {
                    result.connected.push(ConnectedPeer { id, profile: profile_name(*profile) });
                }
                Stage::Failed(why) => result.failed.push(FailedPeer { id, why: why.clone() }),
                _ => result.failed.push(FailedPeer { id, why: "the time was over".to_owned() }),
            }
        }
        let waiting = connecting.waiting.into_iter();
        result.failed.extend(waiting.map(|left| FailedPeer { id: left.id, why: "its turn never came".to_owned() }));
        result
    }

    fn connect(&mut self, connection: Connection, now: Instant) -> Result<usize, Failure> {
        let place = self.place(&connection.id)?;
        let remote = connection.remote;
        let ip: IpAddr = remote.ip.parse().map_err(|_| "the server has no IP address")?;
        let address = SocketAddr::new(ip, remote.port);
        let peer = &mut self.peers[place];
        if let Some(keys) = connection.keys {
            let profile = Profile::from_name(&keys.profile).ok_or("there is no such SRTP profile")?;
            let keys = Keys { profile, send: unhex(&keys.send)?, receive: unhex(&keys.receive)? };
            peer.preset(address, &keys)?;
        } else {
            let names = connection.profiles.iter();
            let profiles: Option<Vec<Profile>> = names.map(|name| Profile::from_name(name)).collect();
            let theirs = Credentials { ufrag: remote.ufrag, pwd: remote.pwd };
            let profiles = profiles.ok_or("there is no such SRTP profile")?;
            peer.connect(address, theirs, remote.fingerprint, profiles, now).map_err(|error| error.to_string())?;
        }
        self.jobs.push(Reverse((now, Job::Tend { peer: place })));
        Ok(place)
    }

    // --- load ---

    fn begin_load(&mut self, command: Load) -> Result<Option<Answer>, Failure> {
        self.loads += 1;
        let now = self.now();
        for peer in &mut self.peers {
            peer.incoming.set_spec(None);
        }
        for spec in command.receive {
            let place = self.place(&spec.id)?;
            self.peers[place].incoming.set_spec(Some(spec));
        }
        for spec in command.send {
            if !(spec.frames_per_s.is_finite() && spec.frames_per_s > 0.0) {
                return Err("a stream has some frames each second".to_owned());
            }
            let peer = self.place(&spec.id)?;
            let stream = self.peers[peer].set_stream(spec);
            let (interval, phase) = self.peers[peer].timing(stream).unwrap_or((1e6, 0.0));
            #[expect(clippy::cast_precision_loss, reason = "microseconds of a run are below 2^52")]
            let first = now.as_micros() as f64 + interval * phase.clamp(0.0, 1.0);
            self.plan(peer, stream, first);
        }
        let ends = command.seconds.map(|seconds| now + Duration::try_from_secs_f64(seconds).unwrap_or(IDLE));
        self.running = Some(Running { number: self.loads, ends, spin: command.spin });
        self.restart_window();
        Ok(ends.is_none().then_some(Answer::Sending(true)))
    }

    fn plan(&mut self, peer: usize, stream: usize, at: f64) {
        self.exact.insert((peer, stream), at);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
        let at = Instant::from_micros(at as u64);
        self.jobs.push(Reverse((at, Job::Frame { peer, stream, load: self.loads })));
    }

    fn end_load(&mut self) -> io::Result<()> {
        self.running = None;
        let report = self.report();
        self.answer(&Answer::Report(Box::new(report)))
    }

    fn restart_window(&mut self) {
        self.window = Window { since: self.now(), cpu: sys::process_cpu(), late: Duration::ZERO };
        for peer in &mut self.peers {
            peer.incoming.restart();
            peer.sent = 0;
            peer.unsent = 0;
        }
    }

    /// The sums of all peers.
    fn totals(&self) -> Report {
        let mut report = Report {
            wall_s: self.now().since(self.window.since).as_secs_f64(),
            cpu_s: sys::process_cpu().saturating_sub(self.window.cpu).as_secs_f64(),
            late_ms: self.window.late.as_secs_f64() * 1e3,
            ..Report::default()
        };
        let mut delays = Histogram::default();
        for peer in &self.peers {
            report.sent += peer.sent;
            report.unsent += peer.unsent;
            report.total.add(&peer.incoming.counted());
            delays.merge(&peer.incoming.delays);
        }
        set_delays(&mut report.total, &delays);
        report
    }

    /// The same with each peer's part.
    fn report(&self) -> Report {
        let mut report = self.totals();
        report.peers = self
            .peers
            .iter()
            .map(|peer| PeerReport { id: peer.id.clone(), sent: peer.sent, received: peer.incoming.report() })
            .collect();
        report
    }

    // --- jobs and sockets ---

    fn do_jobs(&mut self) {
        loop {
            let now = self.now();
            match self.jobs.peek() {
                Some(Reverse((at, _))) if *at <= now => {}
                _ => return,
            }
            let Some(Reverse((at, job))) = self.jobs.pop() else { return };
            match job {
                Job::Tend { peer } => self.tend(peer, now),
                Job::Frame { peer, stream, load } => self.send_frame(peer, stream, load, at),
            }
        }
    }

    fn tend(&mut self, place: usize, now: Instant) {
        let wall = std::time::Instant::now();
        let around = Surroundings { identity: &mut self.identity, now, wall };
        let Some(peer) = self.peers.get_mut(place) else { return };
        let next = peer.tend(&around);
        if !matches!(peer.stage, Stage::Failed(_)) {
            self.jobs.push(Reverse((next, Job::Tend { peer: place })));
        }
    }

    fn send_frame(&mut self, peer: usize, stream: usize, load: u64, due: Instant) {
        if self.running.as_ref().is_none_or(|running| running.number != load) {
            return;
        }
        let now = self.now();
        self.window.late = self.window.late.max(now.since(due));
        self.peers[peer].send_frame(stream, now, &mut self.frame);
        let interval = self.peers[peer].timing(stream).map_or(1e6, |timing| timing.0);
        let at = self.exact.get(&(peer, stream)).copied().unwrap_or_default() + interval;
        self.plan(peer, stream, at);
    }

    fn drain(&mut self, token: u64) -> io::Result<()> {
        let Some(peer) = usize::try_from(token).ok().and_then(|place| self.peers.get_mut(place)) else {
            return Ok(());
        };
        let count = self.ring.receive(peer.socket.as_fd(), TURN)?;
        let micros = u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut around = Surroundings {
            identity: &mut self.identity,
            now: Instant::from_micros(micros),
            wall: std::time::Instant::now(),
        };
        for place in 0..count {
            peer.receive(self.ring.datagram(place), &mut around);
        }
        Ok(())
    }
}

const fn profile_name(profile: Profile) -> &'static str {
    match profile {
        Profile::Aes128CmSha1_80 => "AES128_CM_SHA1_80",
        Profile::AeadAes128Gcm => "AEAD_AES_128_GCM",
        Profile::AeadAes256Gcm => "AEAD_AES_256_GCM",
    }
}

/// The bytes of a string of hexadecimal digits.
pub fn unhex(text: &str) -> Result<Vec<u8>, Failure> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0).ok_or("a key is not hexadecimal")?;
    Ok(digits.chunks_exact(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap_or(0)).collect())
}
