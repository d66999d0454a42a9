//! Channels that outlive their session's connection: they go on over its next one.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use rap_mesh_core::ended::Close;
use rap_proto::{
    RefusalCode,
    observation::EndReason,
    wire::{
        client::{ChannelReply, OpenChannel},
        resume::{FlowId, Resume},
    },
};
use tokio::{sync::watch, time::timeout};

use super::session::{ClientSession, Inner, SessionEnd};
use crate::pipe::{Keeper, Lasting, Leg, Store};

/// The pause before a further attempt, unless there is another connection.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the entry may take to find a channel: it has nothing to dial for it.
const FOUND_WITHIN: Duration = Duration::from_secs(5);

/// What the channels of a session hold on to: its newest connection.
pub(super) struct Succession {
    pub(super) newest: watch::Sender<Weak<Inner>>,
    pub(super) store: Arc<Store>,
    /// How many have none.
    pub(super) waiting: watch::Sender<usize>,
}

impl Default for Succession {
    fn default() -> Self {
        let newest = watch::Sender::new(Weak::new());
        Self { newest, store: Arc::default(), waiting: watch::Sender::new(0) }
    }
}

/// What the entry is asked for, again and again.
pub(super) struct ChannelKeeper {
    pub(super) succession: Arc<Succession>,
    pub(super) request: OpenChannel,
    pub(super) flow: FlowId,
}

/// A channel's place among those that wait for a connection.
struct Counted(Arc<Succession>);

impl Counted {
    fn among(succession: &Arc<Succession>) -> Self {
        succession.waiting.send_modify(|waiting| *waiting += 1);
        Self(succession.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting = waiting.saturating_sub(1));
    }
}

/// Why an attempt came to nothing.
enum Failed {
    Passing,
    /// The entry says no, or has nothing to go on with.
    Final(Option<Close>),
}

impl Keeper for ChannelKeeper {
    fn lost(self: Arc<Self>, flow: Lasting) {
        let counted = Counted::among(&self.succession);
        tokio::spawn(async move {
            self.bring(&flow).await;
            drop(counted);
        });
    }
}

impl ChannelKeeper {
    /// Tries until the channel has a connection, or is over.
    async fn bring(&self, flow: &Lasting) {
        let mut newest = self.succession.newest.subscribe();
        let mut generation = flow.generation();
        while !flow.needs_nothing() && !flow.expire() {
            let inner = newest.borrow_and_update().upgrade();
            // Whoever held the session has let it go, and its channels with it.
            let Some(inner) = inner else { return flow.give_up(None) };
            let session = ClientSession { inner };
            match session.end_so_far() {
                None => {
                    generation = generation.saturating_add(1);
                    match self.attempt(&session, flow, generation).await {
                        Ok(()) => return,
                        Err(Failed::Final(close)) => return flow.give_up(close),
                        Err(Failed::Passing) => {}
                    }
                }
                Some(SessionEnd::Ended(reason)) => {
                    return flow.give_up(Some(Close::Ended(reason)));
                }
                // Another connection may take its place.
                Some(SessionEnd::EntryLost) => {}
            }
            drop(session);
            tokio::select! {
                _ = newest.changed() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    async fn attempt(
        &self,
        session: &ClientSession,
        flow: &Lasting,
        generation: u32,
    ) -> Result<(), Failed> {
        let resume = Resume { flow: self.flow, generation, received: flow.detach() };
        let request = OpenChannel { resume: Some(resume), ..self.request.clone() };
        let asked = timeout(FOUND_WITHIN, session.ask(&request)).await;
        match asked.map_err(|_| Failed::Passing)?.map_err(|_| Failed::Passing)? {
            (send, recv, ChannelReply::Attached { received }) => {
                let leg = Leg::new(send, recv).ok_or(Failed::Passing)?;
                tracing::info!(generation, "a channel goes on");
                flow.attach(leg, generation, received).map_err(|_| Failed::Final(None))
            }
            (.., ChannelReply::Refused(refused)) if refused.code == RefusalCode::AccessDenied => {
                Err(Failed::Final(Some(Close::Ended(EndReason::Terminated))))
            }
            // The entry can know of a loss before this side does.
            (.., ChannelReply::Refused(_)) => Err(Failed::Passing),
            // Another entry, or one that started again.
            (.., ChannelReply::Gone | ChannelReply::Opened) => Err(Failed::Final(None)),
        }
    }
}
