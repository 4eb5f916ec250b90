//! Which simulcast layers of a track the workers want together.

use std::sync::Arc;

/// Layers by rid, and whether each is wanted.
pub(crate) type Layers = Vec<(Arc<str>, bool)>;

/// What each worker said of one track, and what the control layer was told.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    reports: Vec<(usize, Layers)>,
    told: Option<Layers>,
}

impl Wanted {
    /// A worker's new report.
    pub(crate) fn report(&mut self, worker: usize, layers: Layers) {
        self.forget(worker);
        self.reports.push((worker, layers));
    }

    /// A worker has no more to do with the track.
    pub(crate) fn forget(&mut self, worker: usize) {
        self.reports.retain(|(known, _)| *known != worker);
    }

    /// What `workers` want together, where that is new. A worker that has said nothing wants everything, as the engine
    /// does before it says something else.
    pub(crate) fn changed(&mut self, workers: &[usize]) -> Option<Layers> {
        let rids = self.reports.last().map(|(_, layers)| layers).or(self.told.as_ref())?;
        let layers: Layers = rids.iter().map(|(rid, _)| (Arc::clone(rid), self.is_wanted(rid, workers))).collect();
        if self.told.as_ref() == Some(&layers) {
            return None;
        }
        self.told = Some(layers.clone());
        Some(layers)
    }

    fn is_wanted(&self, rid: &str, workers: &[usize]) -> bool {
        let by = |worker: &usize| {
            let report = self.reports.iter().find(|(known, _)| known == worker);
            let layer = report.and_then(|(_, layers)| layers.iter().find(|(known, _)| **known == *rid));
            layer.is_none_or(|(_, wanted)| *wanted)
        };
        workers.iter().any(by)
    }
}
