//! Datagrams through a worker's UDP socket.

mod stand_in;

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use parley_udp::node::{Node, NodeConfig};
use stand_in::{BUSY, ECHO, LOST, StandIn, address, client, dropped, eventually, node, receive, run_of};

#[test]
fn a_datagram_is_answered() {
    let node = node(1);
    let socket = client(&node, 0);
    socket.send(&[ECHO, 1, 2, 3]).unwrap();
    assert_eq!(receive(&socket), [ECHO, 1, 2, 3]);
}

#[test]
fn runs_arrive_as_the_datagrams_that_they_are_made_of() {
    let node = node(1);
    let socket = client(&node, 0);
    for (count, size, last) in [(1, 1_200, 0), (2, 160, 0), (4, 1_216, 176), (7, 1_500, 1), (8, 1, 0), (30, 1_100, 37)]
    {
        socket.send(&run_of(count, size, last)).unwrap();
        let sizes = std::iter::repeat_n(size, count.into()).chain((last > 0).then_some(last));
        for (number, size) in sizes.enumerate() {
            let expected = vec![u8::try_from(number).unwrap(); size.into()];
            assert_eq!(receive(&socket), expected, "datagram {number} of a run of {count} of {size} bytes");
        }
    }
    assert_eq!(dropped(&node, "send-failed"), 0);
}

#[test]
fn many_clients_get_each_their_own_answers_of_one_drain() {
    let node = node(1);
    let sockets: Vec<_> = (0..100).map(|_| client(&node, 0)).collect();
    sockets[0].send(&[BUSY, 50]).unwrap(); // so that the rest is drained together
    for (number, socket) in (0_u8..).zip(&sockets) {
        socket.send(&[ECHO, number]).unwrap();
        socket.send(&run_of(3, 100 + u16::from(number), 0)).unwrap();
    }
    for (number, socket) in (0_u8..).zip(&sockets) {
        assert_eq!(receive(socket), [ECHO, number]);
        for _ in 0..3 {
            assert_eq!(receive(socket).len(), 100 + usize::from(number));
        }
    }
}

#[test]
fn an_empty_and_an_oversize_datagram_reach_the_engine_as_such() {
    let node = node(1);
    let socket = client(&node, 0);
    socket.send(&[]).unwrap();
    assert_eq!(receive(&socket), b"empty");
    socket.send(&[0xFF; 1_500]).unwrap();
    assert_eq!(receive(&socket), b"1500");
    socket.send(&[0xFF; 9_000]).unwrap();
    assert_eq!(receive(&socket), b"1536", "cut, but longer than any good datagram");
}

#[test]
fn an_answer_that_cannot_be_sent_is_counted_and_the_others_go_out() {
    let node = node(1);
    let socket = client(&node, 0);
    socket.send(&[BUSY, 20]).unwrap();
    for _ in 0..3 {
        socket.send(&[LOST]).unwrap();
    }
    socket.send(&[ECHO]).unwrap();
    assert_eq!(receive(&socket), [ECHO]);
    assert_eq!(dropped(&node, "send-failed"), 3);
}

#[test]
fn a_client_that_is_gone_does_not_disturb_the_others() {
    let node = node(1);
    let staying = client(&node, 0);
    for _ in 0..20 {
        let leaving = client(&node, 0);
        leaving.send(&run_of(8, 1_000, 0)).unwrap();
        drop(leaving);
        staying.send(&[ECHO]).unwrap();
        assert_eq!(receive(&staying), [ECHO]);
    }
}

#[test]
fn an_ipv6_socket_serves_both_families() {
    let config = NodeConfig { host: Ipv6Addr::UNSPECIFIED.into(), base_port: 0, workers: 1, seed: 1 };
    let node = Node::start_with(&config, |_| StandIn::default()).unwrap();
    for host in ["127.0.0.1", "::1"] {
        let socket = UdpSocket::bind((host, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket.connect(SocketAddr::new(host.parse().unwrap(), node.ports()[0])).unwrap();
        socket.send(&run_of(5, 700, 20)).unwrap();
        let sizes: Vec<_> = (0..6).map(|_| receive(&socket).len()).collect();
        assert_eq!(sizes, [700, 700, 700, 700, 700, 20], "{host}");
    }
}

#[test]
fn a_flood_is_served_and_counted() {
    let node = node(1);
    let socket = client(&node, 0);
    for burst in 0..100 {
        for _ in 0..100 {
            socket.send(&[ECHO; 200]).unwrap();
        }
        for _ in 0..100 {
            assert_eq!(receive(&socket).len(), 200, "burst {burst}");
        }
    }
    eventually("everything is counted", || node.stats().engine.received_packets == 10_000);
    assert!(node.stats().workers[0].cpu > Duration::ZERO);
    assert_eq!(address(&node, 0).port(), node.ports()[0]);
}

#[test]
fn datagrams_that_the_kernel_had_no_room_for_are_counted() {
    let node = node(1);
    let socket = client(&node, 0);
    socket.send(&[BUSY, 250]).unwrap();
    let sent = 20_000;
    for _ in 0..sent {
        socket.send(&[ECHO; 1_200]).unwrap();
    }
    eventually("all are received or counted", || {
        let received = node.stats().engine.received_packets;
        received + dropped(&node, "receive-buffer-full") == sent + 1
    });
    assert!(dropped(&node, "receive-buffer-full") > 0);
}
