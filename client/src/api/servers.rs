//! The servers of the control plane that a login knows, and which one is asked.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rap_agent_core::servers::{MAX_TURNS, Servers};
use rap_proto::ControlUrl;

use crate::random;

/// What one request finds out holds for the rest of the command.
pub(crate) struct KnownServers(Mutex<Servers>);

/// The servers that one request was sent to; it begins at whichever answered last.
#[derive(Default)]
pub(super) struct Tried {
    /// In this round, in their order.
    turns: Vec<ControlUrl>,
    /// In all rounds, with what each was told to have said last.
    silent: BTreeMap<ControlUrl, String>,
}

/// The server that is asked now.
pub(super) struct Turn {
    pub(super) server: ControlUrl,
    /// Nobody is asked after it, or there is nobody else.
    pub(super) is_last: bool,
}

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

    /// The one whose turn it is, in the last round or in one before.
    pub(super) fn turn(&self, tried: &mut Tried, is_last_round: bool) -> Turn {
        let servers = self.lock();
        if tried.turns.is_empty() {
            tried.turns.push(servers.present().clone());
        }
        let count = servers.count();
        let is_last = count == 1 || is_last_round && tried.turns.len() >= count.min(MAX_TURNS);
        Turn { server: tried.turns[tried.turns.len() - 1].clone(), is_last }
    }

    pub(super) fn answered(&self, tried: &mut Tried) {
        self.lock().answered(&tried.turns);
        *tried = Tried::default();
    }

    /// The server whose turn it was did not answer, in short. Whether it is another one's turn; else the next
    /// round begins.
    pub(super) fn failed(&self, tried: &mut Tried, lost: bool, why: &str) -> bool {
        let next = self.lock().failed(&tried.turns, lost);
        let more = next.is_some();
        if let Some(silent) = tried.turns.last() {
            tried.silent.insert(silent.clone(), why.to_owned());
        }
        match next {
            Some(next) => tried.turns.push(next),
            None => tried.turns.clear(),
        }
        more
    }

    fn lock(&self) -> MutexGuard<'_, Servers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tried {
    /// All that did not answer but one, each with why.
    pub(super) fn silent_beside(&self, server: &ControlUrl) -> impl Iterator<Item = String> {
        let others = self.silent.iter().filter(move |(other, _)| *other != server);
        others.map(|(other, why)| format!("{other} ({why})"))
    }
}

#[cfg(all(test, feature = "dev"))]
mod tests;
