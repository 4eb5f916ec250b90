//! Law of the engine: no (key, SSRC, index) is sealed twice with other bytes, whatever comes in and whatever is asked for.
//! With AES-GCM a second packet under the same index gives the key away (RFC 7714 8.4).

mod call;

use std::collections::HashMap;
use std::time::Duration;

use call::{Call, SUBSCRIBER};
use parley_core::engine::Command;
use parley_core::engine::Dropped;
use parley_core::engine::command::Want;
use parley_core::units::DataRate;
use proptest::prelude::*;

/// What may happen in a call.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A packet of a layer: `ahead` leaves a gap, `back` comes late (and maybe twice).
    Publish {
        layer: u8,
        ahead: u8,
        back: u8,
        temporal: u8,
        is_key: bool,
        len: u16,
    },
    /// A late packet comes by RTX.
    Repair {
        layer: u8,
        back: u8,
    },
    /// The subscriber misses one of the last packets.
    Nack {
        back: u8,
    },
    KeyFrame,
    /// The subscriber reports on everything since the last report, but for every n-th.
    Feedback {
        but: u8,
    },
    Remb {
        kbps: u16,
    },
    Stop(bool),
    Mute(bool),
    Select {
        layer: Option<u8>,
        temporal: Option<u8>,
    },
    Want {
        width: u16,
        visible: bool,
    },
    Cap {
        kbps: Option<u16>,
    },
    Pass {
        millis: u16,
    },
    /// The sender ends, and another has its SSRCs again.
    Subscribe,
    /// The same keys come again.
    Keys,
    /// Another SSRC takes a layer over.
    Restart {
        layer: u8,
    },
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..3_u8, 0..4_u8, 0..12_u8, 0..3_u8, prop::bool::weighted(0.2), 1..1_100_u16)
            .prop_map(|(layer, ahead, back, temporal, is_key, len)| Step::Publish { layer, ahead, back, temporal, is_key, len }),
        2 => (0..3_u8, 0..12_u8).prop_map(|(layer, back)| Step::Repair { layer, back }),
        4 => (0..40_u8).prop_map(|back| Step::Nack { back }),
        1 => Just(Step::KeyFrame),
        3 => (1..20_u8).prop_map(|but| Step::Feedback { but }),
        1 => (20..3_000_u16).prop_map(|kbps| Step::Remb { kbps }),
        1 => any::<bool>().prop_map(Step::Stop),
        1 => any::<bool>().prop_map(Step::Mute),
        2 => (prop::option::of(0..3_u8), prop::option::of(0..3_u8))
            .prop_map(|(layer, temporal)| Step::Select { layer, temporal }),
        1 => (0..2_000_u16, any::<bool>()).prop_map(|(width, visible)| Step::Want { width, visible }),
        1 => prop::option::of(50..2_000_u16).prop_map(|kbps| Step::Cap { kbps }),
        4 => (1..300_u16).prop_map(|millis| Step::Pass { millis }),
        1 => Just(Step::Subscribe),
        1 => Just(Step::Keys),
        1 => (0..3_u8).prop_map(|layer| Step::Restart { layer }),
    ]
}

fn take(call: &mut Call, step: Step) {
    match step {
        Step::Publish { layer, ahead, back, temporal, is_key, len } => {
            call.publish(layer, ahead, back, temporal, is_key, usize::from(len));
        }
        Step::Repair { layer, back } => call.repair(layer, back),
        Step::Nack { back } => call.nack(back),
        Step::KeyFrame => call.picture_loss(),
        Step::Feedback { but } => call.feedback(but),
        Step::Remb { kbps } => call.remb(u64::from(kbps) * 1_000),
        Step::Stop(paused) => call.apply(Command::PauseSender { sender: "video".into(), paused }),
        Step::Mute(muted) => call.apply(Command::MuteTrack { track: "cam".into(), muted }),
        Step::Select { layer, temporal } => {
            let rid = layer.map(|layer| call::RIDS[usize::from(layer)].into());
            call.apply(Command::SelectLayer { sender: "video".into(), rid, temporal, strict: false });
        }
        Step::Want { width, visible } => {
            let want = Want { width: u32::from(width), height: u32::from(width) / 2, visible, pinned: false };
            call.apply(Command::WantTrack { sender: "video".into(), want });
        }
        Step::Cap { kbps } => {
            let rate = kbps.map(|kbps| DataRate::from_bps(u64::from(kbps) * 1_000));
            call.apply(Command::CapBandwidth { transport: SUBSCRIBER.into(), rate });
        }
        Step::Pass { millis } => call.pass(Duration::from_millis(u64::from(millis))),
        Step::Subscribe => call.subscribe(),
        Step::Keys => call.repeat_keys(),
        Step::Restart { layer } => call.restart(layer),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_sealed_twice(plan in prop::collection::vec(steps(), 1..250)) {
        let mut call = Call::new();
        for step in plan {
            take(&mut call, step);
        }
        let mut sealed: HashMap<(u32, u64), &[u8]> = HashMap::new();
        for packet in &call.sealed {
            let former = sealed.insert((packet.ssrc, packet.index), &packet.bytes);
            prop_assert!(former.is_none(), "{} of {} was sealed before", packet.index, packet.ssrc);
        }
        prop_assert!(call.reports.is_sorted_by(|a, b| a < b), "reports under {:?}", call.reports);
    }
}

#[test]
fn keys_that_come_twice_do_not_begin_the_reports_again() {
    let mut call = Call::new();
    for _ in 0..4 {
        call.publish(0, 0, 0, 0, true, 900);
        call.pass(Duration::from_secs(2));
        call.repeat_keys();
    }
    assert!(call.reports.len() > 2, "{} reports", call.reports.len());
    assert!(call.reports.is_sorted_by(|a, b| a < b), "reports under {:?}", call.reports);
}

#[test]
fn what_waits_too_long_for_its_turn_is_given_up_for_a_key_frame() {
    let mut call = Call::new();
    for round in 0..60_u8 {
        call.publish(0, 0, 0, 0, round == 0, 900);
        call.pass(Duration::from_millis(33));
    }
    call.remb(30_000);
    call.events.clear();
    for _ in 0..200 {
        call.publish(0, 0, 0, 0, false, 1_000);
    }
    assert!(call.engine.stats().queued > 0);
    call.pass(Duration::from_millis(1_100));
    assert_eq!(call.engine.stats().queued, 0);
    let dropped = call.engine.stats().dropped[Dropped::PacerOverflow as usize];
    assert!(dropped > 0, "{dropped} packets were given up");
    let before = call.sealed.len();
    call.publish(0, 0, 0, 0, false, 500);
    call.pass(Duration::from_secs(1));
    assert_eq!(call.sealed.len(), before, "nothing but a key frame goes on");
    call.publish(0, 0, 0, 0, true, 500);
    call.pass(Duration::from_secs(1));
    assert!(call.sealed.len() > before);
}

#[test]
fn a_call_sends_media_repairs_and_probes() {
    let mut call = Call::new();
    for round in 0..200_u8 {
        for layer in 0..3 {
            call.publish(layer, 0, 0, round % 3, round == 0, 900);
        }
        call.pass(Duration::from_millis(33));
        call.feedback(19);
        call.nack(1);
    }
    let count = |ssrc| call.sealed.iter().filter(|packet| packet.ssrc == ssrc).count();
    assert!(count(call::VIDEO_SSRC) > 100, "{} packets of media", count(call::VIDEO_SSRC));
    assert!(count(call::RTX_SSRC) > 100, "{} repairs and probes", count(call::RTX_SSRC));
}
