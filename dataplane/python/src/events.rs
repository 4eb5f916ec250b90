//! Events as tuples: the name of the port's class, then its fields in order.

use parley_core::congestion::Pause;
use parley_core::engine::event::{Event, LayerStats, LinkReport, LinkState, SubscriberStats, TrackStats};
use parley_core::payload::Codec;
use parley_core::units::DataRate;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

const fn state(state: LinkState) -> &'static str {
    match state {
        LinkState::Connected => "connected",
        LinkState::Disconnected => "disconnected",
        LinkState::Failed => "failed",
    }
}

const fn pause(pause: Pause) -> &'static str {
    match pause {
        Pause::None => "none",
        Pause::Hidden => "hidden",
        Pause::LastN => "last-n",
        Pause::Bandwidth => "bandwidth",
    }
}

const fn codec(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => "opus",
        Codec::Vp8 => "VP8",
        Codec::Vp9 => "VP9",
        Codec::H264 => "H264",
        Codec::Av1 => "AV1",
        Codec::Red => "red",
    }
}

fn link_report<'py>(py: Python<'py>, report: &LinkReport) -> PyResult<Bound<'py, PyTuple>> {
    (
        "LinkReport",
        &*report.transport,
        report.received_loss,
        report.sent_loss,
        report.round_trip.map(|trip| trip.as_secs_f64()),
        report.is_active,
        report.estimate.map(DataRate::bps),
        report.layers_missed,
    )
        .into_pyobject(py)
}

/// The tuple of an event.
pub fn write<'py>(py: Python<'py>, event: &Event) -> PyResult<Bound<'py, PyTuple>> {
    match event {
        Event::IceChanged { transport, state: new } => ("IceChanged", &**transport, state(*new)).into_pyobject(py),
        Event::DtlsReceived { transport, datagram } => {
            ("DtlsReceived", &**transport, PyBytes::new(py, datagram)).into_pyobject(py)
        }
        Event::FirstForwarded { sender, transport, track } => {
            ("FirstForwarded", &**sender, &**transport, &**track).into_pyobject(py)
        }
        Event::AudioLevels(levels) => {
            let levels: Vec<_> = levels.iter().map(|(track, level)| (&**track, *level)).collect();
            ("AudioLevels", PyTuple::new(py, levels)?).into_pyobject(py)
        }
        Event::LinkReport(report) => link_report(py, report),
        Event::SenderChanged { sender, pause: why, rid, spatial, temporal } => {
            ("SenderChanged", &**sender, pause(*why), &**rid, *spatial, *temporal).into_pyobject(py)
        }
        Event::LayersWanted { track, layers } => {
            let layers: Vec<_> = layers.iter().map(|(rid, wanted)| (&**rid, *wanted)).collect();
            ("LayersWanted", &**track, PyTuple::new(py, layers)?).into_pyobject(py)
        }
    }
}

fn layer<'py>(py: Python<'py>, layer: &LayerStats) -> PyResult<Bound<'py, PyTuple>> {
    (
        &*layer.rid,
        layer.rate.bps(),
        layer.packets_per_s,
        layer.loss,
        layer.jitter.as_secs_f64(),
        layer.packets,
        layer.lost,
        layer.size.0,
        layer.size.1,
    )
        .into_pyobject(py)
}

/// The fields of a track's statistics.
pub fn track<'py>(py: Python<'py>, track: &TrackStats) -> PyResult<Bound<'py, PyTuple>> {
    let layers = track.layers.iter().map(|one| layer(py, one)).collect::<PyResult<Vec<_>>>()?;
    (&*track.track, codec(track.codec), track.senders, track.key_frame_requests, layers).into_pyobject(py)
}

/// The fields of a subscriber's statistics.
pub fn subscriber<'py>(py: Python<'py>, stats: &SubscriberStats) -> PyResult<Bound<'py, PyTuple>> {
    let paused = PyDict::new(py);
    for (why, count) in [Pause::Hidden, Pause::LastN, Pause::Bandwidth].into_iter().zip(stats.paused) {
        if count > 0 {
            paused.set_item(pause(why), count)?;
        }
    }
    (
        &*stats.transport,
        stats.estimate.map(DataRate::bps),
        stats.sent.bps(),
        stats.loss,
        stats.round_trip.map(|trip| trip.as_secs_f64()),
        stats.senders,
        stats.retransmitted_packets,
        paused.into_py_any(py)?,
    )
        .into_pyobject(py)
}
