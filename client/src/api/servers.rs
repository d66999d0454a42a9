//! The servers of the control plane that a login knows, and which one is asked.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rap_agent_core::servers::Servers;
use rap_proto::ControlUrl;

use crate::random;

/// What one request finds out holds for the rest of the command.
pub(crate) struct KnownServers(Mutex<Servers>);

/// The servers that one request was sent to, in their order; it begins at whichever answered last.
#[derive(Default)]
pub(super) struct Tried(Vec<ControlUrl>);

impl KnownServers {
    /// Begins at `control`.
    pub(crate) fn new(control: ControlUrl, others: Vec<ControlUrl>) -> Self {
        Self(Mutex::new(Servers::at(control, others, u64::from_le_bytes(random::bytes()))))
    }

    /// One server, and no other.
    pub(crate) fn one(control: ControlUrl) -> Self {
        Self::new(control, Vec::new())
    }

    /// The one that answered last, or the first one.
    pub(crate) fn present(&self) -> ControlUrl {
        self.lock().present().clone()
    }

    /// How many there are to ask.
    pub(crate) fn count(&self) -> usize {
        self.lock().count()
    }

    /// The one whose turn it is.
    pub(super) fn turn(&self, tried: &mut Tried) -> ControlUrl {
        if tried.0.is_empty() {
            tried.0.push(self.present());
        }
        tried.0[tried.0.len() - 1].clone()
    }

    pub(super) fn answered(&self, tried: &mut Tried) {
        self.lock().answered(&tried.0);
        *tried = Tried::default();
    }

    /// Whether it is another one's turn; else the request begins anew.
    pub(super) fn failed(&self, tried: &mut Tried, lost: bool) -> bool {
        let next = self.lock().failed(&tried.0, lost);
        let more = next.is_some();
        match next {
            Some(next) => tried.0.push(next),
            None => *tried = Tried::default(),
        }
        more
    }

    fn lock(&self) -> MutexGuard<'_, Servers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, feature = "dev"))]
mod tests;
