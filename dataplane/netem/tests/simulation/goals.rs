//! Ten ways in which links are bad, and what is asked of an SFU behind each: after a drop it sends less than the link
//! carries within 5 s; after a rise the estimate reaches 80 % within 15 s and paused video is back within 30 s; it sends
//! less than 10 % too much; a track changes its spatial layer at most twice in 30 s of a constant link; audio never stops.

use super::trace::{Figures, Trace};
use super::{Path, Scenario, Stack, link, run};
use core::time::Duration;
use parley_netem::{GilbertElliott, Loss};

const REACTION_S: f64 = 5.0;
const RISE_S: f64 = 15.0;
const VIDEO_S: f64 = 30.0;
const OVERSENT: f64 = 0.1;
const SWITCHES: usize = 2;
/// Audio may wait for what is in the queue of 300 ms, and no more than that.
const AUDIO_GAP_S: f64 = 0.35;

/// Runs scenarios with one kind of SFU, `SEEDS` times each (3 if not set). `TRACE` prints a line a second.
pub struct Trial<S, F: Fn(usize) -> S> {
    build: F,
    seeds: u64,
    is_traced: bool,
}

impl<S: Stack, F: Fn(usize) -> S> Trial<S, F> {
    /// `build` makes an SFU for so many subscribers.
    pub fn new(build: F) -> Self {
        let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok());
        Self { build, seeds: seeds.unwrap_or(3), is_traced: std::env::var_os("TRACE").is_some() }
    }

    fn each_seed(&self, scenario: &Scenario, check: impl Fn(&[Trace])) {
        for seed in 1..=self.seeds {
            eprintln!("seed {seed}");
            let traces = run(&Scenario { seed, ..scenario.clone() }, (self.build)(scenario.paths.len()));
            if self.is_traced {
                traces.iter().for_each(Trace::print);
            }
            check(&traces);
        }
    }

    pub fn falls_from_3_mbps_to_500_kbps(&self) {
        self.each_seed(&Scenario::new(90, Path::new(3_000).then(30, link(500))), |traces| {
            let before = steady("3 Mb/s", &traces[0], 0, 30);
            assert!(before.layer == Some(2) && before.video == 1.0);
            let after = steady("3 Mb/s -> 500 kb/s", &traces[0], 30, 90);
            assert!(after.reaction_s.is_some_and(|reaction| reaction <= REACTION_S));
            assert!(after.layer.is_some() && after.video == 1.0);
        });
    }

    pub fn falls_from_500_to_100_kbps(&self) {
        self.each_seed(&Scenario::new(90, Path::new(500).then(30, link(100))), |traces| {
            let before = steady("500 kb/s", &traces[0], 0, 30);
            assert!(before.layer.is_some() && before.video == 1.0);
            let after = steady("500 -> 100 kb/s", &traces[0], 30, 90);
            assert!(after.reaction_s.is_some_and(|reaction| reaction <= REACTION_S));
            assert_eq!(after.layer, None, "there is room for audio only");
        });
    }

    pub fn rises_from_100_kbps_to_2_mbps(&self) {
        self.each_seed(&Scenario::new(120, Path::new(100).then(60, link(2_000))), |traces| {
            steady("100 kb/s", &traces[0], 0, 60);
            let after = steady("100 kb/s -> 2 Mb/s", &traces[0], 60, 120);
            assert!(after.risen_s.is_some_and(|risen| risen <= RISE_S));
            assert!(after.video_s.is_some_and(|video| video <= VIDEO_S));
            assert_eq!(after.layer, Some(2));
        });
    }

    pub fn loses_five_percent(&self) {
        let mut path = Path::new(3_000);
        path.down.loss = Loss::Random(0.05);
        self.each_seed(&Scenario::new(90, path.clone()), |traces| {
            let figures = steady("5 % loss", &traces[0], 0, 90);
            assert!(figures.video == 1.0 && figures.layer >= Some(1));
        });
    }

    pub fn loses_in_bursts(&self) {
        let model = GilbertElliott { to_bad: 0.01, to_good: 0.2, loss_when_good: 0.001, loss_when_bad: 0.6 };
        let mut path = Path::new(3_000);
        path.down.loss = Loss::GilbertElliott(model);
        self.each_seed(&Scenario::new(90, path.clone()), |traces| {
            let figures = steady("bursts of loss", &traces[0], 0, 90);
            assert!(figures.video == 1.0 && figures.layer >= Some(1));
        });
    }

    pub fn has_80_ms_of_jitter(&self) {
        let mut path = Path::new(3_000);
        path.down.jitter = Duration::from_millis(80);
        self.each_seed(&Scenario::new(90, path.clone()), |traces| {
            let figures = steady("80 ms of jitter", &traces[0], 0, 90);
            assert!(figures.video == 1.0 && figures.layer >= Some(1));
        });
    }

    pub fn shares_with_a_greedy_flow(&self) {
        let scenario = Scenario { greedy: Some((30, 90)), ..Scenario::new(150, Path::new(2_500)) };
        self.each_seed(&scenario, |traces| {
            steady("before the greedy flow", &traces[0], 0, 30);
            let shared = figures("with the greedy flow", &traces[0], 30, 90);
            assert!(shared.oversent <= OVERSENT && shared.audio_gap_s <= AUDIO_GAP_S && shared.video >= 0.75);
            let after = steady("after the greedy flow", &traces[0], 90, 150);
            assert!(after.risen_s.is_some_and(|risen| risen <= RISE_S));
            assert!(after.video_s.is_some_and(|video| video <= VIDEO_S));
            assert_eq!(after.layer, Some(2));
        });
    }

    pub fn has_a_publisher_that_loses_packets(&self) {
        let mut scenario = Scenario::new(60, Path::new(3_000));
        scenario.publisher.loss = Loss::Random(0.1);
        self.each_seed(&scenario, |traces| {
            let figures = steady("a publisher that loses packets", &traces[0], 0, 60);
            assert!(figures.video == 1.0 && figures.layer == Some(2));
        });
    }

    pub fn has_six_subscribers_of_unequal_speed(&self) {
        let speeds = [100, 300, 700, 1_200, 2_500, 6_000];
        let least = [None, Some(0), Some(0), Some(1), Some(2), Some(2)];
        let scenario = Scenario { paths: speeds.map(Path::new).to_vec(), ..Scenario::new(90, Path::new(0)) };
        self.each_seed(&scenario, |traces| {
            for ((speed, least), trace) in speeds.iter().zip(least).zip(traces) {
                let figures = steady(&format!("one of six, {speed} kb/s"), trace, 0, 90);
                assert!(figures.layer >= least && figures.layer.is_some() == least.is_some(), "{figures}");
            }
        });
    }

    pub fn goes_away_for_four_seconds(&self) {
        self.each_seed(&Scenario::new(90, Path::new(2_500).outage(30, 34)), |traces| {
            steady("before the outage", &traces[0], 0, 30);
            figures("outage", &traces[0], 30, 34);
            let after = steady("after the outage", &traces[0], 34, 90);
            assert!(after.risen_s.is_some_and(|risen| risen <= RISE_S));
            assert!(after.video_s.is_some_and(|video| video <= VIDEO_S));
            assert_eq!(after.layer, Some(2));
        });
    }
}

fn figures(name: &str, trace: &Trace, from: u64, to: u64) -> Figures {
    let figures = trace.figures(from, to);
    eprintln!("{name}, {from} to {to} s: {figures}");
    figures
}

/// What holds behind every link that is constant.
fn steady(name: &str, trace: &Trace, from: u64, to: u64) -> Figures {
    let figures = figures(name, trace, from, to);
    assert!(figures.oversent <= OVERSENT, "{name}: {figures}");
    assert!(figures.switches <= SWITCHES, "{name}: {figures}");
    assert!(figures.audio_gap_s <= AUDIO_GAP_S, "{name}: {figures}");
    figures
}
