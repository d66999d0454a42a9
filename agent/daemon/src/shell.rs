//! How an actor drives its machine, and how actors reach each other.

use std::{cell::RefCell, rc::Rc, time::Duration};

use actix::{
    Actor, Addr, AsyncContext as _, Context, Handler, Message, SpawnHandle,
    dev::{MessageResponse, ToEnvelope},
};
use rap_agent_core::Machine;

use crate::clock::Clock;

/// The longest sleep before a timer is looked at again: tokio's timers stand still while the
/// host sleeps, and the machines' clock does not.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// The messages that wait for one actor.
pub(crate) const MAILBOX: usize = 512;

/// An actor that owns a machine and performs its effects.
pub(crate) trait Shell: Actor<Context = Context<Self>> {
    type Machine: Machine;

    fn clock(&self) -> Clock;

    fn machine(&mut self) -> &mut Self::Machine;

    fn timer(&mut self) -> &mut Option<SpawnHandle>;

    fn perform(&mut self, effect: <Self::Machine as Machine>::Effect, ctx: &mut Context<Self>);

    /// Comes after each input and before its effects.
    fn settle(&mut self) {}

    fn feed(&mut self, input: <Self::Machine as Machine>::Input, ctx: &mut Context<Self>) {
        let now = self.clock().moment();
        self.machine().handle_input(now, input);
        self.drain(ctx);
    }

    fn drain(&mut self, ctx: &mut Context<Self>) {
        self.settle();
        while let Some(effect) = self.machine().poll_effect() {
            self.perform(effect, ctx);
        }
        if let Some(timer) = self.timer().take() {
            ctx.cancel_future(timer);
        }
        if let Some(at) = self.machine().poll_timeout() {
            let delay = at.since(self.clock().moment()).min(LONGEST_SLEEP);
            let timer = ctx.run_later(delay, |actor, ctx| {
                *actor.timer() = None;
                let now = actor.clock().moment();
                actor.machine().handle_timeout(now);
                actor.drain(ctx);
            });
            *self.timer() = Some(timer);
        }
    }
}

/// Another actor's address, which changes when that actor is started again. Clones point to the
/// same actor; only the guardian sets it.
pub(crate) struct Slot<A: Actor>(Rc<RefCell<Option<Addr<A>>>>);

impl<A: Actor> Slot<A> {
    pub(crate) fn set(&self, addr: Addr<A>) {
        *self.0.borrow_mut() = Some(addr);
    }

    pub(crate) fn addr(&self) -> Option<Addr<A>> {
        self.0.borrow().clone()
    }

    /// Whether the actor was started and did not die.
    pub(crate) fn alive(&self) -> bool {
        self.0.borrow().as_ref().is_some_and(Addr::connected)
    }

    /// Sends without waiting. A message to an actor that is dead or has a full mailbox is lost:
    /// for what must not be lost there is [`Slot::addr`] and a wait.
    pub(crate) fn tell<M>(&self, message: M)
    where
        M: Message + Send + 'static,
        M::Result: Send + MessageResponse<A, M>,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        let Some(addr) = self.addr() else { return };
        if let Err(error) = addr.try_send(message) {
            let message = std::any::type_name::<M>();
            tracing::warn!(%error, message, "a message between actors was lost");
        }
    }
}

impl<A: Actor> Clone for Slot<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: Actor> Default for Slot<A> {
    fn default() -> Self {
        Self(Rc::default())
    }
}
