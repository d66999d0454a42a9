//! Channels that outlive their session's connection: they go on over its next one.

mod keeper;

use std::sync::{Arc, Weak};

use super::session::Inner;
use crate::pipe::Store;

pub(super) use keeper::ChannelKeeper;

/// What the channels of a session hold on to: its newest connection.
pub(super) struct Succession {
    pub(super) newest: rap_watch::Sender<Weak<Inner>>,
    pub(super) store: Arc<Store>,
    /// How many have none.
    pub(super) waiting: rap_watch::Sender<usize>,
}

impl Default for Succession {
    fn default() -> Self {
        let newest = rap_watch::Sender::new(Weak::new());
        Self { newest, store: Arc::default(), waiting: rap_watch::Sender::new(0) }
    }
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
