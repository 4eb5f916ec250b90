//! Workers, commands, events, pipes and the end of a node.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod stand_in;

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parley_core::engine::command::{Credentials, SetSender, SetTrack, TrackCodec};
use parley_core::engine::{Command, Event};
use parley_core::payload::Codec;
use parley_core::wire::rtp::ExtensionIds;
use parley_udp::node::{Node, NodeConfig};
use stand_in::{
    BUSY, ECHO, EVENT, FAIL, PANIC, PIPE, StandIn, await_event, client, dropped, eventually, node, receive, run_of,
};

fn add_transport(id: &str) -> Command {
    let credentials = Credentials { ufrag: Arc::from(id), pwd: Arc::from("password") };
    Command::AddTransport { transport: Arc::from(id), credentials }
}

const CODEC: TrackCodec =
    TrackCodec { codec: Codec::Vp8, payload_type: 96, clock_rate: 90_000, rtx_payload_type: None, has_nack: true };

fn set_track(transport: &str, track: &str) -> Command {
    Command::SetTrack(SetTrack {
        transport: Arc::from(transport),
        track: Arc::from(track),
        mid: Arc::from("0"),
        codec: CODEC,
        extensions: ExtensionIds::default(),
        ssrcs: Vec::new(),
        rids: Vec::new(),
        is_screen: false,
    })
}

fn set_sender(sender: &str, transport: &str, track: &str) -> Command {
    Command::SetSender(SetSender {
        sender: Arc::from(sender),
        transport: Arc::from(transport),
        track: Arc::from(track),
        mid: Arc::from("0"),
        codec: CODEC,
        extensions: ExtensionIds::default(),
        ssrc: 1,
        rtx_ssrc: None,
        cname: Arc::from("node"),
    })
}

/// Two workers with a track of the first that a subscriber on the second receives.
fn spanning() -> Node {
    let node = node(2);
    node.apply([
        (0, add_transport("publisher")),
        (1, add_transport("subscriber")),
        (0, set_track("publisher", "track")),
        (0, set_sender("sender", "subscriber", "track")),
    ]);
    let mut expected = vec!["SetPipedTrack", "SetSender", "SetTrack"]; // the workers are not in step
    while !expected.is_empty() {
        let text = String::from_utf8(await_event(&node, "command")).unwrap();
        expected.retain(|name| !text.starts_with(&format!("{name} ")) && !text.starts_with(&format!("{name}(")));
    }
    node
}

fn is_readable(node: &Node) -> bool {
    let mut entry = libc::pollfd { fd: node.event_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    #[expect(unsafe_code, reason = "the only way to ask")]
    // SAFETY: one valid pollfd.
    let count = unsafe { libc::poll(&raw mut entry, 1, 0) };
    count == 1
}

#[test]
fn a_storm_of_commands_is_applied_in_order_while_packets_flow() {
    let node = node(2);
    node.apply([(0, add_transport("a")), (5, add_transport("b"))]);
    let sockets = [client(&node, 0), client(&node, 1)];
    let commands = 50_000;
    for number in 0..commands {
        let set = |id: &str| Command::SetLastN { transport: Arc::from(id), count: Some(number) };
        node.apply([(0, set("a")), (0, set("b"))]);
        if number % 500 == 0 {
            for socket in &sockets {
                socket.send(&[ECHO]).unwrap();
                assert_eq!(receive(socket), [ECHO]);
            }
        }
    }
    eventually("all commands are applied", || node.stats().engine.tracks == 2 * commands);
    let stats = node.stats();
    assert_eq!(stats.engine.senders, 0, "commands out of order");
    assert_eq!(stats.workers.iter().map(|worker| worker.transports).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn the_event_descriptor_is_readable_while_events_wait() {
    let node = node(1);
    let socket = client(&node, 0);
    assert!(!is_readable(&node));
    for number in 0..3 {
        socket.send(&[EVENT, number]).unwrap();
    }
    eventually("the descriptor is readable", || is_readable(&node));
    eventually("all have come", || node.stats().engine.received_packets == 3);
    assert_eq!(node.poll_events(2).len(), 2);
    assert!(is_readable(&node), "one still waits");
    assert_eq!(node.poll_events(10).len(), 1);
    assert!(!is_readable(&node));
    assert!(node.poll_events(10).is_empty());
}

#[test]
fn events_that_nobody_fetches_are_dropped_oldest_first() {
    let node = node(1);
    let socket = client(&node, 0);
    for number in 0..5_000_u16 {
        socket.send(&[&[EVENT][..], &number.to_be_bytes()].concat()).unwrap();
        if number % 100 == 0 {
            socket.send(&[ECHO]).unwrap();
            receive(&socket);
        }
    }
    socket.send(&[ECHO]).unwrap();
    receive(&socket);
    eventually("the excess is dropped", || dropped(&node, "event-queue-full") == 5_000 - 4_096);
    assert_eq!(await_event(&node, "event"), 904_u16.to_be_bytes());
}

#[test]
fn a_snapshot_waits_for_nobody_longer_than_its_deadline() {
    let node = node(2);
    assert_eq!(node.snapshot().answered, 2);
    let socket = client(&node, 1);
    socket.send(&[BUSY, 250]).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    let start = Instant::now();
    assert_eq!(node.snapshot().answered, 1);
    assert!(start.elapsed() < Duration::from_millis(200));
}

#[test]
fn a_worker_that_breaks_makes_the_node_unhealthy_and_the_others_go_on() {
    let node = node(2);
    assert!(node.is_healthy());
    client(&node, 0).send(&[PANIC]).unwrap();
    eventually("the node knows", || !node.is_healthy());
    let socket = client(&node, 1);
    socket.send(&[ECHO]).unwrap();
    assert_eq!(receive(&socket), [ECHO]);
}

#[test]
fn commands_that_a_worker_does_not_take_are_bounded_and_make_the_node_unhealthy() {
    let node = node(1);
    client(&node, 0).send(&[PANIC]).unwrap();
    eventually("the worker is gone", || !node.is_healthy());
    for _ in 0..66 {
        node.apply((0..1_000).map(|number| (0, add_transport(&format!("late-{number}")))));
    }
    assert!(dropped(&node, "command-queue-full") > 0);
}

#[test]
fn ports_follow_the_base_and_a_port_in_use_is_an_error() {
    let first = node(1);
    let config = |base_port, workers| NodeConfig { host: Ipv4Addr::LOCALHOST.into(), base_port, workers, seed: 1 };
    let start = |config| Node::start_with(&config, |_| StandIn::default());
    let taken = start(config(first.ports()[0], 1)).unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    for bad in [config(0, 0), config(0, 65), config(65_535, 2)] {
        assert_eq!(start(bad).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    }
    let base = (20_000..30_000).step_by(7).find(|base| start(config(*base, 3)).is_ok()).unwrap();
    assert_eq!(start(config(base, 3)).unwrap().ports(), [base, base + 1, base + 2]);
}

#[test]
fn a_busy_node_stops_at_once_and_frees_its_ports() {
    let mut node = node(2);
    let is_over = Arc::new(AtomicBool::new(false));
    let floods: Vec<_> = (0..2)
        .map(|worker| {
            let (socket, is_over) = (client(&node, worker), Arc::clone(&is_over));
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    // refused once the node is gone
                    let _ = socket.send(&run_of(20, 1_200, 0));
                }
            })
        })
        .collect();
    eventually("the flood arrives", || node.stats().engine.received_packets > 1_000);
    let start = Instant::now();
    node.stop();
    assert!(start.elapsed() < Duration::from_secs(1));
    is_over.store(true, Ordering::Relaxed);
    for flood in floods {
        flood.join().unwrap();
    }
    for port in node.ports() {
        UdpSocket::bind((Ipv4Addr::LOCALHOST, *port)).unwrap();
        TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).unwrap();
    }
    node.apply([(0, add_transport("late"))]);
    assert_eq!(node.snapshot().answered, 0);
}

#[test]
fn a_track_reaches_the_other_worker_and_notices_come_back() {
    let node = spanning();
    let socket = client(&node, 0);
    for size in [0, 1, 1_200, 1_400] {
        let payload = vec![5; size];
        socket.send(&[&[PIPE][..], &payload].concat()).unwrap();
        let mut expected = vec![("piped", payload), ("notice", b"KeyFrame { place: 2 }".to_vec())];
        eventually("packet and notice", || {
            for event in node.poll_events(10) {
                let Event::DtlsReceived { transport, datagram } = event else { continue };
                expected.retain(|(name, content)| *transport != **name || datagram != *content);
            }
            expected.is_empty()
        });
    }
}

#[test]
fn a_worker_that_does_not_keep_up_costs_packets_and_nothing_else() {
    let node = spanning();
    let (fast, slow) = (client(&node, 0), client(&node, 1));
    slow.send(&[BUSY, 200]).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    for number in 0..2_000_u16 {
        fast.send(&[&[PIPE][..], &number.to_be_bytes()].concat()).unwrap();
        if number % 50 == 0 {
            fast.send(&[ECHO]).unwrap();
            receive(&fast);
        }
    }
    fast.send(&[ECHO]).unwrap();
    receive(&fast);
    eventually("the ring is full", || dropped(&node, "pipe-full") > 0);
    slow.send(&[ECHO]).unwrap();
    receive(&slow);
    assert_eq!(await_event(&node, "piped"), 0_u16.to_be_bytes());
    fast.send(&[&[PIPE][..], b"later"].concat()).unwrap();
    eventually("the pipe works again", || {
        node.poll_events(4_096).iter().any(|event| format!("{event:?}").contains("[108, 97, 116, 101, 114]"))
    });
    let of_workers: u64 = node.stats().workers.iter().map(|worker| worker.pipe_dropped).sum();
    assert_eq!(of_workers, dropped(&node, "pipe-full"));
}

#[test]
fn the_pipe_of_a_failed_subscriber_is_closed() {
    let node = spanning();
    client(&node, 1).send(&[&[FAIL][..], b"subscriber"].concat()).unwrap();
    let text = |datagram: Vec<u8>| String::from_utf8(datagram).unwrap();
    loop {
        let command = text(await_event(&node, "command"));
        if command.starts_with("RemoveTrack") {
            break; // on the subscriber's worker
        }
    }
    let socket = client(&node, 0);
    socket.send(&[PIPE, 1]).unwrap();
    socket.send(&[ECHO]).unwrap();
    receive(&socket);
    std::thread::sleep(Duration::from_millis(50));
    assert!(node.poll_events(10).iter().all(|event| !format!("{event:?}").contains("piped")));
}

#[test]
fn a_node_may_be_used_from_any_thread() {
    let node = node(1);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    node.apply([(0, add_transport("a"))]);
                    let _ = node.poll_events(10);
                    let _ = node.stats();
                }
            });
        }
    });
    eventually("all are applied", || node.stats().engine.transports == 800);
}
