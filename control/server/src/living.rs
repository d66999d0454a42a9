//! The living state: what is served, and whoever folds it on or exchanges it.
//!
//! Readers see what was published and wait for nobody. Writers take turns: each holds it between two
//! batches.

use std::sync::Arc;

use rap_control_core::{Corrupt, State};
use rap_events::Envelope;
use tokio::sync::{Mutex, MutexGuard, watch};

use crate::source::Source;

pub(crate) struct Living {
    twins: Mutex<Twins>,
    states: watch::Sender<Arc<State>>,
}

/// Two states that take turns: one is read while the other folds. Each event is folded twice,
/// which is cheaper than copying everything for each batch.
pub(crate) struct Twins {
    published: Arc<State>,
    spare: Arc<State>,
    /// What the spare one has not folded yet.
    behind: Vec<Envelope>,
    /// Of the published one.
    source: Source,
}

/// Nothing is folded while one has this.
pub(crate) struct Held<'a> {
    twins: MutexGuard<'a, Twins>,
    states: &'a watch::Sender<Arc<State>>,
}

impl Living {
    /// Goes on from what `states` publishes, which was folded from `source`.
    pub(crate) fn new(states: watch::Sender<Arc<State>>, source: Source) -> Self {
        let twins = Twins::of(Arc::clone(&states.borrow()), source);
        Self { twins: Mutex::new(twins), states }
    }

    /// Waits for its turn; those who wait get it in the order in which they came.
    pub(crate) async fn hold(&self) -> Held<'_> {
        Held { twins: self.twins.lock().await, states: &self.states }
    }
}

impl Held<'_> {
    pub(crate) fn position(&self) -> u64 {
        self.twins.published.position()
    }

    /// What is served.
    pub(crate) fn state(&self) -> &Arc<State> {
        &self.twins.published
    }

    /// What that was folded from.
    pub(crate) fn source(&self) -> &Source {
        &self.twins.source
    }

    /// Goes on from what is published: who died while folding left the other one half folded.
    pub(crate) fn begin_anew(&mut self) {
        *self.twins = Twins::of(Arc::clone(&self.twins.published), self.twins.source.clone());
    }

    /// Folds the next events and publishes the state.
    pub(crate) fn fold(&mut self, batch: Vec<Envelope>) -> Result<(), Corrupt> {
        let state = self.twins.fold(batch)?;
        self.states.send_replace(state);
        Ok(())
    }

    /// Puts two states, equal and of this position, in the place of what is served, and what they
    /// were folded from. Returns what was.
    pub(crate) fn exchange(mut self, published: State, spare: State, source: Source) -> Twins {
        let published = Arc::new(published);
        self.states.send_replace(Arc::clone(&published));
        let fresh = Twins { published, spare: Arc::new(spare), behind: Vec::new(), source };
        std::mem::replace(&mut self.twins, fresh)
    }
}

impl Twins {
    fn of(state: Arc<State>, source: Source) -> Self {
        Self { published: Arc::clone(&state), spare: state, behind: Vec::new(), source }
    }

    pub(crate) fn published(&self) -> &State {
        &self.published
    }

    fn fold(&mut self, batch: Vec<Envelope>) -> Result<Arc<State>, Corrupt> {
        // Copies only when some reader has held the spare since before the last exchange.
        let state = Arc::make_mut(&mut self.spare);
        for envelope in self.behind.drain(..).chain(batch.iter().cloned()) {
            state.fold(&envelope)?;
        }
        batch.iter().for_each(|envelope| self.source.take(envelope));
        std::mem::swap(&mut self.published, &mut self.spare);
        self.behind = batch;
        Ok(Arc::clone(&self.published))
    }
}

#[cfg(test)]
mod tests;
