//! STUN: any bytes are malformed, or a message that can be answered; the answer reads back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parley_core::wire::stun;

fuzz_target!(|data: &[u8]| {
    let Ok(message) = stun::parse(data) else { return };
    assert!(!message.has_integrity("password") || message.integrity_at.is_some());
    let from = message.mapped.unwrap_or(([192, 0, 2, 1], 7).into());
    for reply in [stun::binding_success(&message, from, "password"), stun::role_conflict(&message, "password")] {
        let answer = stun::parse(reply.as_slice()).expect("an answer of ours");
        assert!(answer.has_integrity("password"));
        assert_eq!(answer.transaction_id, message.transaction_id);
    }
    let request =
        stun::binding_request(message.transaction_id, message.username, "password", message.priority, true, 1);
    let read = stun::parse(request.as_slice()).expect("a request of ours");
    assert!(message.username.starts_with(read.username));
});
