//! RTP: any bytes are malformed, or a packet whose parts add up to them and whose extensions can be written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parley_core::wire::rtp::{self, ExtensionWriter};

fuzz_target!(|data: &[u8]| {
    let sealed_len = rtp::header_len(data);
    let Ok(header) = rtp::parse(data) else { return };
    assert_eq!(sealed_len, Ok(header.header_len));
    assert_eq!(header.header_len + header.payload_len + usize::from(header.padding), data.len());
    assert_eq!(header.payload(data).len(), header.payload_len);
    let mut buffer = [0; 4 * rtp::MAX_DATAGRAM];
    let mut writer = ExtensionWriter::new(&mut buffer, true);
    // An id of 0 with a length is read in the one-byte form, as the reference does, and written in none.
    let elements = || header.extensions(data).filter(|(id, _)| *id != 0);
    for (id, value) in elements() {
        assert!(writer.push(id, value).is_some());
    }
    let len = writer.finish();
    let mut again = vec![if len == 0 { 0x80 } else { 0x90 }; 1];
    again.extend([0; 11]);
    again.extend(&buffer[..len]);
    // The two-byte form may be longer than a datagram where the one-byte form was not.
    if let Ok(written) = rtp::parse(&again) {
        assert!(written.extensions(&again).eq(elements()));
    } else {
        assert!(again.len() > rtp::MAX_DATAGRAM);
    }
});
