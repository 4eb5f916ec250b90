//! The controller as a whole, behind a link that is a queue with a rate.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

fn at(millis: u64) -> Instant {
    Instant::from_micros(millis * 1_000)
}

fn kbps(rate: u64) -> DataRate {
    DataRate::from_bps(rate * 1_000)
}

/// A constant flow through a link of a given rate, with a report every 50 ms.
struct Flow {
    congestion: Congestion,
    link_bps: u64,
    free_at: u64, // microseconds
    number: u64,
    on_the_way: VecDeque<(u64, u64)>, // number, arrival
    now: u64,                         // milliseconds
    credit: u64,
    burst: Option<Burst>,
}

impl Flow {
    fn new(link: u64, start: u64) -> Self {
        Self {
            congestion: Congestion::new(at(0), kbps(start)),
            link_bps: link * 1_000,
            free_at: 0,
            number: 100,
            on_the_way: VecDeque::new(),
            now: 0,
            credit: 0,
            burst: None,
        }
    }

    fn send(&mut self, bytes: usize) {
        let id = self.burst.as_ref().map(|burst| burst.probe.id);
        self.congestion.on_sent(self.number, bytes, at(self.now), id);
        if let Some(burst) = &mut self.burst {
            burst.on_sent(bytes);
        }
        self.free_at = self.free_at.max(self.now * 1_000) + bytes as u64 * 8_000_000 / self.link_bps;
        self.on_the_way.push_back((self.number, self.free_at + 20_000));
        self.number += 1;
    }

    fn report(&mut self) {
        let mut arrived = Vec::new();
        while let Some((number, arrival)) = self.on_the_way.front().copied()
            && arrival <= self.now * 1_000
        {
            arrived.push((number as u16, Some(arrival as i64 + 77_000_000)));
            self.on_the_way.pop_front();
        }
        if !arrived.is_empty() {
            self.congestion.on_statuses(arrived.into_iter(), at(self.now));
        }
    }

    /// Sends for some time at the rate that `rate` gives for the estimate, in bits per second.
    fn run(&mut self, seconds: u64, rate: impl Fn(u64) -> u64) {
        for _ in 0..seconds * 1_000 {
            self.now += 1;
            self.credit += rate(self.congestion.estimate().bps()) / 8;
            while self.credit >= 600_000 {
                self.credit -= 600_000;
                self.send(600);
            }
            while self.burst.and_then(|burst| burst.next_at()).is_some_and(|due| due <= at(self.now)) {
                self.send(250);
            }
            if self.burst.is_some_and(|burst| burst.next_at().is_none() || !self.congestion.is_probing(burst.probe.id))
            {
                self.burst = None;
            }
            if self.now.is_multiple_of(50) {
                self.report();
                self.congestion.tick(at(self.now));
                if let Some(probe) = self.congestion.poll_probe(at(self.now)) {
                    self.burst = Some(Burst::new(probe, at(self.now)));
                }
            }
        }
    }

    fn estimate(&self) -> u64 {
        self.congestion.estimate().bps() / 1_000
    }
}

#[test]
fn a_sender_that_follows_the_estimate_comes_to_use_most_of_the_link_and_not_more() {
    let mut flow = Flow::new(1_000, 300);
    flow.run(20, |estimate| estimate);
    assert!((750..=1_050).contains(&flow.estimate()), "{}", flow.estimate());
}

#[test]
fn a_link_that_becomes_narrow_is_noticed_within_two_seconds() {
    let mut flow = Flow::new(3_000, 2_000);
    flow.run(10, |_| 1_500_000);
    flow.link_bps = 500_000;
    flow.run(2, |_| 1_500_000);
    assert!(flow.estimate() <= 500, "{}", flow.estimate());
}

#[test]
fn a_link_that_becomes_wide_is_found_by_probes_while_little_is_sent() {
    let mut flow = Flow::new(100, 100);
    flow.congestion.set_demand(kbps(2_000));
    flow.run(20, |_| 50_000);
    assert!(flow.estimate() <= 110, "{}", flow.estimate());
    flow.link_bps = 2_500_000;
    flow.run(8, |_| 50_000);
    assert!(flow.estimate() >= 1_600, "{}", flow.estimate());
}

#[test]
fn nothing_is_probed_without_use_for_it() {
    let mut flow = Flow::new(5_000, 300);
    flow.congestion.set_demand(kbps(50));
    flow.run(30, |_| 50_000);
    assert_eq!(flow.number - 100, 30 * 50_000 / 8 / 600);
}

#[test]
fn a_peer_that_falls_silent_is_sent_less_and_what_was_is_found_again() {
    let mut flow = Flow::new(2_000, 300);
    flow.congestion.set_demand(kbps(3_000));
    flow.run(10, |estimate| estimate.min(500_000));
    let before = flow.estimate();
    flow.link_bps = 1; // nothing arrives
    flow.run(4, |estimate| estimate.min(500_000));
    assert!(flow.estimate() < before / 8, "{before} -> {}", flow.estimate());
    flow.link_bps = 2_000_000;
    flow.on_the_way.clear();
    flow.free_at = 0;
    flow.run(3, |estimate| estimate.min(500_000));
    assert!(flow.estimate() > before / 2, "{before} -> {}", flow.estimate());
}

#[test]
fn a_requested_probe_that_fits_holds_for_two_seconds() {
    let mut flow = Flow::new(1_000, 300);
    flow.run(2, |_| 50_000);
    flow.congestion.request_probe(kbps(400), at(flow.now));
    flow.run(2, |_| 50_000);
    assert_eq!(flow.congestion.take_probe_result(), None);
    flow.run(1, |_| 50_000);
    let result = flow.congestion.take_probe_result().expect("an outcome");
    assert!((380..=410).contains(&(result.rate.bps() / 1_000)), "{result:?}");
    assert!(flow.estimate() >= 380);
    assert_eq!(flow.congestion.take_probe_result(), None);
}

#[test]
fn a_requested_probe_that_does_not_fit_ends_early_and_spares_the_queue() {
    let mut flow = Flow::new(100, 100);
    flow.run(5, |_| 50_000);
    flow.congestion.request_probe(kbps(250), at(flow.now));
    flow.run(1, |_| 50_000);
    let result = flow.congestion.take_probe_result().expect("an outcome");
    assert!(result.rate.bps() < 130_000, "{result:?}");
    assert!(flow.free_at < flow.now * 1_000 + 200_000, "the queue is {} us long", flow.free_at - flow.now * 1_000);
}

#[test]
fn a_probe_that_is_never_sent_fails() {
    let mut congestion = Congestion::new(at(0), kbps(300));
    congestion.request_probe(kbps(500), at(0));
    assert!(congestion.poll_probe(at(0)).is_some());
    congestion.tick(at(5_000));
    assert_eq!(congestion.take_probe_result().map(|result| result.rate), Some(DataRate::ZERO));
}

#[test]
fn the_peers_own_estimate_is_a_cap_where_it_reports_no_packets() {
    let mut congestion = Congestion::new(at(0), kbps(300));
    assert!(!congestion.has_feedback());
    congestion.on_remb(kbps(900), at(0));
    assert!(congestion.has_feedback());
    assert_eq!(congestion.estimate(), kbps(900));
    congestion.on_loss(0.2, at(1_000));
    assert_eq!(congestion.estimate(), kbps(810));
    congestion.on_loss(0.0, at(2_000));
    congestion.on_remb(kbps(700), at(2_000));
    assert_eq!(congestion.estimate(), kbps(700));
    congestion.on_sent(1, 1_000, at(2_000), None);
    congestion.on_statuses([(1, Some(5))].into_iter(), at(2_100));
    congestion.on_remb(kbps(50), at(2_200));
    assert_eq!(congestion.estimate(), kbps(700));
}

#[test]
fn feedback_is_awaited_for_two_seconds_from_the_first_packet() {
    let mut congestion = Congestion::new(at(0), kbps(300));
    assert!(congestion.awaits_feedback(at(60_000)));
    congestion.on_sent(1, 1_000, at(60_000), None);
    congestion.on_sent(2, 1_000, at(61_000), None);
    assert!(congestion.awaits_feedback(at(61_900)));
    assert!(!congestion.awaits_feedback(at(62_000)));
    congestion.on_statuses([(1, Some(5))].into_iter(), at(62_100));
    assert!(congestion.has_feedback() && !congestion.awaits_feedback(at(62_100)));
}

#[test]
fn a_receiver_report_without_any_estimate_limits_nothing() {
    let mut congestion = Congestion::new(at(0), kbps(300));
    congestion.on_loss(0.5, at(5_000));
    assert!(!congestion.has_feedback());
    assert!((congestion.loss() - 0.5).abs() < 1e-9);
}

#[derive(Clone, Debug)]
enum Step {
    Send(usize, bool),
    Report(u16, Vec<Option<i64>>),
    Remb(u64),
    Loss(f64),
    Trip(u64),
    Demand(u64),
    Request(u64),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let arrival =
        prop_oneof![5 => (0..10_000_000i64).prop_map(Some), 2 => Just(None), 1 => any::<i64>().prop_map(Some)];
    let step = prop_oneof![
        10 => (0..70_000usize, any::<bool>()).prop_map(|(bytes, probing)| Step::Send(bytes, probing)),
        4 => (0..200u16, prop::collection::vec(arrival, 0..60)).prop_map(|(base, arrivals)| Step::Report(base, arrivals)),
        1 => any::<u64>().prop_map(Step::Remb),
        1 => any::<f64>().prop_map(Step::Loss),
        1 => any::<u64>().prop_map(Step::Trip),
        1 => any::<u64>().prop_map(Step::Demand),
        1 => any::<u64>().prop_map(Step::Request),
        4 => (0..3_000_000u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #[test]
    fn whatever_a_peer_reports_the_estimate_stays_in_its_range(start in any::<u64>(), steps in steps()) {
        let mut now = Instant::default();
        let mut congestion = Congestion::new(now, DataRate::from_bps(start));
        let (mut number, mut probe) = (0, None);
        for step in steps {
            match step {
                Step::Send(bytes, probing) => {
                    congestion.on_sent(number, bytes, now, probe.filter(|_| probing));
                    number += 1;
                }
                Step::Report(base, arrivals) => {
                    let numbers = (0u16..).map(|step| base.wrapping_add(step));
                    congestion.on_statuses(numbers.zip(arrivals), now);
                }
                Step::Remb(rate) => congestion.on_remb(DataRate::from_bps(rate), now),
                Step::Loss(fraction) => congestion.on_loss(fraction, now),
                Step::Trip(micros) => congestion.on_round_trip(Duration::from_micros(micros)),
                Step::Demand(wanted) => {
                    congestion.set_demand(DataRate::from_bps(wanted));
                }
                Step::Request(rate) => congestion.request_probe(DataRate::from_bps(rate), now),
                Step::Wait(micros) => now = now + Duration::from_micros(micros),
            }
            congestion.tick(now);
            probe = congestion.poll_probe(now).map(|probe| probe.id).or(probe);
            let estimate = congestion.estimate();
            prop_assert!((MIN_RATE..=MAX_RATE).contains(&estimate), "{:?}", estimate);
            prop_assert!((0.0..=1.0).contains(&congestion.loss()));
        }
    }
}
