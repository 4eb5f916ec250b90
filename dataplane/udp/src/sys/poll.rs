//! epoll and poll.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libc::{c_int, epoll_event};

use super::checked;

/// What [`Poller::wait`] reports at most at a time.
const MAX_READY: usize = 128;

/// What to wait for on a descriptor; errors and hang-ups always count as readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    Read,
    ReadWrite,
    Nothing,
}

/// A descriptor that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) token: u64,
    pub(crate) is_readable: bool,
    pub(crate) is_writable: bool,
}

/// An epoll instance, level-triggered.
#[derive(Debug)]
pub(crate) struct Poller {
    fd: OwnedFd,
    /// Whether the kernel knows time-outs finer than milliseconds (Linux 5.11).
    is_fine: AtomicBool,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers; a result that is not negative is a new descriptor that nobody else owns.
        let fd = checked(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: see above.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, is_fine: AtomicBool::new(true) })
    }

    /// Starts to watch a descriptor. The kernel forgets it when it is closed.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    /// Changes what is waited for.
    pub(crate) fn change(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    fn control(&self, operation: c_int, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        let events = match interest {
            Interest::Read => libc::EPOLLIN,
            Interest::ReadWrite => libc::EPOLLIN | libc::EPOLLOUT,
            Interest::Nothing => 0,
        };
        let mut event = epoll_event { events: events.cast_unsigned(), u64: token };
        // SAFETY: both descriptors are open, and `event` outlives the call.
        let result = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd.as_raw_fd(), &raw mut event) };
        checked(result).map(drop)
    }

    /// Waits until something is ready or `timeout` is over, and puts what is ready into `ready`.
    pub(crate) fn wait(&self, ready: &mut Vec<Ready>, timeout: Duration) -> io::Result<()> {
        ready.clear();
        let mut events = [epoll_event { events: 0, u64: 0 }; MAX_READY];
        let count = match self.wait_for(&mut events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            result => result?,
        };
        ready.extend(events.iter().take(usize::try_from(count).unwrap_or(0)).map(|event| {
            let flags = { event.events }.cast_signed();
            Ready {
                token: event.u64,
                is_readable: flags & (libc::EPOLLIN | libc::EPOLLERR | libc::EPOLLHUP) != 0,
                is_writable: flags & libc::EPOLLOUT != 0,
            }
        }));
        Ok(())
    }

    fn wait_for(&self, events: &mut [epoll_event; MAX_READY], timeout: Duration) -> io::Result<c_int> {
        if self.is_fine.load(Ordering::Relaxed) {
            let result = self.wait_fine(events, timeout);
            if !result.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ENOSYS)) {
                return result;
            }
            self.is_fine.store(false, Ordering::Relaxed);
        }
        let millis = c_int::try_from(timeout.as_micros().div_ceil(1_000)).unwrap_or(c_int::MAX);
        let size = c_int::try_from(MAX_READY).unwrap_or(1);
        // SAFETY: `events` has room for `size` events.
        checked(unsafe { libc::epoll_wait(self.fd.as_raw_fd(), events.as_mut_ptr(), size, millis) })
    }

    /// By number, because older C libraries have no function for it.
    fn wait_fine(&self, events: &mut [epoll_event; MAX_READY], timeout: Duration) -> io::Result<c_int> {
        let time = libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // SAFETY: `events` has room for MAX_READY events, `time` outlives the call, and no signal mask is given.
        let result = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                events.as_mut_ptr(),
                MAX_READY,
                &raw const time,
                std::ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        checked(c_int::try_from(result).unwrap_or(-1))
    }
}

/// Waits until a socket has something to read, at most so long.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, timeout: Duration) -> bool {
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let nanos = libc::c_long::from(timeout.subsec_nanos());
    let limit = libc::timespec { tv_sec: 0, tv_nsec: nanos };
    // SAFETY: one entry and the limit, both alive during the call; no signal mask.
    let count = unsafe { libc::ppoll(&raw mut entry, 1, &raw const limit, std::ptr::null()) };
    count > 0
}

/// Waits at most `millis` until a socket takes more; whether it does.
pub(crate) fn wait_writable(socket: impl AsFd, millis: c_int) -> bool {
    let mut entry = libc::pollfd { fd: socket.as_fd().as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: `entry` is one valid pollfd.
    let count = unsafe { libc::poll(&raw mut entry, 1, millis) };
    count == 1 && entry.revents & libc::POLLOUT != 0
}
