//! What a link does to packets.

use core::time::Duration;
use parley_core::time::Instant;
use parley_core::units::DataRate;
use parley_netem::{GilbertElliott, Link, Loss, Params, Queue};
use proptest::prelude::*;

fn at(millis: u64) -> Instant {
    Instant::from_micros(millis * 1_000)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn kbps(rate: u64) -> DataRate {
    DataRate::from_bps(rate * 1_000)
}

/// Everything that arrives, in order, found by jumping from one `next_at` to the next.
fn drain<T>(link: &mut Link<T>) -> Vec<(u64, T)> {
    let mut arrived = Vec::new();
    while let Some(next) = link.next_at() {
        while let Some((arrival, payload)) = link.pop(next) {
            arrived.push((arrival.as_micros() / 1_000, payload));
        }
    }
    arrived
}

#[test]
fn packets_leave_the_wire_one_after_the_other() {
    let mut link = Link::new(0, Params { rate: Some(kbps(800)), delay: ms(20), ..Params::default() });
    for number in 0..3 {
        link.push(at(0), 1_000, number);
    }
    assert_eq!(drain(&mut link), [(30, 0), (40, 1), (50, 2)]);
    assert_eq!(link.counters().carried, (3, 3_000));
}

#[test]
fn a_queue_of_a_time_drops_what_is_more() {
    let mut link = Link::new(0, Params::rated(kbps(800), ms(0), ms(35)));
    for number in 0..6 {
        link.push(at(0), 1_000, number);
    }
    assert_eq!(link.queue_delay(), Some(ms(30)));
    assert_eq!(drain(&mut link), [(10, 0), (20, 1), (30, 2)]);
    assert_eq!(link.counters().dropped, (3, 3_000));
}

#[test]
fn a_queue_of_bytes_drops_what_is_more() {
    let params = Params { rate: Some(kbps(800)), queue: Queue::Bytes(2_000), ..Params::default() };
    let mut link = Link::new(0, params);
    for number in 0..3 {
        link.push(at(0), 1_000, number);
    }
    link.push(at(10), 1_000, 3);
    assert_eq!(drain(&mut link), [(10, 0), (20, 1), (30, 3)]);
}

#[test]
fn a_change_of_rate_hits_the_packet_on_the_wire() {
    let params = |rate| Params { rate: Some(kbps(rate)), ..Params::default() };
    let mut link = Link::new(0, params(800));
    link.schedule(at(5), params(80)); // half of the packet is left and takes ten times as long
    link.schedule(at(105), params(800));
    for number in 0..2 {
        link.push(at(0), 1_000, number);
    }
    assert_eq!(drain(&mut link), [(55, 0), (110, 1)]);
}

#[test]
fn a_stopped_wire_holds_its_queue_and_goes_on() {
    let mut link = Link::new(0, Params { rate: Some(DataRate::ZERO), ..Params::default() });
    link.schedule(at(4_000), Params { rate: Some(kbps(800)), ..Params::default() });
    link.push(at(0), 1_000, 0);
    assert_eq!(link.queue_delay(), None);
    assert_eq!(link.pop(at(3_999)), None);
    assert_eq!(drain(&mut link), [(4_010, 0)]);
}

#[test]
fn an_outage_loses_what_is_sent_and_what_waits_but_not_what_is_on_its_way() {
    let up = Params { rate: Some(kbps(800)), delay: ms(50), ..Params::default() };
    let mut link = Link::new(0, up.clone());
    link.schedule(at(15), Params { is_down: true, ..up.clone() });
    link.schedule(at(100), up);
    for number in 0..3 {
        link.push(at(0), 1_000, number);
    }
    link.push(at(20), 1_000, 3);
    link.push(at(100), 1_000, 4);
    assert_eq!(drain(&mut link), [(60, 0), (160, 4)]);
    assert_eq!(link.counters().lost, (3, 3_000));
}

#[test]
fn a_link_without_a_rate_has_no_queue() {
    let mut link = Link::new(0, Params { delay: ms(7), ..Params::default() });
    link.push(at(1), 1_000_000, ());
    assert_eq!(drain(&mut link), [(8, ())]);
}

#[test]
fn jitter_is_evenly_spread_and_keeps_the_order_unless_told_otherwise() {
    let params = Params { delay: ms(10), jitter: ms(80), ..Params::default() };
    let mut ordered = Link::new(5, params.clone());
    let mut turned = Link::new(5, Params { jitter_reorders: true, ..params });
    for number in 0..1_000u64 {
        ordered.push(at(number * 20), 100, number);
        turned.push(at(number * 20), 100, number);
    }
    let ordered = drain(&mut ordered);
    assert!(ordered.windows(2).all(|pair| pair[0].1 < pair[1].1 && pair[0].0 <= pair[1].0));
    let turned = drain(&mut turned);
    assert!(turned.windows(2).any(|pair| pair[0].1 > pair[1].1));
    let late = turned.iter().map(|(arrival, number)| arrival - number * 20);
    assert!(late.clone().all(|late| (10..=90).contains(&late)));
    let mean = late.sum::<u64>() / 1_000;
    assert!((46..=53).contains(&mean), "{mean}");
}

#[test]
fn a_packet_that_is_passed_holds_up_nobody() {
    let params = Params { reorder: 0.1, reorder_delay: ms(50), delay: ms(10), ..Params::default() };
    let mut link = Link::new(2, params);
    for number in 0..1_000u64 {
        link.push(at(number * 10), 100, number);
    }
    let arrived = drain(&mut link);
    let late = arrived.iter().filter(|(arrival, number)| arrival - number * 10 == 60).count();
    assert!((70..130).contains(&late), "{late}");
    assert!(arrived.iter().all(|(arrival, number)| [10, 60].contains(&(arrival - number * 10))));
}

#[test]
fn losses_take_their_share() {
    let burst = GilbertElliott { to_bad: 0.02, to_good: 0.2, loss_when_good: 0.001, loss_when_bad: 0.5 };
    for (loss, share) in [(Loss::Random(0.05), 0.05), (Loss::GilbertElliott(burst), 0.0464)] {
        let mut link = Link::new(9, Params { loss, ..Params::default() });
        for number in 0..100_000 {
            link.push(at(number), 100, ());
        }
        let lost = link.counters().lost.0 as f64 / 100_000.0;
        assert!((lost - share).abs() < 0.01, "{loss:?}: {lost}");
    }
}

fn params() -> impl Strategy<Value = Params> {
    let rate = prop_oneof![Just(None), (1u64..5_000).prop_map(|rate| Some(kbps(rate)))];
    let queue = prop_oneof![
        Just(Queue::Unlimited),
        (0u64..50_000).prop_map(Queue::Bytes),
        (0u64..500).prop_map(|time| Queue::Time(ms(time)))
    ];
    let loss = prop_oneof![Just(Loss::None), (0.0..1.0).prop_map(Loss::Random)];
    (rate, queue, 0u64..200, 0u64..100, any::<bool>(), loss, prop::bool::weighted(0.1)).prop_map(
        |(rate, queue, delay, jitter, jitter_reorders, loss, is_down)| Params {
            rate,
            queue,
            delay: ms(delay),
            jitter: ms(jitter),
            jitter_reorders,
            loss,
            is_down,
            ..Params::default()
        },
    )
}

proptest! {
    #[test]
    fn every_packet_comes_out_once_or_is_counted_as_gone(
        seed in any::<u64>(),
        first in params(),
        changes in prop::collection::vec((0u64..500, params()), 0..5),
        pushes in prop::collection::vec((0u64..50, 1usize..2_000), 0..100),
    ) {
        let run = || {
            let mut link = Link::new(seed, first.clone());
            let mut now = 0;
            for (step, params) in &changes {
                now += step;
                link.schedule(at(now), params.clone());
            }
            let (mut now, mut arrived) = (0, Vec::new());
            for (number, (step, bytes)) in pushes.iter().enumerate() {
                now += step;
                while let Some((arrival, number)) = link.pop(at(now)) {
                    assert!(arrival <= at(now));
                    arrived.push((arrival.as_micros() / 1_000, number));
                }
                link.push(at(now), *bytes, number);
            }
            arrived.extend(drain(&mut link));
            (arrived, link.counters())
        };
        let (arrived, counters) = run();
        let mut numbers: Vec<usize> = arrived.iter().map(|(_, number)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        prop_assert_eq!(numbers.len(), arrived.len());
        prop_assert_eq!(counters.carried.0, arrived.len() as u64);
        prop_assert_eq!(counters.pushed.0, counters.carried.0 + counters.dropped.0 + counters.lost.0);
        prop_assert!(arrived.windows(2).all(|pair| pair[0].0 <= pair[1].0));
        prop_assert_eq!(run(), (arrived, counters));
    }

    #[test]
    fn the_wire_never_carries_more_than_its_rate(rate in 10u64..5_000, pushes in prop::collection::vec((0u64..20, 1usize..1_500), 1..200)) {
        let mut link = Link::new(0, Params { rate: Some(kbps(rate)), ..Params::default() });
        let mut now = 0;
        for (step, bytes) in pushes {
            now += step;
            link.push(at(now), bytes, bytes);
        }
        let arrived = drain(&mut link);
        let bits: u64 = arrived.iter().skip(1).map(|(_, bytes)| *bytes as u64 * 8).sum();
        let span = arrived.last().map_or(0, |last| last.0) - arrived.first().map_or(0, |first| first.0);
        prop_assert!(bits <= rate * (span + 1), "{} bits in {} ms", bits, span);
    }
}
