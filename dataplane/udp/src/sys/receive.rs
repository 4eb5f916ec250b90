//! recvmmsg into buffers that are allocated once.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

use libc::{c_uint, iovec, mmsghdr, msghdr, sockaddr_storage, socklen_t};

use super::{address, checked};

/// Datagrams that one call takes at most.
pub(crate) const RECEIVE_BATCH: usize = 64;
/// Bytes of a buffer: more than a datagram may have, so that a longer one is known by its length.
const BUFFER: usize = 1_536;

/// Where the kernel writes one datagram.
struct Slot {
    name: sockaddr_storage,
    part: iovec,
    data: [u8; BUFFER],
}

/// The buffers of one socket. The headers point into the slots, which never move.
pub(crate) struct Receiver {
    slots: NonNull<Slot>,
    headers: Vec<mmsghdr>,
    count: usize,
}

// SAFETY: the slots belong to this value alone, and nothing in it is bound to a thread.
unsafe impl Send for Receiver {}

const NAME_SIZE: socklen_t = size_of::<sockaddr_storage>() as socklen_t;

impl Receiver {
    pub(crate) fn new() -> Self {
        let slots: Box<[Slot]> = (0..RECEIVE_BATCH).map(|_| Slot::empty()).collect();
        let first = Box::into_raw(slots).cast::<Slot>();
        let headers = (0..RECEIVE_BATCH)
            .map(|index| {
                // SAFETY: `index` is inside of the allocation; only field addresses are taken, and the part is
                // written through the pointer that owns it.
                unsafe {
                    let slot = first.add(index);
                    (*slot).part = iovec { iov_base: (&raw mut (*slot).data).cast(), iov_len: BUFFER };
                    let mut header: msghdr = std::mem::zeroed(); // valid: null pointers and zero lengths
                    header.msg_name = (&raw mut (*slot).name).cast();
                    header.msg_namelen = NAME_SIZE;
                    header.msg_iov = &raw mut (*slot).part;
                    header.msg_iovlen = 1;
                    mmsghdr { msg_hdr: header, msg_len: 0 }
                }
            })
            .collect();
        // SAFETY: a pointer out of a box is not null.
        Self { slots: unsafe { NonNull::new_unchecked(first) }, headers, count: 0 }
    }

    /// Takes the datagrams that wait, at most [`RECEIVE_BATCH`]; how many. Never blocks.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        for header in self.headers.iter_mut().take(self.count) {
            header.msg_hdr.msg_namelen = NAME_SIZE; // the last call wrote the real size
        }
        self.count = 0;
        let size = c_uint::try_from(self.headers.len()).unwrap_or(0);
        // SAFETY: `size` headers are valid, and each points at a name and a buffer that live as long as `self`; no
        // reference into a slot is alive, because `datagram` borrows `self`.
        let count = checked(unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                size,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        })?;
        self.count = usize::try_from(count).unwrap_or(0);
        Ok(self.count)
    }

    /// Datagram `index` of the last call and where it came from. One that is too long fills the whole buffer.
    pub(crate) fn datagram(&mut self, index: usize) -> Option<(SocketAddr, &mut [u8])> {
        let header = self.headers.get(index).filter(|_| index < self.count)?;
        let len = usize::try_from(header.msg_len).ok()?;
        // SAFETY: there are as many slots as headers, and `&mut self` makes this reference the only one.
        let slot = unsafe { &mut *self.slots.as_ptr().add(index) };
        Some((address::read(&slot.name)?, slot.data.get_mut(..len)?))
    }
}

impl Slot {
    fn empty() -> Self {
        Self { name: address::empty(), part: iovec { iov_base: ptr::null_mut(), iov_len: 0 }, data: [0; BUFFER] }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let slots = ptr::slice_from_raw_parts_mut(self.slots.as_ptr(), RECEIVE_BATCH);
        // SAFETY: this is the allocation that `new` took out of its box, and nothing uses it any more.
        drop(unsafe { Box::from_raw(slots) });
    }
}
