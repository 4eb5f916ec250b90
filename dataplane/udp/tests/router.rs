//! Where commands go, and when tracks travel between workers.

use std::sync::Arc;

use parley_core::engine::command::{Credentials, SetSender, SetTrack, TrackCodec};
use parley_core::engine::{Command, Event};
use parley_core::payload::Codec;
use parley_core::wire::rtp::ExtensionIds;
use parley_udp::pipes::{MAX_PIPES, ends, pipe_id};
use parley_udp::router::{Orders, Router};

const CODEC: TrackCodec =
    TrackCodec { codec: Codec::Vp8, payload_type: 96, clock_rate: 90_000, rtx_payload_type: None, has_nack: true };

fn id(text: &str) -> Arc<str> {
    Arc::from(text)
}

fn add(transport: &str) -> Command {
    Command::AddTransport { transport: id(transport), credentials: Credentials { ufrag: id("u"), pwd: id("p") } }
}

fn track(transport: &str, track: &str, is_screen: bool) -> Command {
    Command::SetTrack(SetTrack {
        transport: id(transport),
        track: id(track),
        mid: id("0"),
        codec: CODEC,
        extensions: ExtensionIds::default(),
        ssrcs: Vec::new(),
        rids: Vec::new(),
        is_screen,
    })
}

fn sender(sender: &str, transport: &str, track: &str) -> Command {
    Command::SetSender(SetSender {
        sender: id(sender),
        transport: id(transport),
        track: id(track),
        mid: id("0"),
        codec: CODEC,
        extensions: ExtensionIds::default(),
        ssrc: 1,
        rtx_ssrc: None,
        cname: id("node"),
    })
}

fn remove_sender(sender: &str) -> Command {
    Command::RemoveSender { sender: id(sender) }
}

/// Worker and command in short.
fn shape(orders: &Orders) -> Vec<String> {
    let short = |command: &Command| match command {
        Command::SetPipedTrack { track, .. } => format!("SetPipedTrack {} {}", track.track, track.is_screen),
        Command::OpenPipe { track, .. } => format!("OpenPipe {track}"),
        Command::ClosePipe { track, .. } => format!("ClosePipe {track}"),
        Command::RemoveTrack { track } => format!("RemoveTrack {track}"),
        Command::RemoveTransport { transport } => format!("RemoveTransport {transport}"),
        Command::MuteTrack { muted, .. } => format!("MuteTrack {muted}"),
        Command::RankTrack { rank, .. } => format!("RankTrack {rank}"),
        Command::SetSender(set) => format!("SetSender {}", set.sender),
        Command::RemoveSender { sender } => format!("RemoveSender {sender}"),
        other => format!("{other:?}").split([' ', '(']).next().unwrap_or_default().to_owned(),
    };
    orders.iter().map(|(worker, command)| format!("{worker} {}", short(command))).collect()
}

fn layers(track: &str, low: bool, high: bool) -> Event {
    Event::LayersWanted { track: id(track), layers: vec![(id("q"), low), (id("f"), high)] }
}

/// A router with transports a and b on worker 0, c and d on worker 1, and track t of a.
fn router() -> Router {
    let mut router = Router::new(2);
    for (worker, transport) in [(0, "a"), (2, "b"), (1, "c"), (3, "d")] {
        router.route(worker, add(transport), &mut Orders::new());
    }
    router.route(0, track("a", "t", false), &mut Orders::new());
    router
}

fn route(router: &mut Router, command: Command) -> Vec<String> {
    let mut orders = Orders::new();
    router.route(9, command, &mut orders);
    shape(&orders)
}

#[test]
fn a_command_follows_what_it_names() {
    let mut router = router();
    let dtls = |transport: &str| Command::SendDtls { transport: id(transport), datagrams: Vec::new() };
    assert_eq!(route(&mut router, dtls("b")), ["0 SendDtls"]);
    assert_eq!(route(&mut router, dtls("d")), ["1 SendDtls"]);
    assert_eq!(route(&mut router, sender("s", "b", "t")), ["0 SetSender s"]);
    assert_eq!(route(&mut router, Command::PauseSender { sender: id("s"), paused: true }), ["0 PauseSender"]);
}

#[test]
fn what_names_something_unknown_goes_nowhere() {
    let mut router = router();
    for command in [
        Command::RemoveTransport { transport: id("x") },
        Command::DropPairs { transport: id("x") },
        track("x", "t2", false),
        sender("s", "x", "t"),
        sender("s", "c", "x"),
        remove_sender("x"),
        Command::RemoveTrack { track: id("x") },
        Command::MuteTrack { track: id("x"), muted: true },
        Command::PauseSender { sender: id("s"), paused: true },
        Command::OpenPipe { track: id("t"), pipe: 1 },
    ] {
        assert!(route(&mut router, command).is_empty());
    }
}

#[test]
fn the_first_subscriber_of_another_worker_opens_a_pipe_and_the_last_closes_it() {
    let mut router = router();
    let first = route(&mut router, sender("s1", "c", "t"));
    assert_eq!(first, ["0 OpenPipe t", "1 SetPipedTrack t false", "1 SetSender s1"]);
    assert_eq!(route(&mut router, sender("s2", "d", "t")), ["1 SetSender s2"]);
    assert_eq!(route(&mut router, sender("s2", "d", "t")), ["1 SetSender s2"], "a repetition counts once");
    assert_eq!(route(&mut router, remove_sender("s1")), ["1 RemoveSender s1"]);
    let last = route(&mut router, Command::RemoveTransport { transport: id("d") });
    assert_eq!(last, ["1 RemoveTransport d", "0 ClosePipe t", "1 RemoveTrack t"]);
}

#[test]
fn a_piped_track_is_changed_muted_and_ranked_on_every_worker() {
    let mut router = router();
    route(&mut router, Command::MuteTrack { track: id("t"), muted: true });
    route(&mut router, Command::RankTrack { track: id("t"), rank: 3 });
    let opened = route(&mut router, sender("s", "c", "t"));
    let expected = ["0 OpenPipe t", "1 SetPipedTrack t false", "1 MuteTrack true", "1 RankTrack 3", "1 SetSender s"];
    assert_eq!(opened, expected, "the new worker learns what was said before");
    let mute = Command::MuteTrack { track: id("t"), muted: false };
    assert_eq!(route(&mut router, mute), ["1 MuteTrack false", "0 MuteTrack false"]);
    assert_eq!(route(&mut router, track("a", "t", true)), ["0 SetTrack", "1 SetPipedTrack t true"]);
    let removed = route(&mut router, Command::RemoveTrack { track: id("t") });
    assert_eq!(removed, ["1 RemoveTrack t", "0 RemoveTrack t"]);
    assert!(route(&mut router, remove_sender("s")).is_empty(), "it went with its track");
}

#[test]
fn a_publisher_that_ends_takes_its_piped_tracks_along() {
    let mut router = router();
    route(&mut router, sender("s", "c", "t"));
    let mut orders = Orders::new();
    router.transport_ended("a", &mut orders);
    assert_eq!(shape(&orders), ["1 RemoveTrack t", "0 RemoveTrack t"]);
    assert_eq!(router.worker_of_track("t"), None);
    router.transport_ended("a", &mut orders);
    assert_eq!(orders.len(), 2, "once");
}

#[test]
fn a_track_or_sender_that_moves_leaves_its_old_place() {
    let mut router = router();
    route(&mut router, sender("s", "c", "t"));
    let moved = route(&mut router, sender("s", "b", "t"));
    assert_eq!(moved, ["1 RemoveSender s", "0 ClosePipe t", "1 RemoveTrack t", "0 SetSender s"]);
    assert_eq!(route(&mut router, track("c", "t", false)), ["0 RemoveTrack t", "1 SetTrack"]);
    assert_eq!(router.worker_of_track("t"), Some(1));
    let again = route(&mut router, sender("s", "b", "t"));
    assert_eq!(again, ["1 OpenPipe t", "0 SetPipedTrack t false", "0 SetSender s"]);
}

#[test]
fn a_transport_that_is_added_again_starts_anew() {
    let mut router = router();
    let mut orders = Orders::new();
    router.route(1, add("a"), &mut orders);
    assert_eq!(shape(&orders), ["0 RemoveTransport a", "0 RemoveTrack t", "1 AddTransport"]);
}

#[test]
fn open_pipes_have_different_ids_and_tell_their_workers() {
    let mut router = router();
    let mut ids = Vec::new();
    for number in 0..50 {
        let name = format!("t{number}");
        let mut orders = Orders::new();
        router.route(0, track("a", &name, false), &mut orders);
        router.route(0, sender(&format!("s{number}"), "c", &name), &mut orders);
        ids.extend(orders.iter().find_map(|(_, command)| match command {
            Command::OpenPipe { pipe, .. } => Some(*pipe),
            _ => None,
        }));
    }
    assert!(ids.iter().all(|pipe| ends(*pipe) == (0, 1)));
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 50);
    assert_eq!(ends(pipe_id(63, 62, MAX_PIPES - 1)), (63, 62));
}

#[test]
fn the_layers_that_workers_want_are_told_together() {
    let mut router = router();
    assert_eq!(
        router.merge(0, layers("t", true, false)),
        Some(layers("t", true, false)),
        "one worker speaks for itself"
    );
    route(&mut router, sender("s", "c", "t"));
    assert_eq!(router.take_events(), [layers("t", true, true)], "a worker that has said nothing wants everything");
    assert_eq!(router.merge(1, layers("t", false, true)), None, "both together want both");
    assert_eq!(router.merge(1, layers("t", true, false)), Some(layers("t", true, false)));
    assert_eq!(router.merge(0, layers("t", false, false)), None, "the other still wants the low one");
    route(&mut router, remove_sender("s"));
    assert_eq!(router.take_events(), [layers("t", false, false)]);
    assert_eq!(router.merge(0, layers("x", true, true)), None, "the track is gone");
}

#[test]
fn levels_are_told_by_the_worker_of_the_track_alone() {
    let mut router = router();
    let levels = |tracks: &[&str]| Event::AudioLevels(tracks.iter().map(|track| (id(track), 30)).collect());
    assert_eq!(router.merge(0, levels(&["t"])), Some(levels(&["t"])));
    assert_eq!(router.merge(1, levels(&["t"])), None);
}
