//! The private native module of the Python package `parley_dataplane`: batches of commands and events, never packets.

mod commands;
mod events;
mod sans_io;
mod wire;

use std::os::fd::AsRawFd;

use parley_udp::node::{Node as PacketNode, NodeConfig, WorkerStats};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// Statistics of many, each a tuple of fields.
type Rows<'py> = Vec<Bound<'py, PyTuple>>;

/// Totals in the order of the port's statistics.
type Totals = (usize, usize, usize, u64, u64, u64, u64, u64);

/// Packet workers on ports of their own.
#[pyclass(frozen, module = "parley_dataplane._native")]
struct Node {
    inner: std::sync::Mutex<PacketNode>,
}

impl Node {
    fn lock(&self) -> std::sync::MutexGuard<'_, PacketNode> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[pymethods]
impl Node {
    #[new]
    fn new(host: &str, base_port: u16, workers: usize, seed: u64) -> PyResult<Self> {
        let host = host.parse().map_err(|_| PyValueError::new_err("not an IP address"))?;
        let node = PacketNode::start(&NodeConfig { host, base_port, workers, seed })?;
        Ok(Self { inner: std::sync::Mutex::new(node) })
    }

    #[getter]
    fn ports(&self) -> Vec<u16> {
        self.lock().ports().to_vec()
    }

    #[getter]
    fn is_healthy(&self) -> bool {
        self.lock().is_healthy()
    }

    #[expect(clippy::needless_pass_by_value, reason = "PyO3 hands arguments over")]
    fn apply(&self, commands: Vec<Bound<'_, PyAny>>) -> PyResult<()> {
        let commands = commands.iter().map(commands::read).collect::<PyResult<Vec<_>>>()?;
        self.lock().apply(commands);
        Ok(())
    }

    fn poll_events<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let events = self.lock().poll_events(limit);
        events.iter().map(|event| events::write(py, event)).collect()
    }

    fn event_fd(&self) -> i32 {
        self.lock().event_fd().as_raw_fd()
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<(Totals, Bound<'py, PyDict>)> {
        let stats = self.lock().stats();
        let dropped = PyDict::new(py);
        for (reason, count) in stats.dropped.into_iter().filter(|(_, count)| *count > 0) {
            dropped.set_item(reason, count)?;
        }
        let engine = stats.engine;
        let totals = (
            engine.transports,
            engine.tracks,
            engine.senders,
            engine.received_packets,
            engine.received_bytes,
            engine.forwarded_packets,
            engine.forwarded_bytes,
            engine.retransmitted_packets,
        );
        Ok((totals, dropped))
    }

    fn workers(&self) -> Vec<(f64, usize, usize, u64)> {
        let stats = self.lock().stats();
        let one =
            |worker: WorkerStats| (worker.cpu.as_secs_f64(), worker.transports, worker.queued, worker.pipe_dropped);
        stats.workers.into_iter().map(one).collect()
    }

    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<(Rows<'py>, Rows<'py>)> {
        let snapshot = py.detach(|| self.lock().snapshot());
        let tracks = snapshot.tracks.iter().map(|track| events::track(py, track)).collect::<PyResult<_>>()?;
        let subscribers =
            snapshot.subscribers.iter().map(|one| events::subscriber(py, one)).collect::<PyResult<_>>()?;
        Ok((tracks, subscribers))
    }

    fn shift_clock(&self, micros: u64) {
        self.lock().shift_clock(micros);
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.lock().stop());
    }
}

#[pymodule]
mod _native {
    #[pymodule_export]
    use super::Node;
    #[pymodule_export]
    use super::sans_io::Engine;
    #[pymodule_export]
    use super::wire::{parse_rtp, parse_stun, stun_has_integrity};
}
