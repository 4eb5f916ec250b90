//! What holds for any links, tiles and ranks.

use super::*;
use proptest::prelude::*;

fn ranks() -> impl Strategy<Value = Rank> {
    prop_oneof![
        Just(Rank::Screen),
        Just(Rank::Pinned),
        Just(Rank::Speaker),
        any::<u32>().prop_map(Rank::Spoke),
        Just(Rank::Other)
    ]
}

#[derive(Clone, Debug)]
struct Round {
    wait: u64,
    estimate: u64,
    audio: u64,
    last_n: Option<usize>,
    tiles: Vec<(Rank, bool, u8, [bool; 6])>,
    probe: Option<u64>,
}

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let tile = (ranks(), prop::bool::weighted(0.8), 0u8..4, prop::array::uniform6(prop::bool::weighted(0.9)));
    let round = (
        0u64..1_500,
        prop_oneof![10u64..400, 10u64..8_000],
        0u64..100,
        prop::option::of(0usize..6),
        prop::collection::vec(tile, 6),
        prop::option::of(0u64..3_000),
    );
    let round = round.prop_map(|(wait, estimate, audio, last_n, tiles, probe)| Round {
        wait,
        estimate,
        audio,
        last_n,
        tiles,
        probe,
    });
    prop::collection::vec(round, 1..40)
}

proptest! {
    #[test]
    fn the_budget_is_kept_and_nobody_gets_what_is_of_no_use(rounds in rounds()) {
        let mut allocator = Allocator::new();
        let mut out = Vec::new();
        let mut now = Instant::from_micros(1);
        let mut flowing = [false; 6];
        let mut short_since = [None; 6];
        for round in rounds {
            now = now + Duration::from_millis(round.wait);
            let layers: Vec<[LayerRate; 6]> = round.tiles.iter().map(|tile| {
                let mut layers = CAMERA;
                for (layer, alive) in layers.iter_mut().zip(tile.3) {
                    layer.alive = alive;
                }
                layers
            }).collect();
            let mut demands: Vec<Demand<'_>> = round.tiles.iter().zip(&layers).zip(0..).map(|((tile, layers), id)| {
                Demand { id, rank: tile.0, visible: tile.1, max_spatial: tile.2, layers, current: None }
            }).collect();
            let budget = Budget {
                estimate: kbps(round.estimate), audio: kbps(round.audio), has_feedback: true, ..Budget::default()
            };
            allocator.allocate(now, budget, round.last_n, &mut demands, &mut out);
            prop_assert_eq!(out.len(), demands.len());
            prop_assert!(demands.windows(2).all(|pair| pair[0].rank <= pair[1].rank));

            let video = kbps(round.estimate).scaled(0.95) - kbps(round.audio);
            let (mut sum, mut lowest_sum, mut excused) = (0, 0, 0);
            let former = core::mem::take(&mut short_since);
            for (demand, assignment) in demands.iter().zip(&out) {
                prop_assert_eq!(demand.id, assignment.id);
                let Some(choice) = assignment.choice else { continue };
                let layer = demand.layers.iter().find(|layer| layer.choice() == choice).expect("a layer that exists");
                prop_assert!(demand.visible && layer.alive && choice.spatial <= demand.max_spatial);
                prop_assert_eq!(assignment.pause, Pause::None);
                let lowest = usable(demand).next().expect("one that is alive").1;
                sum += layer.rate.bps();
                excused += if flowing[demand.id as usize] && lowest == layer { layer.rate.bps() } else { 0 };
                lowest_sum += lowest.rate.bps();
                if lowest_sum > video.bps() {
                    let since = former[demand.id as usize].unwrap_or(now);
                    prop_assert!(now.since(since) < SHORTAGE);
                    short_since[demand.id as usize] = Some(since);
                }
            }
            let sent = out.iter().filter(|assignment| assignment.choice.is_some()).count();
            prop_assert!(sent <= round.last_n.unwrap_or(usize::MAX));
            // Only what flows already, and only at its lowest layer, may exceed the budget, for less than a second.
            prop_assert!(sum <= video.bps() || sum - excused <= video.bps(), "{} of {:?}", sum, video);
            for assignment in &out {
                flowing[assignment.id as usize] = assignment.choice.is_some();
            }
            if allocator.resume_probe(now).is_some() {
                prop_assert!(out.iter().any(|assignment| assignment.pause == Pause::Bandwidth));
                if let Some(rate) = round.probe {
                    allocator.probe_result(kbps(rate), now);
                }
            }
        }
    }

    #[test]
    fn a_screen_is_sent_whenever_it_fits_alone(estimate in 10u64..4_000, cameras in 0u32..20, kbps_of_screen in 10u64..3_000) {
        let layers = [layer(0, 0, kbps_of_screen)];
        let mut demands: Vec<Demand<'_>> = (0..cameras).map(|id| camera(id, Rank::Speaker)).collect();
        demands.push(Demand { layers: &layers, ..screen(99) });
        let budget = Budget { estimate: kbps(estimate), has_feedback: true, ..Budget::default() };
        let (mut allocator, mut out) = (Allocator::new(), Vec::new());
        allocator.allocate(Instant::from_micros(1), budget, None, &mut demands, &mut out);
        let fits = kbps(kbps_of_screen).scaled(HEAD_ROOM) <= budget.for_video();
        prop_assert_eq!(out[0].id, 99);
        prop_assert_eq!(out[0].choice.is_some(), fits);
    }

    #[test]
    fn the_same_questions_have_the_same_answers(rounds in rounds()) {
        let run = || {
            let (mut allocator, mut out, mut all) = (Allocator::new(), Vec::new(), Vec::new());
            let mut now = Instant::from_micros(1);
            for round in &rounds {
                now = now + Duration::from_millis(round.wait);
                let mut demands: Vec<Demand<'_>> = round.tiles.iter().zip(0..).map(|(tile, id)| {
                    Demand { visible: tile.1, max_spatial: tile.2, ..camera(id, tile.0) }
                }).collect();
                let budget = Budget { estimate: kbps(round.estimate), has_feedback: true, ..Budget::default() };
                allocator.allocate(now, budget, round.last_n, &mut demands, &mut out);
                all.extend(out.iter().copied());
            }
            all
        };
        prop_assert_eq!(run(), run());
    }
}
