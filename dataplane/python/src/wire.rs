//! The parsers on their own, for differential tests.

use parley_core::wire::{Malformed, rtp, stun};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

type Rtp<'py> = (u8, bool, u16, u32, u32, Vec<(u8, Bound<'py, PyBytes>)>, Bound<'py, PyBytes>, u8);
type Stun<'py> = (u16, Bound<'py, PyBytes>, String, u32, bool, bool, bool);

fn malformed(error: Malformed) -> PyErr {
    PyValueError::new_err(error.0)
}

/// The parts of an RTP packet.
#[pyfunction]
pub fn parse_rtp<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Rtp<'py>> {
    let header = rtp::parse(data).map_err(malformed)?;
    let extensions = header.extensions(data).map(|(id, value)| (id, PyBytes::new(py, value))).collect();
    Ok((
        header.payload_type,
        header.marker,
        header.sequence,
        header.timestamp,
        header.ssrc,
        extensions,
        PyBytes::new(py, header.payload(data)),
        header.padding,
    ))
}

/// The parts of a STUN message.
#[pyfunction]
pub fn parse_stun<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Stun<'py>> {
    let message = stun::parse(data).map_err(malformed)?;
    Ok((
        message.kind,
        PyBytes::new(py, &message.transaction_id),
        message.username.to_owned(),
        message.priority,
        message.use_candidate,
        message.ice_controlled,
        message.integrity_at.is_some(),
    ))
}

/// Whether a message was made with a password.
#[pyfunction]
pub fn stun_has_integrity(data: &[u8], password: &str) -> PyResult<bool> {
    Ok(stun::parse(data).map_err(malformed)?.has_integrity(password))
}
