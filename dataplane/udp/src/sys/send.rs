//! sendmmsg, each entry a datagram or a run of equal ones that the kernel splits (UDP GSO).

use std::io;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_uint, cmsghdr, iovec, mmsghdr, msghdr, sockaddr_storage, socklen_t};

use super::{address, checked};

/// Messages of one call.
const MAX_MESSAGES: usize = 64;
/// Datagrams of one call.
const MAX_PARTS: usize = 512;
/// The kernel's limit of datagrams in a run (UDP_MAX_SEGMENTS of older kernels).
const MAX_SEGMENTS: usize = 64;
/// The longest UDP payload over IPv4.
const MAX_RUN_BYTES: usize = 65_507;
/// Bytes of a control message with a 16-bit value, padded.
// SAFETY: plain arithmetic.
const CONTROL: usize = unsafe { libc::CMSG_SPACE(2) } as usize;

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

/// Why a message does not go into the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PushError {
    /// The block is full: send it first.
    Full,
    /// The socket's address family cannot reach the destination.
    Unreachable,
    /// Too many segments or bytes for one message.
    TooLong,
}

#[derive(Clone, Copy)]
struct Entry {
    first: usize,
    count: usize,
    segment: u16,
    name_len: socklen_t,
}

/// Room for one sendmmsg call, allocated once.
pub(crate) struct Sender {
    is_v6: bool,
    headers: Vec<mmsghdr>,
    names: Vec<sockaddr_storage>,
    controls: Vec<Control>,
    parts: Vec<iovec>,
    entries: Vec<Entry>,
}

// SAFETY: the pointers in it are used only while a `Filled` lives; in between they are dead.
unsafe impl Send for Sender {}

impl Sender {
    /// Room for a socket of the given family.
    pub(crate) fn new(is_v6: bool) -> Self {
        // SAFETY: all zero bytes are a valid mmsghdr: null pointers and zero lengths.
        let header: mmsghdr = unsafe { std::mem::zeroed() };
        Self {
            is_v6,
            headers: vec![header; MAX_MESSAGES],
            names: vec![address::empty(); MAX_MESSAGES],
            controls: vec![Control([0; CONTROL]); MAX_MESSAGES],
            parts: Vec::with_capacity(MAX_PARTS),
            entries: Vec::with_capacity(MAX_MESSAGES),
        }
    }

    /// Starts an empty block, which borrows what is pushed into it.
    pub(crate) fn start(&mut self) -> Filled<'_> {
        let mut filled = Filled { block: self, segments: PhantomData };
        filled.clear();
        filled
    }
}

/// Messages that are ready to go.
pub(crate) struct Filled<'a> {
    block: &'a mut Sender,
    segments: PhantomData<&'a [u8]>,
}

impl<'a> Filled<'a> {
    /// Messages in the block.
    pub(crate) fn len(&self) -> usize {
        self.block.entries.len()
    }

    /// Whether another message of `count` datagrams fits.
    pub(crate) fn has_room(&self, count: usize) -> bool {
        self.len() < MAX_MESSAGES && self.block.parts.len() + count <= MAX_PARTS
    }

    /// Empties the block.
    pub(crate) fn clear(&mut self) {
        self.block.parts.clear();
        self.block.entries.clear();
    }

    /// The address that message `at` goes to.
    pub(crate) fn destination(&self, at: usize) -> Option<IpAddr> {
        self.block.names.get(at).filter(|_| at < self.len()).and_then(address::read).map(|to| to.ip())
    }

    /// Datagrams of message `at`.
    pub(crate) fn datagrams(&self, at: usize) -> usize {
        self.block.entries.get(at).map_or(0, |entry| entry.count)
    }

    /// Adds a run of `count` datagrams to one destination: each of `segment` bytes, only the last may be shorter.
    pub(crate) fn push(
        &mut self,
        to: SocketAddr,
        segments: impl Iterator<Item = &'a [u8]>,
        segment: usize,
        count: usize,
    ) -> Result<(), PushError> {
        let block = &mut *self.block;
        if count == 0 || count > MAX_SEGMENTS || segment * count > MAX_RUN_BYTES {
            return Err(PushError::TooLong);
        }
        let (index, first) = (block.entries.len(), block.parts.len());
        let Some(name) = block.names.get_mut(index).filter(|_| first + count <= MAX_PARTS) else {
            return Err(PushError::Full);
        };
        let name_len = address::write(to, block.is_v6, name).ok_or(PushError::Unreachable)?;
        let size = u16::try_from(segment).map_err(|_| PushError::TooLong)?;
        let parts =
            segments.take(count).map(|part| iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
        block.parts.extend(parts);
        block.entries.push(Entry { first, count: block.parts.len() - first, segment: size, name_len });
        Ok(())
    }

    /// Sends the messages from `at` on; how many went. The error is that of message `at`. Never blocks.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>, at: usize) -> io::Result<usize> {
        let count = self.len().saturating_sub(at);
        for index in at..at + count {
            self.write_header(index, None);
        }
        let Some(headers) = self.block.headers.get_mut(at..at + count) else { return Ok(0) };
        let size = c_uint::try_from(count).unwrap_or(0);
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: `size` headers are valid; `write_header` pointed them at names, controls and parts of the block, and
        // the parts at segments that live as long as `self`. The kernel only reads them.
        let sent = checked(unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), size, flags as _) })?;
        Ok(usize::try_from(sent).unwrap_or(0))
    }

    /// Sends datagram `segment` of message `at` alone.
    pub(crate) fn send_one(&mut self, socket: BorrowedFd<'_>, at: usize, segment: usize) -> io::Result<()> {
        self.write_header(at, Some(segment));
        let Some(header) = self.block.headers.get(at) else { return Ok(()) };
        // SAFETY: as in `send`.
        let sent = unsafe {
            libc::sendmsg(socket.as_raw_fd(), &raw const header.msg_hdr, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Points header `index` at its message, or at one datagram of it.
    fn write_header(&mut self, index: usize, only: Option<usize>) {
        let block = &mut *self.block;
        let (Some(entry), Some(header)) = (block.entries.get(index).copied(), block.headers.get_mut(index)) else {
            return;
        };
        let (first, count) = match only {
            Some(segment) => (entry.first + segment.min(entry.count.saturating_sub(1)), entry.count.min(1)),
            None => (entry.first, entry.count),
        };
        // Pointers and not references, so that one header's do not outdate another's. There is a name and a control
        // for each entry, and the parts of an entry are there.
        let name = block.names.as_mut_ptr().wrapping_add(index);
        let control = block.controls.as_mut_ptr().wrapping_add(index);
        let part = block.parts.as_mut_ptr().wrapping_add(first);
        // SAFETY: all zero bytes are a valid msghdr.
        let mut message: msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = name.cast();
        message.msg_namelen = entry.name_len;
        message.msg_iov = part;
        message.msg_iovlen = count as _;
        if count > 1 {
            write_segment_size(control, entry.segment);
            message.msg_control = control.cast();
            message.msg_controllen = CONTROL as _;
        }
        *header = mmsghdr { msg_hdr: message, msg_len: 0 };
    }
}

/// UDP_SEGMENT: the kernel splits the message into datagrams of this size. `control` is valid and nobody else's.
fn write_segment_size(control: *mut Control, size: u16) {
    // SAFETY: plain arithmetic.
    let len = unsafe { libc::CMSG_LEN(2) };
    let head = cmsghdr { cmsg_len: len as _, cmsg_level: libc::SOL_UDP, cmsg_type: libc::UDP_SEGMENT };
    let at = control.cast::<cmsghdr>();
    // SAFETY: the control is aligned for a cmsghdr and has room for it and two bytes of data behind it.
    unsafe {
        at.write(head);
        libc::CMSG_DATA(at).cast::<u16>().write_unaligned(size);
    }
}
