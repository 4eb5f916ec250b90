//! What is sent within a budget.

use super::*;

mod properties;

const fn layer(spatial: u8, temporal: u8, kbps: u64) -> LayerRate {
    LayerRate { spatial, temporal, rate: DataRate::from_bps(kbps * 1_000), alive: true }
}

const CAMERA: [LayerRate; 6] =
    [layer(0, 0, 100), layer(0, 1, 150), layer(1, 0, 350), layer(1, 1, 500), layer(2, 0, 1_000), layer(2, 1, 1_500)];
const SCREEN: [LayerRate; 1] = [layer(0, 0, 1_000)];

fn kbps(rate: u64) -> DataRate {
    DataRate::from_bps(rate * 1_000)
}

fn camera(id: u32, rank: Rank) -> Demand<'static> {
    Demand { id, rank, visible: true, max_spatial: 2, layers: &CAMERA, current: None }
}

fn screen(id: u32) -> Demand<'static> {
    Demand { layers: &SCREEN, ..camera(id, Rank::Screen) }
}

/// One subscriber whose link and tiles the test changes.
struct View {
    allocator: Allocator,
    now: Instant,
    estimate: u64,
    last_n: Option<usize>,
    demands: Vec<Demand<'static>>,
    out: Vec<Assignment>,
}

impl View {
    fn new(estimate: u64, demands: Vec<Demand<'static>>) -> Self {
        let now = Instant::from_micros(60_000_000);
        let mut view = Self { allocator: Allocator::new(), now, estimate, last_n: None, demands, out: Vec::new() };
        view.allocate();
        view
    }

    fn allocate(&mut self) {
        let budget = Budget { estimate: kbps(self.estimate), has_feedback: true, ..Budget::default() };
        self.allocator.allocate(self.now, budget, self.last_n, &mut self.demands, &mut self.out);
        for demand in &mut self.demands {
            demand.current =
                self.out.iter().find(|assignment| assignment.id == demand.id).and_then(|found| found.choice);
        }
    }

    /// Allocates every 50 ms for some time.
    fn run(&mut self, millis: u64) {
        for _ in 0..millis / 50 {
            self.now = self.now + Duration::from_millis(50);
            self.allocate();
        }
    }

    fn get(&self, id: u32) -> Assignment {
        *self.out.iter().find(|assignment| assignment.id == id).expect("an assignment for each demand")
    }

    fn choice(&self, id: u32) -> Option<(u8, u8)> {
        self.get(id).choice.map(|choice| (choice.spatial, choice.temporal))
    }
}

#[test]
fn everybody_gets_the_lowest_layer_before_anybody_gets_more() {
    let view = View::new(1_000, vec![camera(1, Rank::Speaker), camera(2, Rank::Other), camera(3, Rank::Other)]);
    assert_eq!([1, 2, 3].map(|id| view.choice(id)), [Some((1, 0)), Some((1, 0)), Some((0, 1))]);
}

#[test]
fn what_matters_more_is_raised_first() {
    let view = View::new(1_000, vec![camera(1, Rank::Spoke(9_000)), camera(2, Rank::Spoke(500))]);
    assert!(view.choice(2) > view.choice(1));
    assert_eq!(view.out[0].id, 2);
}

#[test]
fn a_screen_comes_before_cameras() {
    let mut view = View::new(1_200, vec![camera(1, Rank::Speaker), screen(7)]);
    assert_eq!(view.choice(7), Some((0, 0)));
    assert_eq!(view.choice(1), None);
    view.run(1_100);
    assert_eq!(view.get(1).pause, Pause::Bandwidth);
}

#[test]
fn a_screen_that_does_not_fit_does_not_darken_the_cameras() {
    let view = View::new(800, vec![camera(1, Rank::Speaker), screen(7)]);
    assert_eq!(view.choice(7), None);
    assert!(view.choice(1).is_some());
}

#[test]
fn never_more_than_the_tile_asks() {
    let view = View::new(50_000, vec![Demand { max_spatial: 1, ..camera(1, Rank::Pinned) }]);
    assert_eq!(view.choice(1), Some((1, 1)));
    assert_eq!(view.allocator.wanted(), kbps(500));
}

#[test]
fn what_nobody_sees_is_not_sent_and_not_wanted() {
    let view = View::new(50_000, vec![Demand { visible: false, ..camera(1, Rank::Pinned) }]);
    assert_eq!(view.get(1), Assignment { id: 1, choice: None, pause: Pause::Hidden });
    assert_eq!(view.allocator.wanted(), DataRate::ZERO);
}

#[test]
fn only_the_last_n_are_sent_and_the_hidden_do_not_count() {
    let hidden = Demand { visible: false, ..camera(1, Rank::Pinned) };
    let mut view = View::new(50_000, vec![hidden, camera(2, Rank::Spoke(10)), camera(3, Rank::Other), screen(4)]);
    view.last_n = Some(2);
    view.allocate();
    assert_eq!([1, 2, 3, 4].map(|id| view.get(id).pause), [Pause::Hidden, Pause::None, Pause::LastN, Pause::None]);
    assert!(view.choice(2).is_some() && view.choice(3).is_none());
}

#[test]
fn a_layer_that_is_not_sent_is_not_chosen() {
    let mut layers = CAMERA;
    layers[4].alive = false;
    layers[5].alive = false;
    let layers: &'static [LayerRate] = Box::leak(Box::new(layers));
    let view =
        View::new(50_000, vec![Demand { layers, ..camera(1, Rank::Pinned) }, Demand { layers: &[], ..screen(2) }]);
    assert_eq!(view.choice(1), Some((1, 1)));
    assert_eq!(view.get(2), Assignment { id: 2, choice: None, pause: Pause::None });
}

#[test]
fn audio_and_repairs_come_off_the_budget() {
    let mut view = View::new(1_000, vec![camera(1, Rank::Speaker)]);
    assert_eq!(view.choice(1), Some((1, 1)));
    let budget = Budget { estimate: kbps(1_000), audio: kbps(400), retransmissions: kbps(100), has_feedback: true };
    view.allocator.allocate(view.now, budget, None, &mut view.demands, &mut view.out);
    assert_eq!(view.choice(1), Some((1, 0)));
}

#[test]
fn without_feedback_there_is_no_limit() {
    let mut view = View::new(50, vec![camera(1, Rank::Speaker), camera(2, Rank::Other)]);
    view.run(2_000);
    assert_eq!(view.get(1).pause, Pause::Bandwidth);
    view.allocator.allocate(view.now, Budget::default(), None, &mut view.demands, &mut view.out);
    assert_eq!([1, 2].map(|id| view.choice(id)), [Some((2, 1)); 2]);
}

#[test]
fn the_first_estimate_forces_nobody_down() {
    let mut view = View::new(300, vec![camera(1, Rank::Speaker)]);
    view.allocator = Allocator::new();
    view.allocator.allocate(view.now, Budget::default(), None, &mut view.demands, &mut view.out);
    assert_eq!(view.choice(1), Some((2, 1)));
    view.run(50);
    assert_eq!(view.choice(1), Some((0, 1)));
    view.estimate = 2_000; // the first probes have found it
    view.run(200);
    assert_eq!(view.choice(1), Some((2, 1)));
}

#[test]
fn down_is_at_once_and_up_needs_a_tenth_more_and_ten_seconds() {
    let mut view = View::new(2_000, vec![camera(1, Rank::Speaker)]);
    assert_eq!(view.choice(1), Some((2, 1)));
    view.estimate = 1_560; // 1,482 kb/s are less than 1,500
    view.run(50);
    assert_eq!(view.choice(1), Some((2, 0)));
    view.estimate = 2_000;
    view.run(9_900);
    assert_eq!(view.choice(1), Some((2, 0)));
    view.estimate = 1_700; // 1,615 kb/s are more than 1,500, but not by a tenth
    view.run(2_000);
    assert_eq!(view.choice(1), Some((2, 0)));
    view.estimate = 1_760;
    view.run(50);
    assert_eq!(view.choice(1), Some((2, 1)));
    view.estimate = 1_600; // a layer once gained needs no head-room
    view.run(5_000);
    assert_eq!(view.choice(1), Some((2, 1)));
}

#[test]
fn a_layer_that_does_not_last_is_tried_ever_more_rarely() {
    let mut view = View::new(2_000, vec![camera(1, Rank::Speaker)]);
    let mut waits = Vec::new();
    for _ in 0..4 {
        view.estimate = 1_000;
        view.run(50);
        view.estimate = 2_000;
        let began = view.now;
        while view.choice(1) != Some((2, 1)) {
            view.run(50);
        }
        waits.push(view.now.since(began).as_millis() / 1_000);
    }
    assert_eq!(waits, [10, 20, 40, 40]);
    view.estimate = 1_000;
    view.run(50);
    view.estimate = 2_500; // half as much again as it needs
    view.run(9_900);
    assert_eq!(view.choice(1), Some((1, 1)));
    view.run(100);
    assert_eq!(view.choice(1), Some((2, 1)), "the link is another one");
}

#[test]
fn a_surge_is_borne_for_as_long_as_a_key_frame_is_seen() {
    let mut surging = CAMERA;
    surging[5].rate = kbps(1_900);
    let surging: &'static [LayerRate] = Box::leak(Box::new(surging));
    let mut view = View::new(1_800, vec![camera(1, Rank::Speaker)]);
    view.demands[0].layers = surging;
    view.run(1_500);
    assert_eq!(view.choice(1), Some((2, 1)));
    view.demands[0].layers = &CAMERA;
    view.run(5_000);
    assert_eq!(view.choice(1), Some((2, 1)));
    view.demands[0].layers = surging;
    view.run(1_600);
    assert_eq!(view.choice(1), Some((2, 0)), "what lasts is no key frame");
}

#[test]
fn video_that_lacks_room_for_a_second_is_paused_from_the_bottom() {
    let mut view = View::new(400, vec![camera(1, Rank::Speaker), camera(2, Rank::Spoke(5)), camera(3, Rank::Other)]);
    assert!([1, 2, 3].iter().all(|id| view.choice(*id).is_some()));
    view.estimate = 240; // 228 kb/s: room for two
    view.run(1_000);
    assert!(view.choice(3).is_some(), "a second has not passed yet");
    view.run(100);
    assert_eq!(view.get(3), Assignment { id: 3, choice: None, pause: Pause::Bandwidth });
    assert!(view.choice(1).is_some() && view.choice(2).is_some());
    view.estimate = 50;
    view.run(1_200);
    assert!([1, 2, 3].iter().all(|id| view.get(*id).pause == Pause::Bandwidth));
}

#[test]
fn a_short_dip_pauses_nothing() {
    let mut view = View::new(400, vec![camera(1, Rank::Speaker)]);
    for _ in 0..10 {
        view.estimate = 50;
        view.run(900);
        view.estimate = 400;
        view.run(100);
        assert_eq!(view.get(1).pause, Pause::None);
        assert!(view.choice(1).is_some());
    }
}

/// Pauses the cameras 1 to 3.
fn dark() -> View {
    let mut view = View::new(400, vec![camera(1, Rank::Speaker), camera(2, Rank::Spoke(5)), camera(3, Rank::Other)]);
    view.estimate = 40;
    view.run(1_100);
    assert!([1, 2, 3].iter().all(|id| view.get(*id).pause == Pause::Bandwidth));
    view
}

/// Waits for the next probe; how long in seconds, and its rate in kb/s.
fn next_probe(view: &mut View) -> (u64, u64) {
    let began = view.now;
    loop {
        view.run(50);
        if let Some(rate) = view.allocator.resume_probe(view.now) {
            return (view.now.since(began).as_millis().div_ceil(1_000) as u64, rate.bps() / 1_000);
        }
    }
}

#[test]
fn paused_videos_come_back_one_by_one_each_after_its_probe() {
    let mut view = dark();
    assert_eq!(next_probe(&mut view), (5, 126)); // 1.2 x 100 kb/s in a budget of 0.95
    assert_eq!(view.allocator.resume_probe(view.now), None);
    view.run(2_000);
    assert!(view.choice(1).is_none());
    view.estimate = 126;
    view.allocator.probe_result(kbps(126), view.now);
    view.run(50);
    assert!(view.choice(1).is_some() && view.choice(2).is_none());
    assert_eq!(next_probe(&mut view), (1, 252));
    view.estimate = 252;
    view.allocator.probe_result(kbps(252), view.now);
    view.run(50);
    assert!(view.choice(2).is_some() && view.choice(3).is_none());
}

#[test]
fn a_paused_video_does_not_come_back_while_its_publisher_sends_nothing() {
    const STALLED: [LayerRate; 1] = [layer(0, 0, 0)];
    let mut view = dark();
    for demand in &mut view.demands {
        demand.layers = &STALLED;
    }
    for _ in 0..200 {
        view.run(50);
        assert!([1, 2, 3].iter().all(|id| view.get(*id).pause == Pause::Bandwidth));
        assert_eq!(view.allocator.resume_probe(view.now), None, "a probe would prove nothing");
    }
    for demand in &mut view.demands {
        demand.layers = &CAMERA;
    }
    assert_eq!(next_probe(&mut view), (1, 126));
}

#[test]
fn the_wait_doubles_with_each_failure_up_to_a_minute() {
    let mut view = dark();
    let mut waits = Vec::new();
    for _ in 0..6 {
        waits.push(next_probe(&mut view).0);
        view.allocator.probe_result(DataRate::ZERO, view.now);
    }
    assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
    view.estimate = 800; // it is not for the wait any more that they stay away
    assert!(next_probe(&mut view).0 <= 5);
}

#[test]
fn a_probe_without_a_result_is_given_up() {
    let mut view = dark();
    next_probe(&mut view);
    let (wait, _) = next_probe(&mut view);
    assert!((9..=11).contains(&wait), "{wait}");
}

#[test]
fn a_video_that_comes_back_in_vain_counts_as_a_failure() {
    let mut view = dark();
    next_probe(&mut view);
    view.allocator.probe_result(kbps(126), view.now); // and yet the estimate stays where it is
    view.run(1_200);
    assert_eq!(view.get(1).pause, Pause::Bandwidth);
    assert!((10..=11).contains(&next_probe(&mut view).0));
}

#[test]
fn a_speaker_takes_the_place_of_one_who_matters_less_without_a_probe() {
    let mut view = View::new(400, vec![camera(1, Rank::Speaker), camera(2, Rank::Other)]);
    view.estimate = 150;
    view.run(1_100);
    assert!(view.choice(1).is_some() && view.get(2).pause == Pause::Bandwidth);
    for demand in &mut view.demands {
        demand.rank = if demand.id == 2 { Rank::Speaker } else { Rank::Spoke(0) };
    }
    view.run(50);
    assert!(view.choice(2).is_some());
    assert_eq!(view.get(1), Assignment { id: 1, choice: None, pause: Pause::Bandwidth });
}

#[test]
fn when_the_first_in_rank_is_too_large_the_next_is_tried() {
    let mut view = View::new(2_000, vec![screen(7), camera(1, Rank::Speaker)]);
    view.estimate = 50;
    view.run(1_200);
    assert_eq!(next_probe(&mut view), (5, 1_263));
    view.allocator.probe_result(DataRate::ZERO, view.now);
    assert_eq!(next_probe(&mut view).1, 126);
    view.estimate = 126;
    view.allocator.probe_result(kbps(126), view.now);
    view.run(50);
    assert!(view.choice(1).is_some() && view.choice(7).is_none());
}

#[test]
fn who_is_new_waits_a_second_for_a_place_before_being_called_paused() {
    let mut view = View::new(150, vec![camera(1, Rank::Speaker), camera(2, Rank::Other)]);
    assert_eq!(view.get(2), Assignment { id: 2, choice: None, pause: Pause::None });
    view.estimate = 400; // the first probes have found more
    view.run(500);
    assert!(view.choice(2).is_some());
}

#[test]
fn nothing_is_allocated_anew_in_the_steady_state() {
    let mut view = View::new(1_000, (0..40).map(|id| camera(id, Rank::Other)).collect());
    let capacities =
        |view: &View| (view.allocator.tracks.capacity(), view.allocator.picks.capacity(), view.out.capacity());
    let before = capacities(&view);
    view.run(5_000);
    assert_eq!(capacities(&view), before);
}
