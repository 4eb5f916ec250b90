//! ICE/TCP through a worker's listener.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod stand_in;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use parley_udp::node::Node;
use parley_udp::tcp::{FIRST_FRAME, MAX_PER_ADDRESS, SILENCE};
use stand_in::{ECHO, address, await_event, client, dropped, eventually, node, receive, run_of};

/// The start of a STUN binding request; the stand-in answers with the same.
const CHECK: [u8; 20] = *b"\x00\x01\x00\x00\x21\x12\xa4\x42twelve bytes";

fn connect(node: &Node) -> TcpStream {
    let stream = TcpStream::connect(address(node, 0)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn frame(datagram: &[u8]) -> Vec<u8> {
    [&u16::try_from(datagram.len()).unwrap().to_be_bytes()[..], datagram].concat()
}

fn read_frame(stream: &mut TcpStream) -> Vec<u8> {
    let mut prefix = [0; 2];
    stream.read_exact(&mut prefix).unwrap();
    let mut datagram = vec![0; u16::from_be_bytes(prefix).into()];
    stream.read_exact(&mut datagram).unwrap();
    datagram
}

/// A connection whose first check was answered.
fn validated(node: &Node) -> TcpStream {
    let mut stream = connect(node);
    stream.write_all(&frame(&CHECK)).unwrap();
    assert_eq!(read_frame(&mut stream), CHECK);
    stream
}

fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn frames_may_come_byte_by_byte() {
    let node = node(1);
    let mut stream = connect(&node);
    for byte in frame(&CHECK).into_iter().chain(frame(&[ECHO, 7])) {
        stream.write_all(&[byte]).unwrap();
        std::thread::sleep(Duration::from_micros(200));
    }
    assert_eq!(read_frame(&mut stream), CHECK);
    assert_eq!(read_frame(&mut stream), [ECHO, 7]);
}

#[test]
fn several_frames_may_come_in_one_segment() {
    let node = node(1);
    let mut stream = connect(&node);
    let sizes = [1, 700, 1_500, 2, 1_499];
    let mut bytes = frame(&CHECK);
    for size in sizes {
        bytes.extend(frame(&vec![ECHO; size]));
        bytes.extend(frame(&[])); // a null packet
    }
    stream.write_all(&bytes).unwrap();
    assert_eq!(read_frame(&mut stream), CHECK);
    for size in sizes {
        assert_eq!(read_frame(&mut stream), vec![ECHO; size]);
    }
}

#[test]
fn a_run_arrives_as_frames() {
    let node = node(1);
    let mut stream = validated(&node);
    stream.write_all(&frame(&run_of(12, 1_200, 40))).unwrap();
    let sizes: Vec<_> = (0..13).map(|_| read_frame(&mut stream).len()).collect();
    assert_eq!(sizes, [[1_200; 12].as_slice(), &[40]].concat());
}

#[test]
fn a_connection_that_does_not_begin_with_stun_is_closed() {
    let node = node(1);
    for start in [frame(b"GET / HTTP/1.1"), frame(&[ECHO]), b"\x16\x03\x01\x02\x00 and more of a TLS hello".to_vec()] {
        let mut stream = connect(&node);
        stream.write_all(&start).unwrap();
        stream.write_all(&[0; 1_600]).unwrap();
        assert!(is_closed(&mut stream));
        await_event(&node, "closed");
    }
    assert_eq!(dropped(&node, "tcp-bad-framing"), 3);
}

#[test]
fn a_frame_that_is_too_long_closes_a_good_connection() {
    let node = node(1);
    let mut stream = validated(&node);
    stream.write_all(&1_501_u16.to_be_bytes()).unwrap();
    assert!(is_closed(&mut stream));
    assert_eq!(await_event(&node, "closed"), 1_u32.to_be_bytes());
}

#[test]
fn a_peer_that_hangs_up_is_told_to_the_engine() {
    let node = node(1);
    drop(validated(&node));
    assert_eq!(await_event(&node, "closed"), 1_u32.to_be_bytes());
    eventually("no connection is left", || node.stats().workers[0].tcp_connections == 0);
}

#[test]
fn a_slow_reader_loses_whole_datagrams_the_oldest_first() {
    let node = node(1);
    let mut stream = validated(&node);
    let rounds = 12_u16; // each 255 datagrams of 1,400 bytes: far more than all buffers between us
    for _ in 0..rounds {
        stream.write_all(&frame(&run_of(255, 1_400, 0))).unwrap();
    }
    stream.write_all(&frame(&[ECHO, 9])).unwrap();
    eventually("something is dropped", || dropped(&node, "tcp-queue-full") > 0);
    std::thread::sleep(Duration::from_millis(100));
    let mut count = 0;
    loop {
        let datagram = read_frame(&mut stream);
        if datagram == [ECHO, 9] {
            break;
        }
        assert_eq!(datagram.len(), 1_400);
        assert!(datagram.iter().all(|byte| *byte == datagram[0]), "a datagram in pieces");
        count += 1;
    }
    assert_eq!(count + dropped(&node, "tcp-queue-full"), 255 * u64::from(rounds));
}

#[test]
fn one_address_has_a_bounded_number_of_connections() {
    let node = node(1);
    let mut streams: Vec<_> = (0..MAX_PER_ADDRESS).map(|_| validated(&node)).collect();
    assert!(is_closed(&mut connect(&node)));
    assert_eq!(dropped(&node, "tcp-refused"), 1);
    drop(streams.pop());
    await_event(&node, "closed");
    validated(&node);
}

#[test]
fn a_connection_that_says_nothing_or_trickles_is_closed_after_ten_seconds() {
    let node = node(1);
    let mut good = validated(&node);
    let mut silent = connect(&node);
    let mut trickling = connect(&node);
    trickling.write_all(&[0]).unwrap();
    let mut idle = connect(&node);
    idle.write_all(&frame(&[])).unwrap();
    eventually("all are accepted", || node.stats().workers[0].tcp_connections == 4);
    node.shift_clock(u64::try_from(FIRST_FRAME.as_micros()).unwrap() - 2_000_000);
    std::thread::sleep(Duration::from_millis(30));
    trickling.write_all(&[20]).unwrap();
    assert_eq!(dropped(&node, "tcp-silent"), 0);
    node.shift_clock(2_000_000);
    for stream in [&mut silent, &mut trickling, &mut idle] {
        assert!(is_closed(stream));
    }
    assert_eq!(dropped(&node, "tcp-silent"), 3);
    good.write_all(&frame(&[ECHO])).unwrap();
    assert_eq!(read_frame(&mut good), [ECHO]);
    node.shift_clock(u64::try_from(SILENCE.as_micros()).unwrap());
    assert!(is_closed(&mut good), "consent checks would have come");
}

#[test]
fn bytes_from_anybody_do_not_stop_the_worker() {
    let node = node(1);
    let mut state = 1_u32;
    for _ in 0..200 {
        let mut stream = connect(&node);
        let noise: Vec<u8> = (0..300)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_be_bytes()[0]
            })
            .collect();
        // the other end may have closed already
        let _ = stream.write_all(&noise);
    }
    let socket = client(&node, 0);
    socket.send(&[ECHO]).unwrap();
    assert_eq!(receive(&socket), [ECHO]);
    assert!(node.is_healthy());
}
