//! The pump between sockets that stand for devices: it needs no rights.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use parley_tun::Pump;
use parley_tun::command::{Command, Report};

/// What somebody at the far end hears of `count` packets that are sent at the near one, and what was counted.
fn sent(command: &str, seed: u64, count: u8, listen: Duration) -> (Vec<(u8, Duration)>, Report) {
    let pair = || UnixDatagram::pair().unwrap();
    let ((near, near_device), (far, far_device)) = (pair(), pair());
    near_device.set_nonblocking(true).unwrap();
    far_device.set_nonblocking(true).unwrap();
    let (mut control, input) = UnixStream::pair().unwrap();
    let file = |socket: UnixDatagram| File::from(OwnedFd::from(socket));
    let mut pump = Pump::new(file(near_device), file(far_device), seed);
    pump.take(&serde_json::from_str::<Command>(command).unwrap()).unwrap();
    let running = thread::spawn(move || {
        pump.run(input.as_fd()).unwrap();
        pump.report()
    });
    let began = Instant::now();
    let sender = thread::spawn(move || {
        for number in 0..count {
            near.send(&[number; 100]).unwrap();
            thread::sleep(Duration::from_micros(500));
        }
        near
    });
    let mut heard = Vec::new();
    let mut buffer = [0; 200];
    far.set_read_timeout(Some(listen)).unwrap();
    while let Ok(length) = far.recv(&mut buffer) {
        assert_eq!(length, 100);
        heard.push((buffer[0], began.elapsed()));
    }
    let _near = sender.join().unwrap();
    control.write_all(b"\n").unwrap();
    (heard, running.join().unwrap())
}

fn numbers(heard: &[(u8, Duration)]) -> Vec<u8> {
    heard.iter().map(|(number, _)| *number).collect()
}

#[test]
fn a_link_that_does_nothing_carries_everything_in_order() {
    let (heard, report) = sent("{}", 1, 100, Duration::from_millis(200));
    assert_eq!(numbers(&heard), (0..100).collect::<Vec<_>>());
    assert_eq!(report.near.sent, (100, 10_000));
    assert_eq!(report.near.carried, (100, 10_000));
    assert_eq!(report.far.sent, (0, 0));
}

#[test]
fn nothing_arrives_before_its_delay() {
    let (heard, _) = sent(r#"{"near": {"delay_ms": 80}}"#, 1, 1, Duration::from_millis(500));
    assert!(heard[0].1 >= Duration::from_millis(80), "{heard:?}");
    assert!(heard[0].1 < Duration::from_millis(200), "{heard:?}");
}

#[test]
fn the_same_seed_loses_the_same_packets_and_another_one_others() {
    let command = r#"{"near": {"loss": 0.3}}"#;
    let run = |seed| sent(command, seed, 200, Duration::from_millis(200));
    let ((first, report), (again, _), (other, _)) = (run(7), run(7), run(8));
    assert_eq!(numbers(&first), numbers(&again));
    assert_ne!(numbers(&first), numbers(&other));
    assert!((100..180).contains(&first.len()), "{}", first.len());
    assert_eq!(report.near.lost.0 + first.len() as u64, 200);
}

#[test]
fn one_direction_does_not_change_the_other() {
    let (heard, report) = sent(r#"{"far": {"loss": 1}}"#, 1, 50, Duration::from_millis(200));
    assert_eq!((heard.len(), report.near.lost.0), (50, 0));
}

#[test]
fn a_command_that_is_half_wrong_changes_nothing() {
    let (near, far) = UnixDatagram::pair().unwrap();
    let file = |socket: UnixDatagram| File::from(OwnedFd::from(socket));
    let mut pump = Pump::new(file(near), file(far), 1);
    let command: Command = serde_json::from_str(r#"{"near": {"loss": 1}, "far": {"loss": 2}}"#).unwrap();
    assert_eq!(pump.take(&command), Err("loss is 0 to 1".to_owned()));
}
