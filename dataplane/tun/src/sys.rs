//! The system calls that the standard library lacks: TUN devices and `ppoll`. The only unsafe code of this crate.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::ptr;
use std::time::Duration;

use libc::{c_char, c_int, c_short};

const DEVICES: &str = "/dev/net/tun";

/// A new TUN device of a name in this network namespace. Reads give one IP packet each and do not wait; writes take one.
/// The device is gone when the file is closed, also from another namespace that it was moved to. Fails with
/// `InvalidInput` for a name that is none, and as `open` and `ioctl` do: without rights, or where the name is taken.
pub fn open_tun(name: &str) -> io::Result<File> {
    // SAFETY: an all-zero ifreq is a valid one: an empty name and no flags.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    let is_name = !name.is_empty() && name.len() < libc::IFNAMSIZ && name.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_name {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a device has a name of 1 to 15 letters"));
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte as c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL) as c_short;
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICES)?;
    // SAFETY: the descriptor is open, and `request` is an ifreq that lives during the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(file) }
}

/// Waits until one of the descriptors has something to read (or has ended), at most so long; which ones have. Without a
/// limit it waits for ever. An interruption counts as none.
pub fn wait<const N: usize>(sources: [BorrowedFd<'_>; N], limit: Option<Duration>) -> io::Result<[bool; N]> {
    let mut polled =
        sources.map(|source| libc::pollfd { fd: source.as_raw_fd(), events: libc::POLLIN, revents: 0 as c_short });
    let limit = limit.map(|limit| libc::timespec {
        tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(limit.subsec_nanos()),
    });
    let timeout = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: `polled` has N entries of open descriptors; `limit` outlives the call; there is no signal mask.
    let count: c_int = unsafe { libc::ppoll(polled.as_mut_ptr(), N as libc::nfds_t, timeout, ptr::null()) };
    if count < 0 {
        return match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok([false; N]),
            error => Err(error),
        };
    }
    Ok(polled.map(|one| one.revents != 0))
}
