//! Whether tree heads are sealed: what the sealer tells and monitoring asks.

use std::sync::Mutex;

use rap_control_core::tree_head::Obstacle;

use crate::metrics::Gauge;

/// What keeps this replica from sealing; nothing, too, while another one leads.
#[derive(Debug, Default)]
pub(crate) struct Sealing(Mutex<Option<Obstacle>>);

impl Sealing {
    /// Returns what stood in the way before.
    pub(crate) fn tell(&self, obstacle: Option<Obstacle>) -> Option<Obstacle> {
        std::mem::replace(&mut *self.lock(), obstacle)
    }

    pub(crate) fn obstacle(&self) -> Option<Obstacle> {
        *self.lock()
    }

    pub(crate) fn gauges(&self) -> impl Iterator<Item = Gauge> {
        let present = self.obstacle();
        Obstacle::ALL.iter().map(move |obstacle| Gauge {
            name: "rap_control_sealing_obstacle",
            help: "Whether this keeps the leader from sealing tree heads.",
            labels: format!("obstacle=\"{}\"", obstacle.as_str()),
            value: u64::from(present == Some(*obstacle)),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Obstacle>> {
        self.0.lock().expect("no holder of the lock panics")
    }
}
