//! A stream of dependency descriptors: each is a byte of length, and as many bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parley_core::payload::PacketInfo;
use parley_core::payload::descriptor::{DependencyDescriptorReader, apply};

fuzz_target!(|data: &[u8]| {
    let mut reader = DependencyDescriptorReader::new();
    let mut rest = data;
    while let Some((&len, after)) = rest.split_first() {
        let (extension, after) = after.split_at(usize::from(len).min(after.len()));
        rest = after;
        let Ok(mut descriptor) = reader.read(extension) else { continue };
        apply(&descriptor, &mut PacketInfo::default());
        let active = reader.targets_up_to(0, 0);
        let mut out = [0; 260];
        let len = reader.write_active_targets(extension, active, &mut out).expect("what can be read can be written");
        descriptor.active_decode_targets = active;
        assert_eq!(reader.clone().read(&out[..len]), Ok(descriptor));
    }
});
