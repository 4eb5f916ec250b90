//! Frames in a byte stream, and the queue of those that wait.

use parley_udp::framing::{BadFraming, FrameQueue, FrameReader, MAX_FRAME, MAX_QUEUED};
use proptest::prelude::*;

fn framed(datagram: &[u8]) -> Vec<u8> {
    let len = u16::try_from(datagram.len()).unwrap_or(u16::MAX);
    [&len.to_be_bytes()[..], datagram].concat()
}

/// Reads a stream in pieces of the given sizes, again and again.
fn read_all(stream: &[u8], sizes: &[usize]) -> Result<Vec<Vec<u8>>, BadFraming> {
    let (mut reader, mut found, mut rest) = (FrameReader::default(), Vec::new(), stream);
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let space = reader.space();
        let count = (*size).min(rest.len()).min(space.len());
        space[..count].copy_from_slice(&rest[..count]);
        reader.filled(count);
        rest = &rest[count..];
        while let Some(frame) = reader.next_frame()? {
            found.push(frame.to_vec());
        }
    }
    Ok(found)
}

/// Takes `count` bytes off the queue, as a socket does.
fn take(queue: &mut FrameQueue, count: usize, to: &mut Vec<u8>) {
    let (first, second) = queue.slices();
    let taken: Vec<u8> = first.iter().chain(second).take(count).copied().collect();
    queue.written(taken.len());
    to.extend(taken);
}

#[test]
fn a_frame_of_the_longest_length_passes_and_a_longer_one_is_bad() {
    assert_eq!(read_all(&framed(&[7; MAX_FRAME]), &[4_000]), Ok(vec![vec![7; MAX_FRAME]]));
    assert_eq!(read_all(&framed(&[7; MAX_FRAME + 1]), &[1]), Err(BadFraming));
}

#[test]
fn a_frame_that_was_begun_is_never_dropped() {
    let (mut queue, mut written) = (FrameQueue::default(), Vec::new());
    queue.push(&[1; 1_000]);
    take(&mut queue, 1, &mut written); // half of its length
    let dropped: usize = (0..200).map(|_| queue.push(&[2; 1_000])).sum();
    assert_eq!(dropped, 200 - (MAX_QUEUED - 1_001) / 1_002);
    take(&mut queue, MAX_QUEUED, &mut written);
    let frames = read_all(&written, &[999]).unwrap_or_default();
    assert_eq!(frames[0], [1; 1_000]);
    assert_eq!(frames.len(), 201 - dropped);
    assert!(queue.is_empty());
}

proptest! {
    #[test]
    fn frames_are_found_however_the_stream_is_cut(
        lengths in prop::collection::vec(0_usize..=MAX_FRAME, 1..20),
        sizes in prop::collection::vec(1_usize..3_000, 1..10),
    ) {
        let datagrams: Vec<Vec<u8>> = (0_u8..).zip(&lengths).map(|(byte, len)| vec![byte; *len]).collect();
        let stream: Vec<u8> = datagrams.iter().flat_map(|datagram| framed(datagram)).collect();
        prop_assert_eq!(read_all(&stream, &sizes), Ok(datagrams));
    }

    #[test]
    fn noise_never_panics(stream in prop::collection::vec(any::<u8>(), 0..5_000), size in 1_usize..3_000) {
        let frames = read_all(&stream, &[size]);
        prop_assert!(frames.is_err() || frames.is_ok_and(|frames| frames.len() <= stream.len() / 2));
    }

    #[test]
    fn the_queue_is_bounded_and_loses_whole_frames_oldest_first(
        steps in prop::collection::vec((1_usize..=MAX_FRAME, 0_usize..2_000), 1..400),
    ) {
        let (mut queue, mut written, mut dropped) = (FrameQueue::default(), Vec::new(), 0);
        for (number, (len, taken)) in steps.iter().enumerate() {
            let mut datagram = vec![0xAA; *len];
            datagram[0] = u8::try_from(number % 251).unwrap_or(0);
            dropped += queue.push(&datagram);
            let (first, second) = queue.slices();
            prop_assert!(first.len() + second.len() <= MAX_QUEUED);
            take(&mut queue, *taken, &mut written);
        }
        take(&mut queue, MAX_QUEUED, &mut written);
        let frames = read_all(&written, &[1_000]).unwrap_or_default();
        prop_assert_eq!(frames.len() + dropped, steps.len());
        // what is left is a subsequence of what was pushed, and its end is the newest
        let mut pushed = steps.iter().enumerate();
        for frame in &frames {
            let found = pushed.find(|(number, (len, _))| *len == frame.len() && u8::try_from(number % 251) == Ok(frame[0]));
            prop_assert!(found.is_some());
        }
        prop_assert!(pushed.next().is_none());
    }
}
