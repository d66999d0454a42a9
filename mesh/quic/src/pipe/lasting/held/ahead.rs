//! Receiving what nobody has asked for yet.

use std::{future::Future as _, pin::Pin, task::Context, time::Duration};

use rap_mesh_core::{
    carrier::Carrier,
    resume::{MAX_REPLAY_BYTES, ahead},
};
use tokio::time::{Sleep, sleep};

use super::{Held, Waiting};

/// Parts that are received ahead before others have their turn.
const AHEAD_AT_ONCE: usize = 64;
/// Where all flows keep too much, one that would receive ahead looks whether they still do.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// When a flow that may not receive ahead looks again.
#[derive(Default)]
pub(super) struct Looking(Option<Pin<Box<Sleep>>>);

impl Looking {
    fn wake_later(&mut self, context: &mut Context<'_>) {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep(LOOK_AGAIN)));
        if timer.as_mut().poll(context).is_ready() {
            self.0 = None;
            context.waker().wake_by_ref();
        }
    }
}

impl Held {
    /// Receives what comes before anybody asks for it. On QUIC all flows of a lane share a window, and what
    /// nobody reads would be in the others' way.
    pub(in crate::pipe::lasting) fn poll_ahead(&mut self, context: &mut Context<'_>) {
        let mut parts = 0;
        while parts < AHEAD_AT_ONCE
            && self.reads_ahead()
            && self.poll_in(Waiting::Reader, context).is_ready()
        {
            parts += 1;
        }
        self.wait(Waiting::Reader, context);
        if parts == AHEAD_AT_ONCE {
            context.waker().wake_by_ref();
        } else if self.may_read_ahead(ahead(MAX_REPLAY_BYTES)) && !self.reads_ahead() {
            // Nobody says when the others keep less.
            self.ahead.wake_later(context);
        } else {
            self.ahead = Looking::default();
        }
        self.count();
        self.attend(Waiting::Reader, context);
    }

    fn reads_ahead(&self) -> bool {
        self.may_read_ahead(self.store.ahead())
    }

    fn may_read_ahead(&self, most: usize) -> bool {
        self.carrier() == Some(Carrier::Quic)
            && !self.flow.is_complete()
            && self.flow.may_read_ahead(most)
    }
}
