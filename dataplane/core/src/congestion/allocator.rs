//! Which layer of which video one subscriber is sent: a pure function of what is wanted, what the link carries, the time
//! and what was decided before.

mod resume;
#[cfg(test)]
mod tests;

use crate::time::Instant;
use crate::units::DataRate;
use core::time::Duration;
use resume::Resume;

/// The share of the estimate that is spent.
const SPENT: f64 = 0.95;
/// Room that an up-switch, and a video at its lowest layer, must leave.
const HEAD_ROOM: f64 = 1.1;
/// How long a video may lack that room before it is paused.
const SHORTAGE: Duration = Duration::from_secs(1);
/// How long a video stays where it was forced down to. It doubles for one that goes up and fails again.
const HOLD: Duration = Duration::from_secs(10);
const MAX_HOLD: Duration = Duration::from_secs(40);
/// How long a layer that is sent may exceed the rate that it was chosen for. A key frame, without which there is no switch,
/// is seen for a second in what is measured over a second.
const SURGE: Duration = Duration::from_millis(1_500);
/// Room that an up-switch must leave to a video that has gone up in vain.
const MORE_HEAD_ROOM: f64 = 1.25;
/// Room that ends a hold which was doubled: the link is another one than that which was short.
const AMPLE_ROOM: f64 = 1.5;
/// A layer that is lost within this time of its gain was gained too soon.
const TOO_SOON: Duration = Duration::from_secs(30);

/// The share of its own rate for which a video takes the place of another: measured rates differ a little.
const EXCHANGED: f64 = 0.8;

/// How much a video matters to its subscriber; the first variant the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// A screen that is shared.
    Screen,
    /// Chosen by the subscriber.
    Pinned,
    /// Speaks now.
    Speaker,
    /// Spoke, so many milliseconds ago.
    Spoke(u32),
    /// Has not spoken.
    Other,
}

/// A layer to be sent: all packets of the spatial layer (for SVC: up to it) up to the temporal layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerChoice {
    /// Spatial layer or simulcast stream, lowest 0.
    pub spatial: u8,
    /// Temporal layer, lowest 0.
    pub temporal: u8,
}

/// What one choice costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerRate {
    /// Spatial layer or simulcast stream.
    pub spatial: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// Measured over a second; all that is sent for this choice.
    pub rate: DataRate,
    /// Whether the publisher sends it (or would, if somebody wanted it).
    pub alive: bool,
}

impl LayerRate {
    const fn choice(&self) -> LayerChoice {
        LayerChoice { spatial: self.spatial, temporal: self.temporal }
    }
}

/// One video of one subscriber.
#[derive(Clone, Debug)]
pub struct Demand<'a> {
    /// The caller's name of it, unique among the demands.
    pub id: u32,
    /// How much it matters.
    pub rank: Rank,
    /// Whether it is on the subscriber's screen.
    pub visible: bool,
    /// The highest spatial layer that its tile has a use for.
    pub max_spatial: u8,
    /// What there is to choose from, lowest first.
    pub layers: &'a [LayerRate],
    /// What is sent now.
    pub current: Option<LayerChoice>,
}

/// Why a video is not sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pause {
    /// It is sent, or will be as soon as there is something to send and a place for it.
    #[default]
    None,
    /// Nobody sees it.
    Hidden,
    /// Others are among the last N, it is not.
    LastN,
    /// The link does not carry it.
    Bandwidth,
}

/// What a video is to be sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The demand's id.
    pub id: u32,
    /// The layer; nothing while the video is not to be sent.
    pub choice: Option<LayerChoice>,
    /// Why not.
    pub pause: Pause,
}

/// What there is to spend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// What the link carries.
    pub estimate: DataRate,
    /// What audio takes of it, always.
    pub audio: DataRate,
    /// What was sent again in the last second.
    pub retransmissions: DataRate,
    /// Whether the estimate is more than a guess; without feedback nothing is limited.
    pub has_feedback: bool,
}

impl Budget {
    fn for_video(&self) -> DataRate {
        if self.has_feedback { self.of(self.estimate) } else { DataRate::from_bps(u64::MAX) }
    }

    fn of(&self, estimate: DataRate) -> DataRate {
        estimate.scaled(SPENT) - self.audio - self.retransmissions
    }
}

/// What is remembered of a video.
#[derive(Clone, Copy, Debug)]
struct Track {
    id: u32,
    round: u32,      // in which it was last asked for
    is_paused: bool, // for lack of bandwidth
    short_since: Option<Instant>,
    choice: Option<LayerChoice>,
    cost: DataRate, // that the choice is reckoned with
    surge_since: Option<Instant>,
    forced_down_at: Option<Instant>,
    hold: Duration,
    raised_at: Option<Instant>,
}

impl Track {
    const fn new(id: u32) -> Self {
        Self {
            id,
            round: 0,
            is_paused: false,
            short_since: None,
            choice: None,
            cost: DataRate::from_bps(u64::MAX),
            surge_since: None,
            forced_down_at: None,
            hold: HOLD,
            raised_at: None,
        }
    }

    /// Nobody is to see it: it comes back as a new one, but for where it is held.
    const fn hide(&mut self) {
        *self = Self { round: self.round, forced_down_at: self.forced_down_at, hold: self.hold, ..Self::new(self.id) };
    }

    /// How long it has lacked room for its lowest layer.
    fn short_for(&mut self, fits: bool, now: Instant) -> Duration {
        if fits {
            self.short_since = None;
            return Duration::ZERO;
        }
        now.since(*self.short_since.get_or_insert(now))
    }

    /// Follows what its layer is measured at: down at once, up when that lasts.
    fn measured(&mut self, rate: DataRate, now: Instant) {
        let since = *self.surge_since.get_or_insert(now);
        if rate <= self.cost || now.since(since) >= SURGE {
            self.cost = rate;
            self.surge_since = None;
        }
    }

    /// The room that an up-switch must leave; nothing while there may be none.
    fn head_room(&self, now: Instant) -> Option<f64> {
        let held_for = self.forced_down_at.map_or(Duration::MAX, |at| now.since(at));
        match self.hold > HOLD {
            _ if held_for < HOLD => None,
            true if held_for < self.hold => Some(AMPLE_ROOM),
            true => Some(MORE_HEAD_ROOM),
            false => Some(HEAD_ROOM),
        }
    }

    /// The link took a layer away.
    fn forced_down(&mut self, now: Instant) {
        let is_early = self.raised_at.is_some_and(|at| now.since(at) < TOO_SOON);
        self.hold = if is_early { (self.hold * 2).min(MAX_HOLD) } else { HOLD };
        self.forced_down_at = Some(now);
        self.raised_at = None;
    }
}

/// What is chosen for a demand in this round; the same index as the demand.
#[derive(Clone, Copy, Debug, Default)]
struct Pick {
    track: usize,
    former: Option<usize>, // index of the layer that was chosen before
    layer: Option<usize>,
    cost: DataRate, // of that layer, and of those below at most
    is_settled: bool,
    is_wanted: bool, // visible, among the last N, and there is something to send
    pause: Pause,
}

impl Pick {
    fn cost(&self, index: usize, layer: &LayerRate) -> DataRate {
        if self.former.is_some_and(|former| former >= index) { layer.rate.min(self.cost) } else { layer.rate }
    }
}

/// Chooses the layers for one subscriber's transport.
#[derive(Debug, Default)]
pub struct Allocator {
    tracks: Vec<Track>, // by id
    picks: Vec<Pick>,
    round: u32,
    is_limited: bool,
    was_limited: bool,
    resume: Resume,
    wanted: DataRate,
}

impl Allocator {
    /// An allocator that has decided nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Fills `out` with one assignment a demand, in the order of their rank, into which `demands` is sorted.
    ///
    /// The sum of the assigned rates is at most 0.95 x estimate - audio - retransmissions, but for a video that flows: it
    /// may stay at its lowest layer for the second in which it is not clear yet whether it must be paused.
    pub fn allocate(
        &mut self,
        now: Instant,
        budget: Budget,
        last_n: Option<usize>,
        demands: &mut [Demand<'_>],
        out: &mut Vec<Assignment>,
    ) {
        demands.sort_unstable_by_key(|demand| (demand.rank, demand.id));
        out.clear();
        (self.was_limited, self.is_limited) = (self.is_limited, budget.has_feedback);
        self.remember(now, demands);
        self.want(last_n, demands);
        let video = budget.for_video();
        let spent = self.lowest(now, budget, video, demands);
        self.raise(now, spent, video, demands);
        for (index, demand) in demands.iter().enumerate() {
            out.push(self.decide(now, index, demand));
        }
    }

    /// What everything that is visible would need at the highest layer that its tile has a use for.
    #[must_use]
    pub const fn wanted(&self) -> DataRate {
        self.wanted
    }

    /// The rate of the probe that is to show whether the next paused video may come back; ask after each `allocate`, and
    /// bring the outcome by [`Self::probe_result`].
    pub fn resume_probe(&mut self, now: Instant) -> Option<DataRate> {
        self.resume.probe(now)
    }

    /// Takes what the probe has measured, zero for one that failed.
    pub fn probe_result(&mut self, rate: DataRate, now: Instant) {
        if let Some(id) = self.resume.result(rate, now)
            && let Ok(at) = self.tracks.binary_search_by_key(&id, |track| track.id)
        {
            self.tracks[at].is_paused = false;
            self.tracks[at].short_since = None;
        }
    }

    /// Forgets who has gone, and finds a place for who is new.
    fn remember(&mut self, now: Instant, demands: &[Demand<'_>]) {
        self.round = self.round.wrapping_add(1);
        for demand in demands {
            let at = self.tracks.binary_search_by_key(&demand.id, |track| track.id).unwrap_or_else(|at| {
                self.tracks.insert(at, Track { choice: demand.current, ..Track::new(demand.id) });
                at
            });
            self.tracks[at].round = self.round;
        }
        self.tracks.retain(|track| track.round == self.round);
        self.picks.clear();
        for demand in demands {
            let at = self.tracks.partition_point(|track| track.id < demand.id);
            let track = &mut self.tracks[at];
            let former = track.choice.and_then(|choice| nearest(demand, choice));
            if let Some(former) = former {
                let layer = &demand.layers[former];
                if track.choice != Some(layer.choice()) {
                    track.cost = DataRate::from_bps(u64::MAX); // the one that was chosen is gone
                }
                track.measured(layer.rate, now);
            }
            self.picks.push(Pick { track: at, former, cost: track.cost, ..Pick::default() });
        }
    }

    /// Who is to be sent if the link carries it.
    fn want(&mut self, last_n: Option<usize>, demands: &[Demand<'_>]) {
        let mut places = last_n.unwrap_or(usize::MAX);
        self.wanted = DataRate::ZERO;
        for (pick, demand) in self.picks.iter_mut().zip(demands) {
            if demand.visible && places > 0 {
                places -= 1;
                let top = usable(demand).last();
                pick.is_wanted = top.is_some();
                self.wanted = self.wanted + top.map_or(DataRate::ZERO, |(_, layer)| layer.rate);
            } else {
                pick.pause = if demand.visible { Pause::LastN } else { Pause::Hidden };
                self.tracks[pick.track].hide();
            }
        }
    }

    /// The first pass: everybody's lowest layer, and who must be paused. Returns what that spends.
    fn lowest(&mut self, now: Instant, budget: Budget, video: DataRate, demands: &[Demand<'_>]) -> DataRate {
        self.resume.begin(budget);
        let mut granted = self.granted(budget.has_feedback, demands);
        let (mut spent, mut admitted) = (DataRate::ZERO, DataRate::ZERO);
        for (pick, demand) in self.picks.iter_mut().zip(demands) {
            let Some((layer, lowest)) = usable(demand).next().filter(|_| pick.is_wanted) else { continue };
            let track = &mut self.tracks[pick.track];
            let rate = pick.cost(layer, lowest);
            let fits = (spent + rate).scaled(HEAD_ROOM) <= video;
            if track.is_paused && fits && admitted + rate.scaled(EXCHANGED) <= granted {
                granted = granted + rate.scaled(1.0 - EXCHANGED); // it takes the place of those that matter less
                track.is_paused = false;
            }
            let has_place = admitted + rate <= granted;
            if !track.is_paused && (!has_place || track.short_for(fits, now) >= SHORTAGE) {
                track.is_paused = true;
                track.short_since = None;
                self.resume.paused(now);
            }
            if track.is_paused {
                self.resume.candidate(track.id, rate);
                continue;
            }
            admitted = admitted + rate;
            if fits || pick.former.is_some() {
                pick.layer = Some(layer);
                spent = spent + rate;
            }
        }
        self.resume.flowing(spent);
        spent
    }

    /// What the lowest layers of all that are not paused take: a paused video comes back without a probe within it.
    fn granted(&mut self, is_limited: bool, demands: &[Demand<'_>]) -> DataRate {
        let mut granted = DataRate::ZERO;
        for (pick, demand) in self.picks.iter().zip(demands) {
            let track = &mut self.tracks[pick.track];
            track.is_paused &= is_limited;
            if pick.is_wanted && !track.is_paused {
                granted =
                    granted + usable(demand).next().map_or(DataRate::ZERO, |(index, layer)| pick.cost(index, layer));
            }
        }
        granted
    }

    /// Further passes, each of which raises everybody by one layer if the budget allows.
    fn raise(&mut self, now: Instant, mut spent: DataRate, video: DataRate, demands: &[Demand<'_>]) {
        let mut is_open = true;
        while is_open {
            is_open = false;
            for (pick, demand) in self.picks.iter_mut().zip(demands) {
                let Some(at) = pick.layer.filter(|_| !pick.is_settled) else { continue };
                let head_room = self.tracks[pick.track].head_room(now);
                let now_spent = pick.cost(at, &demand.layers[at]);
                let next = usable(demand).find(|(index, _)| *index > at).filter(|(index, layer)| {
                    let total = spent + (pick.cost(*index, layer) - now_spent);
                    let had_it = pick.former.is_some_and(|former| former >= *index);
                    if had_it { total <= video } else { head_room.is_some_and(|room| total.scaled(room) <= video) }
                });
                if let Some((index, layer)) = next {
                    spent = spent + (pick.cost(index, layer) - now_spent);
                    pick.layer = Some(index);
                    is_open = true;
                } else {
                    pick.is_settled = true;
                }
            }
        }
    }

    fn decide(&mut self, now: Instant, index: usize, demand: &Demand<'_>) -> Assignment {
        let pick = self.picks[index];
        let track = &mut self.tracks[pick.track];
        if pick.layer > pick.former && pick.former.is_some() {
            track.raised_at = Some(now);
        } else if pick.is_wanted && pick.layer < pick.former && self.was_limited {
            track.forced_down(now);
        }
        if pick.layer != pick.former {
            track.cost = pick.layer.map_or(DataRate::from_bps(u64::MAX), |layer| demand.layers[layer].rate);
            track.surge_since = None;
        }
        track.choice = pick.layer.map(|layer| demand.layers[layer].choice());
        let pause = if track.is_paused { Pause::Bandwidth } else { pick.pause };
        Assignment { id: demand.id, choice: track.choice, pause }
    }
}

/// The layers that are sent and of use to the tile, with their index.
fn usable<'a>(demand: &Demand<'a>) -> impl Iterator<Item = (usize, &'a LayerRate)> + use<'a> {
    let max_spatial = demand.max_spatial;
    demand.layers.iter().enumerate().filter(move |(_, layer)| layer.alive && layer.spatial <= max_spatial)
}

/// The index of the layer that was chosen before, or of the best one below it that is left.
fn nearest(demand: &Demand<'_>, choice: LayerChoice) -> Option<usize> {
    let is_within = |layer: &LayerRate| (layer.spatial, layer.temporal) <= (choice.spatial, choice.temporal);
    let below = usable(demand).filter(|(_, layer)| is_within(layer)).last();
    below.or_else(|| usable(demand).next()).map(|(index, _)| index)
}
