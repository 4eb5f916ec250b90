//! The system calls that the standard library lacks: epoll with microseconds, recvmmsg, sendmmsg, limits, affinity.
//! The only unsafe code of this crate.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use libc::{c_int, c_void};

/// Datagrams that one call receives at most.
pub const BATCH: usize = 32;
/// The longest datagram that is received whole, in bytes.
pub const MAX_DATAGRAM: usize = 1_600;
/// Datagrams that one call sends at most.
pub const MAX_SEND: usize = 64;
const MAX_READY: usize = 256;

fn checked(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// An epoll instance: which of many sockets have something to read.
pub struct Poller {
    epoll: OwnedFd,
    ready: Vec<libc::epoll_event>,
}

impl Poller {
    /// Watches nothing yet. Fails as `epoll_create1` does.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the descriptor that comes back is ours alone.
        let epoll = unsafe { OwnedFd::from_raw_fd(checked(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        Ok(Self { epoll, ready: Vec::with_capacity(MAX_READY) })
    }

    /// Watches a descriptor for input; `token` names it in what `wait` gives.
    pub fn add(&self, source: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        // SAFETY: both descriptors are open, and the kernel only reads `event` during the call.
        let result =
            unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, source.as_raw_fd(), &raw mut event) };
        checked(result).map(drop)
    }

    /// Waits for input until the time is over; how many descriptors are ready. An interruption counts as none.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<usize> {
        let limit = libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
        };
        // SAFETY: `ready` has room for MAX_READY events; `limit` outlives the call; there is no signal mask.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                self.ready.as_mut_ptr(),
                MAX_READY as c_int,
                &raw const limit,
                ptr::null::<c_void>(),
                0_usize,
            )
        };
        let count = match usize::try_from(count) {
            Ok(count) => count,
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => 0,
                error => return Err(error),
            },
        };
        // SAFETY: the kernel has written that many events, and never more than it was given room for.
        unsafe { self.ready.set_len(count.min(MAX_READY)) };
        Ok(count)
    }

    /// The token of a descriptor that the last `wait` found ready.
    #[must_use]
    pub fn token(&self, place: usize) -> Option<u64> {
        self.ready.get(place).map(|event| event.u64)
    }
}

/// Room for the datagrams of one `recvmmsg`.
pub struct Ring {
    buffers: Box<[[u8; MAX_DATAGRAM]; BATCH]>,
    lengths: [usize; BATCH],
}

impl Default for Ring {
    fn default() -> Self {
        Self { buffers: Box::new([[0; MAX_DATAGRAM]; BATCH]), lengths: [0; BATCH] }
    }
}

impl Ring {
    /// Receives what waits at a socket, up to `limit` datagrams and `BATCH`; 0 where nothing waits. What ICMP reported of
    /// earlier sends counts as nothing.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
        let limit = limit.min(BATCH);
        let mut vectors: [libc::iovec; BATCH] = self
            .buffers
            .each_mut()
            .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: MAX_DATAGRAM });
        // SAFETY: an all-zero header has no name, no control data and no vectors, which is a valid one.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        for (header, vector) in headers.iter_mut().zip(&mut vectors).take(limit) {
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: `limit` headers point to one vector each, and these to buffers of ours, alive until after the call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                limit as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let Ok(count) = usize::try_from(count) else {
            return match io::Error::last_os_error() {
                error if is_transient(&error) => Ok(0),
                error => Err(error),
            };
        };
        for (length, header) in self.lengths.iter_mut().zip(&headers).take(count) {
            *length = (header.msg_len as usize).min(MAX_DATAGRAM);
        }
        Ok(count)
    }

    /// A datagram of the last `receive`; empty beyond what it gave.
    pub fn datagram(&mut self, place: usize) -> &mut [u8] {
        let length = self.lengths.get(place).copied().unwrap_or(0);
        self.buffers.get_mut(place).and_then(|buffer| buffer.get_mut(..length)).unwrap_or_default()
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionRefused)
}

/// Sends datagrams on a connected socket with one call; how many went out. A full buffer ends it early.
pub fn send_all<'a>(socket: BorrowedFd<'_>, datagrams: impl Iterator<Item = &'a [u8]>) -> io::Result<usize> {
    // SAFETY: all-zero vectors and headers are valid: no data, no name, no control data.
    let (mut vectors, mut headers): ([libc::iovec; MAX_SEND], [libc::mmsghdr; MAX_SEND]) =
        unsafe { (mem::zeroed(), mem::zeroed()) };
    let mut count = 0;
    for ((datagram, vector), header) in datagrams.zip(&mut vectors).zip(&mut headers) {
        *vector = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    // SAFETY: `count` headers point to one vector each, and these to slices that outlive the call; sendmmsg only reads them.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
    match usize::try_from(sent) {
        Ok(sent) => Ok(sent),
        Err(_) => match io::Error::last_os_error() {
            error if is_transient(&error) => Ok(0),
            error => Err(error),
        },
    }
}

/// Asks for socket buffers of so many bytes, beyond the system's limit where that is allowed.
pub fn set_buffers(socket: BorrowedFd<'_>, bytes: c_int) {
    for (forced, plain) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
        if set_option(socket, forced, bytes).is_err() {
            // The system's limit is what is left then, and the report shows what was lost.
            let _ = set_option(socket, plain, bytes);
        }
    }
}

fn set_option(socket: BorrowedFd<'_>, option: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: `value` is an int that lives during the call, and its size is passed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            mem::size_of::<c_int>() as libc::socklen_t,
        )
    };
    checked(result).map(drop)
}

/// Keeps this thread on one core. Fails where there is no such core.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    // SAFETY: an all-zero set is an empty one; CPU_SET ignores numbers that do not fit; the set outlives the call.
    let result = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, mem::size_of::<libc::cpu_set_t>(), &raw const set)
    };
    checked(result).map(drop)
}

/// Allows as many open files as the system permits.
pub fn raise_file_limit() -> io::Result<()> {
    // SAFETY: both calls only access `limit`, which lives during them.
    unsafe {
        let mut limit: libc::rlimit = mem::zeroed();
        checked(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit))?;
        limit.rlim_cur = limit.rlim_max;
        checked(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)).map(drop)
    }
}

/// CPU time of this process so far, user and system.
#[must_use]
pub fn process_cpu() -> Duration {
    // SAFETY: the call only writes `time`.
    let time = unsafe {
        let mut time: libc::timespec = mem::zeroed();
        if libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) < 0 {
            return Duration::ZERO;
        }
        time
    };
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// Lets reads of the standard input return at once.
pub fn make_nonblocking(source: impl AsFd) -> io::Result<()> {
    let descriptor = source.as_fd().as_raw_fd();
    // SAFETY: no pointers; the descriptor is borrowed and open.
    unsafe {
        let flags = checked(libc::fcntl(descriptor, libc::F_GETFL))?;
        checked(libc::fcntl(descriptor, libc::F_SETFL, flags | libc::O_NONBLOCK)).map(drop)
    }
}
