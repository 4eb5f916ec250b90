//! One packet worker without sockets and clock, for tests from Python.

use std::net::SocketAddr;

use parley_core::engine::event::DROPPED_NAMES;
use parley_core::engine::{Batch, Config, Engine as PacketEngine, Outlet, Path};
use parley_core::time::Instant;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::{commands, events};

type Address = (String, u16);
type Datagrams<'py> = Vec<(Address, Bound<'py, PyBytes>)>;

/// Keeps what is sent.
#[derive(Default)]
struct Collected(Vec<(SocketAddr, Vec<u8>)>);

impl Collected {
    fn take(&mut self, batch: &Batch) {
        for message in batch.messages() {
            if let Path::Udp(to) = message.to {
                self.0.extend(message.segments.map(|segment| (to, segment.to_vec())));
            }
        }
    }

    fn into_python(self, py: Python<'_>) -> Datagrams<'_> {
        let one = |(to, data): (SocketAddr, Vec<u8>)| ((to.ip().to_string(), to.port()), PyBytes::new(py, &data));
        self.0.into_iter().map(one).collect()
    }
}

impl Outlet for Collected {
    fn flush(&mut self, batch: &mut Batch) {
        self.take(batch);
        batch.clear();
    }
}

/// An engine that is driven by hand.
#[pyclass(module = "parley_dataplane._native")]
pub struct Engine {
    inner: PacketEngine,
    batch: Batch,
}

impl Engine {
    fn run<'py>(
        &mut self,
        py: Python<'py>,
        act: impl FnOnce(&mut PacketEngine, &mut Batch, &mut Collected) -> PyResult<()>,
    ) -> PyResult<Datagrams<'py>> {
        let mut collected = Collected::default();
        act(&mut self.inner, &mut self.batch, &mut collected)?;
        collected.flush(&mut self.batch);
        Ok(collected.into_python(py))
    }
}

#[pymethods]
impl Engine {
    #[new]
    fn new(seed: u64) -> Self {
        Self { inner: PacketEngine::new(Config { seed }), batch: Batch::new() }
    }

    #[expect(clippy::needless_pass_by_value, reason = "PyO3 hands arguments over")]
    fn apply<'py>(&mut self, py: Python<'py>, now: u64, commands: Vec<Bound<'py, PyAny>>) -> PyResult<Datagrams<'py>> {
        self.run(py, |engine, batch, out| {
            for command in &commands {
                engine.apply(Instant::from_micros(now), commands::read(command)?.1, batch, out);
            }
            Ok(())
        })
    }

    #[expect(clippy::needless_pass_by_value, reason = "PyO3 hands arguments over")]
    fn receive<'py>(
        &mut self,
        py: Python<'py>,
        now: u64,
        datagrams: Vec<(Address, Vec<u8>)>,
    ) -> PyResult<Datagrams<'py>> {
        self.run(py, |engine, batch, out| {
            let now = Instant::from_micros(now);
            for ((host, port), data) in &datagrams {
                let from = Path::Udp(commands::socket_address(host, *port)?);
                engine.receive(now, from, &mut data.clone(), batch, out);
            }
            engine.forward(now, batch, out);
            Ok(())
        })
    }

    fn tick<'py>(&mut self, py: Python<'py>, now: u64) -> PyResult<Datagrams<'py>> {
        self.run(py, |engine, batch, out| {
            engine.tick(Instant::from_micros(now), batch, out);
            Ok(())
        })
    }

    fn poll_events<'py>(&mut self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        std::iter::from_fn(|| self.inner.poll_event()).map(|event| events::write(py, &event)).collect()
    }

    fn dropped<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dropped = PyDict::new(py);
        for (reason, count) in DROPPED_NAMES.into_iter().zip(self.inner.stats().dropped).filter(|(_, count)| *count > 0)
        {
            dropped.set_item(reason, count)?;
        }
        Ok(dropped)
    }
}
