//! The congestion control alone, behind links that are bad in ten ways.

#[path = "../simulation/mod.rs"]
mod simulation;
mod stack;

use core::time::Duration;
use simulation::goals::Trial;
use stack::Algorithms;

fn trial() -> Trial<Algorithms, impl Fn(usize) -> Algorithms> {
    let tick = std::env::var("TICK").ok().and_then(|tick| tick.parse().ok());
    Trial::new(move |subscribers| Algorithms::new(subscribers, Duration::from_millis(tick.unwrap_or(50))))
}

#[test]
fn a_link_falls_from_3_mbps_to_500_kbps() {
    trial().falls_from_3_mbps_to_500_kbps();
}

#[test]
fn a_link_falls_from_500_to_100_kbps() {
    trial().falls_from_500_to_100_kbps();
}

#[test]
fn a_link_rises_from_100_kbps_to_2_mbps() {
    trial().rises_from_100_kbps_to_2_mbps();
}

#[test]
fn a_link_loses_five_percent() {
    trial().loses_five_percent();
}

#[test]
fn a_link_loses_in_bursts() {
    trial().loses_in_bursts();
}

#[test]
fn a_link_has_80_ms_of_jitter() {
    trial().has_80_ms_of_jitter();
}

#[test]
fn a_link_is_shared_with_a_greedy_flow() {
    trial().shares_with_a_greedy_flow();
}

#[test]
fn a_publisher_loses_packets() {
    trial().has_a_publisher_that_loses_packets();
}

#[test]
fn six_subscribers_have_links_of_unequal_speed() {
    trial().has_six_subscribers_of_unequal_speed();
}

#[test]
fn a_link_goes_away_for_four_seconds() {
    trial().goes_away_for_four_seconds();
}
