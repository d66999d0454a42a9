//! Failovers that lose what was stored last, for simulations.

use std::{collections::BTreeMap, mem};

use super::{MemoryLog, State};

/// Another server that follows a [`MemoryLog`], and has what that held at some moment.
#[derive(Debug, Clone)]
pub struct Standby(State);

impl Standby {
    /// The position of the last event that it has; 0 without any.
    pub fn head(&self) -> u64 {
        self.0.head()
    }
}

impl MemoryLog {
    /// A standby that has all that is stored now, and hears of nothing more.
    pub fn standby(&self) -> Standby {
        // Nobody waits at a standby.
        Standby(State { waiters: BTreeMap::new(), ..self.state().clone() })
    }

    /// As if this standby took over as the primary: what it did not hear of is lost.
    pub fn fail_over_to(&self, Standby(behind): Standby) {
        let mut state = self.state();
        let failovers = state.failovers + 1;
        let (waiters, next_waiter) = (mem::take(&mut state.waiters), state.next_waiter);
        *state = State { waiters, next_waiter, failovers, ..behind };
    }
}
