//! Whether this replica leads its duties now: what the keeper publishes and everyone else asks.

use rap_control_core::leadership;
use rap_events::lease::LeaseGuard;
use rap_proto::{Duty, Moment, ReplicaId};
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock;

/// The most messages that wait for the keeper; it takes each at once.
const MAX_MESSAGES: usize = 16;

/// A time in which this replica leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) replica: ReplicaId,
    pub(crate) generation: u64,
    pub(crate) deadline: Moment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nobody looked yet.
    Unknown,
    Following,
    Leading(Term),
}

/// What the keeper is told.
#[derive(Debug)]
pub(crate) enum Message {
    Lost { generation: u64 },
    Resign(oneshot::Sender<()>),
}

/// The side of those who ask.
#[derive(Debug)]
pub(crate) struct Leadership {
    standing: watch::Receiver<Standing>,
    keeper: mpsc::Sender<Message>,
}

/// The keeper's side.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) standing: watch::Sender<Standing>,
    pub(crate) messages: mpsc::Receiver<Message>,
}

pub(crate) fn leadership() -> (Leadership, Desk) {
    let (publish, standing) = watch::channel(Standing::Unknown);
    let (keeper, messages) = mpsc::channel(MAX_MESSAGES);
    (Leadership { standing, keeper }, Desk { standing: publish, messages })
}

impl Leadership {
    /// The term of this moment. Asked before each step, because time passes without a message.
    pub(crate) fn term(&self) -> Option<Term> {
        match *self.standing.borrow() {
            Standing::Leading(term) if clock::moment() < term.deadline => Some(term),
            _ => None,
        }
    }

    /// Wakes whoever waits for a change.
    pub(crate) fn changes(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// A guard refused what was appended under this generation.
    pub(crate) fn lost(&self, generation: u64) {
        // A full queue means that the keeper is told already.
        let _ = self.keeper.try_send(Message::Lost { generation });
    }

    /// Waits until it is known who leads.
    pub(crate) async fn settled(&self) {
        let mut standing = self.standing.clone();
        // The keeper only goes with the server.
        let _ = standing.wait_for(|standing| *standing != Standing::Unknown).await;
    }

    /// Gives the duties back, and waits until that is done.
    pub(crate) async fn resign(&self) {
        let (done, resigned) = oneshot::channel();
        if self.keeper.send(Message::Resign(done)).await.is_ok() {
            // Dropped unanswered, the keeper is gone, and its lease runs out.
            let _ = resigned.await;
        }
    }
}

impl Term {
    pub(crate) fn guard(self) -> LeaseGuard {
        leadership::guard(Duty::Processes, self.replica, self.generation)
    }
}
