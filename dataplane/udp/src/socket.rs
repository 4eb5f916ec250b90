//! A worker's UDP socket: batches out in as few system calls as the kernel allows, datagrams in.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use parley_core::engine::{Batch, Message, Path};
use rustc_hash::FxBuildHasher;

use crate::counters::{Counters, Reason};
use crate::sys::{self, Filled, PushError};

/// Bytes of each of the kernel's buffers.
const SOCKET_BUFFER: i32 = 4 << 20;
/// How long a full send buffer is waited for, once a batch, in milliseconds.
const SEND_WAIT_MS: i32 = 1;
/// Destinations that are remembered as unable to take runs.
const MAX_PLAIN: usize = 1_024;

/// The sending half of a worker's UDP socket; it also owns the socket.
pub struct UdpPort {
    socket: UdpSocket,
    sender: sys::Sender,
    policy: Policy,
    /// What the kernel said last of datagrams that it dropped.
    receive_drops: u32,
}

/// What is remembered between batches, apart from the block that is sent.
struct Policy {
    counters: Arc<Counters>,
    /// Addresses whose route refused a run (no checksum offload, or a smaller MTU): datagram by datagram.
    plain: HashSet<IpAddr, FxBuildHasher>,
    has_waited: bool,
}

/// What a failed send means for the message.
enum Failure {
    /// Not sent, and nothing else would be now.
    Full,
    /// The route takes no runs.
    NoRuns,
    /// To be tried again.
    Interrupted,
    /// This message cannot be sent.
    Refused,
}

impl UdpPort {
    /// Whether a datagram comes within so long (less than a second).
    pub(crate) fn wait_readable(&self, timeout: Duration) -> bool {
        sys::wait_readable(self.socket(), timeout)
    }

    /// Takes over a bound socket, sets its buffers and makes it non-blocking.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn new(socket: UdpSocket, counters: Arc<Counters>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        sys::set_buffers(socket.as_fd(), SOCKET_BUFFER)?;
        let sender = sys::Sender::new(socket.local_addr()?.is_ipv6());
        let policy = Policy { counters, plain: HashSet::default(), has_waited: false };
        Ok(Self { socket, sender, policy, receive_drops: 0 })
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Counts the datagrams that found a full receive buffer since the last call.
    pub fn count_receive_drops(&mut self) {
        let drops = sys::receive_drops(self.socket.as_fd());
        let new = drops.wrapping_sub(std::mem::replace(&mut self.receive_drops, drops));
        self.policy.counters.add(Reason::ReceiveBufferFull, usize::try_from(new).unwrap_or(0));
    }

    /// Sends the UDP messages of a batch; `other` gets those to TCP connections. What the kernel does not take is
    /// dropped and counted.
    pub fn send(&mut self, batch: &Batch, mut other: impl FnMut(Message<'_>)) {
        let (socket, policy) = (self.socket.as_fd(), &mut self.policy);
        policy.has_waited = false;
        let mut block = self.sender.start();
        for message in batch.messages() {
            let Path::Udp(to) = message.to else {
                other(message);
                continue;
            };
            if policy.plain.contains(&to.ip()) {
                for segment in message.segments {
                    push(&mut block, socket, policy, to, std::iter::once(segment), segment.len(), 1);
                }
            } else {
                push(&mut block, socket, policy, to, message.segments, message.segment_size, message.count);
            }
        }
        policy.transmit(&mut block, socket);
    }
}

/// Adds a message to the block, which is sent first where it is full.
fn push<'a>(
    block: &mut Filled<'a>,
    socket: BorrowedFd<'_>,
    policy: &mut Policy,
    to: SocketAddr,
    segments: impl Iterator<Item = &'a [u8]>,
    size: usize,
    count: usize,
) {
    if !block.has_room(count) {
        policy.transmit(block, socket);
    }
    match block.push(to, segments, size, count) {
        Ok(()) => {}
        Err(PushError::Full | PushError::Unreachable | PushError::TooLong) => {
            policy.counters.add(Reason::SendFailed, count);
        }
    }
}

impl Policy {
    /// Sends everything in the block and empties it.
    fn transmit(&mut self, block: &mut Filled<'_>, socket: BorrowedFd<'_>) {
        let mut at = 0;
        while at < block.len() {
            match block.send(socket, at) {
                Ok(sent) if sent > 0 => at += sent,
                Ok(_) => at = self.skip(block, at, Reason::SendFailed),
                Err(error) => at = self.after(&error, block, socket, at),
            }
        }
        block.clear();
    }

    /// What to do about message `at`, which failed; the message to go on with.
    fn after(&mut self, error: &io::Error, block: &mut Filled<'_>, socket: BorrowedFd<'_>, at: usize) -> usize {
        match failure(error, block.datagrams(at)) {
            Failure::Interrupted => at,
            Failure::Full if self.wait(socket) => at,
            Failure::Full => {
                // everything else would find the same full buffer
                (at..block.len()).fold(at, |_, index| self.skip(block, index, Reason::SendBufferFull))
            }
            Failure::NoRuns => {
                self.remember(block.destination(at));
                self.send_singly(block, socket, at);
                at + 1
            }
            Failure::Refused => self.skip(block, at, Reason::SendFailed),
        }
    }

    /// Waits for room in the send buffer, once a batch.
    fn wait(&mut self, socket: BorrowedFd<'_>) -> bool {
        let may_wait = !std::mem::replace(&mut self.has_waited, true);
        may_wait && sys::wait_writable(socket, SEND_WAIT_MS)
    }

    fn skip(&self, block: &Filled<'_>, at: usize, reason: Reason) -> usize {
        self.counters.add(reason, block.datagrams(at));
        at + 1
    }

    fn send_singly(&self, block: &mut Filled<'_>, socket: BorrowedFd<'_>, at: usize) {
        for segment in 0..block.datagrams(at) {
            if let Err(error) = block.send_one(socket, at, segment) {
                let is_full = matches!(failure(&error, 1), Failure::Full);
                self.counters.add(if is_full { Reason::SendBufferFull } else { Reason::SendFailed }, 1);
            }
        }
    }

    fn remember(&mut self, destination: Option<IpAddr>) {
        if self.plain.len() >= MAX_PLAIN {
            self.plain.clear(); // those that still refuse runs come back with one failed call each
        }
        self.plain.extend(destination);
    }
}

fn failure(error: &io::Error, datagrams: usize) -> Failure {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => Failure::Full,
        Some(libc::EINTR) => Failure::Interrupted,
        Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE) if datagrams > 1 => Failure::NoRuns,
        _ => Failure::Refused,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parley_core::engine::batch::RunSlot;

    use super::*;

    fn bound() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket
    }

    fn port() -> (UdpPort, Arc<Counters>) {
        let counters = Arc::<Counters>::default();
        (UdpPort::new(bound(), Arc::clone(&counters)).unwrap(), counters)
    }

    /// A batch with a run of these sizes.
    fn batch_of(sizes: &[usize], to: &UdpSocket) -> Batch {
        let (mut batch, mut slot) = (Batch::new(), RunSlot::default());
        for size in sizes {
            batch.space()[..*size].fill(7);
            batch.commit(*size, Path::Udp(to.local_addr().unwrap()), &mut slot);
        }
        batch
    }

    fn sizes(socket: &UdpSocket, count: usize) -> Vec<usize> {
        (0..count).map(|_| socket.recv(&mut [0; 2_000]).unwrap()).collect()
    }

    #[test]
    fn a_run_that_the_kernel_refuses_goes_out_datagram_by_datagram_and_is_remembered() {
        let ((mut port, counters), receiver) = (port(), bound());
        sys::refuse_runs(port.socket()).unwrap();
        for round in 0..2 {
            port.send(&batch_of(&[900, 900, 900, 100], &receiver), |_| unreachable!("no TCP"));
            assert_eq!(sizes(&receiver, 4), [900, 900, 900, 100], "round {round}");
            assert_eq!(port.policy.plain.len(), 1);
        }
        assert_eq!(counters.all(), [0; crate::counters::REASONS]);
    }

    #[test]
    fn a_full_send_buffer_is_waited_for_once_and_then_the_rest_is_dropped() {
        let ((mut port, counters), receiver) = (port(), bound());
        let batch = batch_of(&[900, 900, 100, 800, 700, 700], &receiver);
        let (socket, full) = (port.socket.as_fd(), io::Error::from_raw_os_error(libc::EAGAIN));
        let mut block = port.sender.start();
        for message in batch.messages() {
            block.push(receiver.local_addr().unwrap(), message.segments, message.segment_size, message.count).unwrap();
        }
        assert_eq!(block.len(), 3);
        assert_eq!(port.policy.after(&full, &mut block, socket, 1), 1, "there is room: again");
        assert_eq!(counters.get(Reason::SendBufferFull), 0);
        assert_eq!(port.policy.after(&full, &mut block, socket, 1), 3, "waited already");
        assert_eq!(counters.get(Reason::SendBufferFull), 3);
    }

    #[test]
    fn an_error_is_that_of_its_message_alone() {
        let means = |code, datagrams| failure(&io::Error::from_raw_os_error(code), datagrams);
        assert!(matches!(means(libc::ENOBUFS, 1), Failure::Full));
        assert!(matches!(means(libc::EIO, 2), Failure::NoRuns));
        assert!(matches!(means(libc::EIO, 1), Failure::Refused));
        assert!(matches!(means(libc::ECONNREFUSED, 4), Failure::Refused));
        assert!(matches!(means(libc::EINTR, 4), Failure::Interrupted));
    }

    #[test]
    fn more_messages_than_one_call_takes_all_go_out() {
        let ((mut port, counters), receiver) = (port(), bound());
        let sent: Vec<usize> = (0..150).map(|number| 100 + number).collect(); // rising sizes: each its own message
        port.send(&batch_of(&sent, &receiver), |_| unreachable!("no TCP"));
        assert_eq!(sizes(&receiver, 150), sent);
        assert_eq!(counters.get(Reason::SendFailed), 0);
    }
}
