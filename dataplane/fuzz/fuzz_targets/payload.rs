//! Payloads of every codec. The first byte chooses codec and marker.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parley_core::payload::{Codec, inspect, rewrite_vp8};

const CODECS: [Codec; 6] = [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1, Codec::Opus, Codec::Red];

fuzz_target!(|data: &[u8]| {
    let Some((&choice, payload)) = data.split_first() else { return };
    let codec = CODECS[usize::from(choice & 0x7F) % CODECS.len()];
    let info = inspect(codec, payload, choice & 0x80 != 0);
    assert!(info.temporal < 8 && info.spatial < 8);
    if let Some(fields) = info.vp8 {
        let mut changed = payload.to_vec();
        rewrite_vp8(&mut changed, &fields, 0x1234, 0x56);
        let read = inspect(codec, &changed, false).vp8.expect("the descriptor keeps its shape");
        assert_eq!((read.descriptor_len, read.is_long), (fields.descriptor_len, fields.is_long));
    }
});
