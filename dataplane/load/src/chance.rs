//! Randomness from the system.

use ring::rand::{SecureRandom, SystemRandom};

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Fills `bytes`. Leaves them as they are where the system has no randomness, which then shows as a failed check.
pub fn fill(bytes: &mut [u8]) {
    let _ = SystemRandom::new().fill(bytes);
}

/// So many ice-chars (RFC 8839 5.4).
#[must_use]
pub fn text(length: usize) -> String {
    let mut bytes = vec![0; length];
    fill(&mut bytes);
    bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte & 63)])).collect()
}

/// A number below 2^32.
#[must_use]
pub fn number() -> u32 {
    let mut bytes = [0; 4];
    fill(&mut bytes);
    u32::from_be_bytes(bytes)
}
