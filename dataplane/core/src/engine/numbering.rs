//! From a publisher's numbers to a subscriber's. Law: an outgoing number stands for one packet only.
//!
//! Within a stream the mapping is a shift that grows by one for each packet that is not forwarded. The last shifts are
//! remembered with the number from which each holds, so that a late packet gets the place that was kept for it. A switch
//! begins anew above everything that was sent; what belongs to former shifts is gone then.

/// Shifts that are remembered; with every other frame dropped that is about half a second.
const MAX_SEGMENTS: usize = 32;

/// One shift: the number from which it holds, and what to add to it.
#[derive(Clone, Copy, Debug, Default)]
struct Segment {
    first: u64,
    number: i64,
    picture: u16,
    tl0: u8,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The outgoing number.
    pub(crate) number: u64,
    /// What to add to the VP8 picture id.
    pub(crate) picture: u16,
    /// What to add to TL0PICIDX.
    pub(crate) tl0: u8,
}

/// The mapping of one sender.
#[derive(Debug)]
pub(crate) struct Numbering {
    segments: [Segment; MAX_SEGMENTS],
    newest: usize,
    count: usize,
    highest_in: u64,
    /// The highest outgoing number that stands for something.
    highest_out: u64,
}

impl Numbering {
    /// The first outgoing number will be `first`.
    pub(crate) fn new(first: u64) -> Self {
        Self {
            segments: [Segment::default(); MAX_SEGMENTS],
            newest: 0,
            count: 0,
            highest_in: 0,
            highest_out: first - 1,
        }
    }

    pub(crate) fn highest(&self) -> u64 {
        self.highest_out
    }

    fn current(&self) -> Segment {
        self.segments.get(self.newest).copied().unwrap_or_default()
    }

    /// The shifts of pictures in force at `number`.
    pub(crate) fn pictures(&self, number: u64) -> (u16, u8) {
        let segment = self.segment(number).unwrap_or(self.current());
        (segment.picture, segment.tl0)
    }

    fn segment(&self, number: u64) -> Option<Segment> {
        (0..self.count)
            .filter_map(|back| self.segments.get((self.newest + MAX_SEGMENTS - back) % MAX_SEGMENTS))
            .find(|segment| segment.first <= number)
            .copied()
    }

    fn set(&mut self, segment: Segment) {
        self.newest = (self.newest + 1) % MAX_SEGMENTS;
        if let Some(slot) = self.segments.get_mut(self.newest) {
            *slot = segment;
        }
        self.count = (self.count + 1).min(MAX_SEGMENTS);
    }

    /// From `number` on everything follows what was sent so far; what came before it is gone.
    #[expect(clippy::cast_possible_wrap, reason = "48 bits")]
    pub(crate) fn restart(&mut self, number: u64, picture: u16, tl0: u8) {
        self.count = 0;
        self.set(Segment { first: number, number: self.highest_out as i64 + 1 - number as i64, picture, tl0 });
        self.highest_in = number.saturating_sub(1);
    }

    /// True for a number above all that came before it.
    pub(crate) fn is_in_order(&self, number: u64) -> bool {
        number > self.highest_in
    }

    /// The place of a packet that is forwarded; `None` for one whose number is gone.
    #[expect(clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "48 bits, and never below the first")]
    pub(crate) fn place(&mut self, number: u64) -> Option<Place> {
        let segment = self.segment(number)?;
        let out = (number as i64 + segment.number) as u64;
        let place = Place { number: out, picture: segment.picture, tl0: segment.tl0 };
        self.highest_in = self.highest_in.max(number);
        self.highest_out = self.highest_out.max(out);
        Some(place)
    }

    /// The packet is not forwarded, and the numbers close up over it. Call only for one that is in order. The numbers
    /// between it and the one before stay kept for what may still come. `is_new_picture`: it is the first of a picture
    /// of which nothing is forwarded, over which picture ids close up.
    pub(crate) fn skip(&mut self, number: u64, is_new_picture: bool) {
        let mut segment = self.current();
        let is_next = segment.first == number && self.count > 0;
        segment.first = number + 1;
        segment.number -= 1;
        segment.picture = segment.picture.wrapping_sub(u16::from(is_new_picture));
        self.highest_in = number;
        if is_next && let Some(slot) = self.segments.get_mut(self.newest) {
            *slot = segment;
        } else {
            self.set(segment);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn numbering() -> Numbering {
        let mut numbering = Numbering::new(100);
        numbering.restart(1_000, 0, 0);
        numbering
    }

    fn out(numbering: &mut Numbering, number: u64) -> Option<u64> {
        numbering.place(number).map(|place| place.number)
    }

    #[test]
    fn numbers_close_up_over_what_is_skipped_and_late_ones_keep_their_place() {
        let mut numbering = numbering();
        assert_eq!(out(&mut numbering, 1_000), Some(100));
        numbering.skip(1_001, true);
        numbering.skip(1_002, false);
        assert_eq!(out(&mut numbering, 1_004), Some(102));
        numbering.skip(1_005, true);
        assert_eq!(out(&mut numbering, 1_003), Some(101));
        assert_eq!(numbering.place(1_006), Some(Place { number: 103, picture: u16::MAX - 1, tl0: 0 }));
        assert_eq!(out(&mut numbering, 999), None);
    }

    #[test]
    fn a_switch_goes_on_above_everything() {
        let mut numbering = numbering();
        out(&mut numbering, 1_000);
        out(&mut numbering, 1_005);
        numbering.restart(7, 3, 4);
        assert_eq!(numbering.place(7), Some(Place { number: 106, picture: 3, tl0: 4 }));
        assert_eq!(out(&mut numbering, 6), None);
    }

    #[test]
    fn a_late_picture_keeps_the_shift_that_was_in_force_at_its_place() {
        let mut numbering = numbering();
        numbering.skip(1_001, true);
        assert_eq!((numbering.pictures(1_000), numbering.pictures(1_002)), ((0, 0), (u16::MAX, 0)));
    }

    #[test]
    fn a_switch_goes_on_where_sending_stopped_and_what_is_missing_then_is_gone() {
        let mut numbering = numbering();
        out(&mut numbering, 1_000);
        numbering.skip(1_003, true); // 1001 and 1002 are missing: 101 and 102 are theirs, while the stream lasts
        numbering.restart(5_000, 0, 0);
        assert_eq!(out(&mut numbering, 5_000), Some(101));
        assert_eq!((out(&mut numbering, 1_001), out(&mut numbering, 1_002)), (None, None));
    }

    proptest! {
        #[test]
        fn no_outgoing_number_stands_for_two_packets(
            steps in prop::collection::vec((0_u8..10, 0_u64..6), 1..400),
        ) {
            let mut numbering = Numbering::new(50);
            let (mut stream, mut next) = (0_u64, 1_000_u64);
            numbering.restart(next, 0, 0);
            let mut taken: HashMap<u64, (u64, u64)> = HashMap::new();
            let mut done: std::collections::HashSet<(u64, u64)> = std::collections::HashSet::new();
            for (kind, amount) in steps {
                match kind {
                    0 => { // switch to another stream
                        stream += 1;
                        next = 500 + amount * 1_000;
                        numbering.restart(next, 0, 0);
                    }
                    1..4 => { // a packet that is not forwarded, after a gap
                        next += amount;
                        if numbering.is_in_order(next) && done.insert((stream, next)) {
                            numbering.skip(next, amount % 2 == 0);
                        }
                        next += 1;
                    }
                    4..6 => { // a late packet
                        let number = next.saturating_sub(amount + 1);
                        if done.insert((stream, number)) && let Some(place) = numbering.place(number) {
                            prop_assert_eq!(taken.insert(place.number, (stream, number)), None);
                        }
                    }
                    _ => {
                        next += amount / 4;
                        if done.insert((stream, next)) && let Some(place) = numbering.place(next) {
                            prop_assert_eq!(taken.insert(place.number, (stream, next)), None);
                        }
                        next += 1;
                    }
                }
            }
        }
    }
}
