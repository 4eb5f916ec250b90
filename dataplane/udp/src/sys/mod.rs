//! Thin safe wrappers over the system calls that the standard library does not offer (Linux).
//!
//! This is the only module of the data plane with unsafe code. Nothing here decides anything: every result of a system
//! call is returned.
#![expect(unsafe_code, reason = "system calls")]

mod address;
mod poll;
mod receive;
mod send;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::c_int;

pub(crate) use poll::{Interest, Poller, Ready, wait_readable, wait_writable};
pub(crate) use receive::{RECEIVE_BATCH, Receiver};
pub(crate) use send::{Filled, PushError, Sender};

/// The result of a system call that tells errors by -1.
fn checked(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Microseconds of a clock; zero where the kernel does not know it, which Linux does for those used here.
fn clock_micros(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the call to write.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return 0;
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000
}

/// CLOCK_MONOTONIC in microseconds.
pub(crate) fn monotonic_micros() -> u64 {
    clock_micros(libc::CLOCK_MONOTONIC)
}

/// CPU time of the calling thread in microseconds.
pub(crate) fn thread_cpu_micros() -> u64 {
    clock_micros(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Sets an option of a socket that is an integer.
fn set_option(socket: BorrowedFd<'_>, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<c_int>()).unwrap_or(4);
    // SAFETY: the pointer and size describe `value`, which outlives the call.
    checked(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size) }).map(drop)
}

/// Asks for socket buffers of `bytes`, beyond the system's limit where this process may.
pub(crate) fn set_buffers(socket: BorrowedFd<'_>, bytes: c_int) -> io::Result<()> {
    for (force, plain) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
        if set_option(socket, libc::SOL_SOCKET, force, bytes).is_err() {
            set_option(socket, libc::SOL_SOCKET, plain, bytes)?;
        }
    }
    Ok(())
}

/// How many datagrams the kernel dropped because the socket's receive buffer was full, since the socket was made.
pub(crate) fn receive_drops(socket: BorrowedFd<'_>) -> u32 {
    const DROPS: usize = 8; // SK_MEMINFO_DROPS
    let mut info = [0_u32; DROPS + 1];
    let mut size = libc::socklen_t::try_from(size_of_val(&info)).unwrap_or(0);
    // SAFETY: the pointers describe `info` and its size, which outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    if result == 0 { info[DROPS] } else { 0 }
}

/// Limits what waits in the kernel of a TCP connection and was not sent yet.
pub(crate) fn set_not_sent_limit(socket: BorrowedFd<'_>, bytes: c_int) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, bytes)
}

/// A counter of the kernel that makes a descriptor readable: wakes a thread that waits in [`Poller::wait`].
#[derive(Debug)]
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    /// A counter at zero.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers; a result that is not negative is a new descriptor that nobody else owns.
        let fd = checked(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: see above.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Makes the descriptor readable. A counter that is full already is readable, so that this cannot fail.
    pub(crate) fn raise(&self) {
        // SAFETY: the descriptor is open as long as `self` lives.
        unsafe { libc::eventfd_write(self.0.as_raw_fd(), 1) };
    }

    /// Makes the descriptor not readable.
    pub(crate) fn clear(&self) {
        let mut value = 0;
        // SAFETY: the descriptor is open, and `value` is valid for the call to write.
        unsafe { libc::eventfd_read(self.0.as_raw_fd(), &raw mut value) };
    }

    /// The descriptor, to wait for.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.0)
    }
}

/// Switches UDP checksums off: the kernel then refuses runs, as it does for a route that cannot split them.
#[cfg(test)]
pub(crate) fn refuse_runs(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1)
}
