//! A lasting flow's state, shared by both directions and by whoever brings it a connection.

mod ahead;

use std::{
    any::Any,
    future::Future as _,
    pin::Pin,
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll, Wake, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use rap_mesh_core::{
    carrier::{self, Carrier, MAX_DATA, Part},
    ended::Close,
    resume::{ACK_AFTER, End, Flow, MAX_REPLAY_BYTES, Out, RESUME_WITHIN, Refused, ahead},
};
use rap_proto::observation::EndReason;
use tokio::time::Sleep;

use super::{
    super::{Broken, Unsent},
    Keeper, Lasting, OfStore,
    leg::{Gone, Got, Leg},
};
use crate::{clock::Clock, pieces::LITTLE};

/// Who waits for something to happen.
#[derive(Debug, Clone, Copy)]
pub(super) enum Waiting {
    Reader,
    Writer,
    Watcher,
}

/// Parts that a connection is handed before it is flushed: what was read at once is often a little
/// more than one holds, and each flush is a call of the kernel.
const PARTS_AT_ONCE: usize = 2;
/// What passes at once from one connection to the next.
const FILL: usize = 64 * 1024;

pub(super) struct Held {
    pub(super) flow: Flow,
    /// None while the flow is detached, or gone.
    leg: Option<Leg>,
    /// The flow is over without both ends being said: what its connection said, if it did.
    gone: Option<Option<Close>>,
    /// The end of our direction was said, if only to ourselves.
    pub(super) over: bool,
    pub(super) unwanted: bool,
    /// The other side wants no more.
    stopped: Option<u64>,
    /// Something may have to be written.
    dirty: bool,
    acknowledging: Option<Pin<Box<Sleep>>>,
    ahead: ahead::Looking,
    wakers: [Option<Waker>; 3],
    room: Vec<Bytes>,
    pub(super) handles: u8,
    clock: Clock,
    keeper: Arc<dyn Keeper>,
    store: OfStore,
    /// What it counts this flow with.
    counted: usize,
    /// What was taken of its places without a connection.
    reserved: Option<usize>,
    me: Weak<Mutex<Self>>,
    _kept: Option<Box<dyn Any + Send>>,
}

impl Held {
    pub(super) fn new(
        me: Weak<Mutex<Self>>,
        leg: Leg,
        keeper: Arc<dyn Keeper>,
        store: OfStore,
        kept: Option<Box<dyn Any + Send>>,
    ) -> Self {
        Self {
            flow: Flow::new(),
            leg: Some(leg),
            gone: None,
            over: false,
            unwanted: false,
            stopped: None,
            dirty: false,
            acknowledging: None,
            ahead: ahead::Looking::default(),
            wakers: [None, None, None],
            room: Vec::new(),
            handles: 2,
            clock: Clock::start(),
            keeper,
            store,
            counted: 0,
            reserved: None,
            me,
            _kept: kept,
        }
    }

    /// Receives what is there, in as many pieces as fit. 0 is the end.
    pub(super) fn poll_pieces(
        &mut self,
        context: &mut Context<'_>,
        pieces: &mut [Bytes],
    ) -> Poll<Result<usize, Broken>> {
        let (mut count, mut bytes) = (0, 0);
        let pending = loop {
            while count < pieces.len()
                && bytes < FILL
                && let Some(piece) = self.flow.take()
            {
                bytes += piece.len();
                pieces[count] = piece;
                count += 1;
            }
            if count == pieces.len() || bytes >= FILL {
                break false;
            }
            if let Some(end) = self.flow.ended().filter(|_| count == 0) {
                // That it was heard is said as well.
                let _ = self.poll_out(Waiting::Reader, context);
                return Poll::Ready(match end {
                    End::Finished => Ok(0),
                    End::Reset(code) => Err(Broken::Reset(code)),
                });
            }
            if let Some(close) = self.gone.filter(|_| count == 0) {
                return Poll::Ready(Err(Broken::Lost(close)));
            }
            if self.flow.ended().is_some() || self.poll_in(Waiting::Reader, context).is_pending() {
                break count == 0;
            }
        };
        self.count();
        self.attend(Waiting::Reader, context);
        match (count, self.gone) {
            (0, Some(close)) => Poll::Ready(Err(Broken::Lost(close))),
            (0, None) if pending => Poll::Pending,
            _ => Poll::Ready(Ok(count)),
        }
    }

    /// Waits until more can be sent.
    pub(super) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        if self.over {
            return Poll::Ready(Err(Unsent::Lost(None)));
        }
        loop {
            if let Some(code) = self.stopped {
                return Poll::Ready(Err(Unsent::Stopped(code)));
            }
            if let Some(close) = self.gone {
                return Poll::Ready(Err(Unsent::Lost(close)));
            }
            let written = self.poll_out(Waiting::Writer, context);
            if self.gone.is_some() {
                continue;
            }
            ready!(written);
            if self.has_room() {
                return Poll::Ready(Ok(()));
            }
            // The acknowledgements can be behind data that nobody asks for at the moment.
            if !self.flow.may_read_ahead(ahead(MAX_REPLAY_BYTES)) {
                self.wait(Waiting::Writer, context);
                return Poll::Pending;
            }
            ready!(self.poll_in(Waiting::Writer, context));
        }
    }

    pub(super) fn send(&mut self, bytes: Bytes) {
        self.flow.send(bytes);
        self.count();
        self.dirty = true;
    }

    pub(super) fn has_room(&self) -> bool {
        self.flow.has_room(self.store.window())
    }

    pub(super) fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.end(End::Finished);
        if self.gone.is_some() {
            return Poll::Ready(());
        }
        let written = self.poll_out(Waiting::Writer, context);
        if self.gone.is_some() { Poll::Ready(()) } else { written }
    }

    /// Ends our direction. The first end stands.
    pub(super) fn end(&mut self, end: End) {
        if !self.over {
            (self.over, self.dirty) = (true, true);
            self.flow.end(end);
        }
    }

    pub(super) fn stop(&mut self, code: u64) {
        if !self.unwanted {
            (self.unwanted, self.dirty) = (true, true);
            self.flow.stop(code);
            self.count();
            self.wake();
        }
    }

    /// Resolves when the other side wants no more, or is gone. Once nobody reads, this does.
    pub(super) fn poll_stopped(&mut self, context: &mut Context<'_>) -> Poll<Unsent> {
        loop {
            if let Some(code) = self.stopped {
                return Poll::Ready(Unsent::Stopped(code));
            }
            if let Some(close) = self.gone {
                return Poll::Ready(Unsent::Lost(close));
            }
            let unread = self.unwanted || self.flow.is_complete();
            if !unread || self.poll_in(Waiting::Watcher, context).is_pending() {
                break;
            }
        }
        self.attend(Waiting::Watcher, context);
        self.wait(Waiting::Watcher, context);
        Poll::Pending
    }

    /// Resolves when both sides know how the flow ended, or when nobody can tell them.
    pub(super) fn poll_settled(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            while self.flow.take().is_some() {}
            self.count();
            let written = self.poll_out(Waiting::Reader, context);
            if self.gone.is_some() || (self.flow.is_settled() && written.is_ready()) {
                return Poll::Ready(());
            }
            ready!(self.poll_in(Waiting::Reader, context));
        }
    }

    /// Goes on over another connection.
    pub(super) fn attach(
        &mut self,
        leg: Leg,
        generation: u32,
        received: u64,
    ) -> Result<(), Refused> {
        if self.gone.is_some() {
            return Err(Refused::Late);
        }
        self.flow.attach(generation, received)?;
        self.count();
        // A connection that the flow leaves goes only now.
        self.leg = Some(leg);
        self.dirty = true;
        self.give_back();
        self.wake();
        Ok(())
    }

    /// How far this side came, to be told for another connection while this one stays.
    pub(super) fn offer(&mut self, generation: u32) -> Result<u64, Refused> {
        self.flow.offer(generation)
    }

    /// No other connection came of that offer.
    pub(super) fn withdraw(&mut self, generation: u32) {
        if !self.flow.withdraw(generation) {
            return;
        }
        if self.flow.is_detached() && self.gone.is_none() && !self.reserve() {
            return self.give_up(None);
        }
        // What was held back is acknowledged now.
        self.dirty = true;
        self.wake();
    }

    pub(super) fn is_carried_on(&self, carrier: Carrier) -> bool {
        self.carrier() == Some(carrier) && !self.is_over()
    }

    pub(super) fn carrier(&self) -> Option<Carrier> {
        self.leg.as_ref().map(Leg::carrier)
    }

    /// Asks for a connection on another carrier, if this is the one that it is on.
    pub(super) fn leave(&self, carrier: Carrier) {
        if let Some(me) = self.me.upgrade().filter(|_| self.carrier() == Some(carrier)) {
            self.keeper.clone().leaves(Lasting(me), carrier);
        }
    }

    /// Says that this connection is no more, before the kernel does.
    pub(super) fn detach(&mut self) {
        if self.leg.is_some() {
            self.lose(Gone(None));
        }
    }

    /// Ends what is detached for too long. Returns whether it is over.
    pub(super) fn expire(&mut self) -> bool {
        if self.flow.handle_timeout(self.clock.moment()) {
            self.give_up(None);
        }
        self.gone.is_some()
    }

    /// Until when it cannot have been detached for too long.
    pub(super) fn may_rest_for(&self) -> Duration {
        let until = self.flow.poll_timeout();
        until.map_or(RESUME_WITHIN, |until| until.since(self.clock.moment()))
    }

    /// Nobody will bring another connection.
    pub(super) fn give_up(&mut self, close: Option<Close>) {
        self.gone.get_or_insert(close);
        self.leg = None;
        self.give_back();
        self.wake();
    }

    /// Takes what the flow keeps from the budget of the node. False when there is too much.
    pub(super) fn reserve(&mut self) -> bool {
        if self.reserved.is_none() {
            let kept = self.flow.kept();
            self.reserved = self.store.take(kept).then_some(kept);
        }
        self.reserved.is_some()
    }

    /// Whether it has no connection and gets none.
    pub(super) fn is_forsaken(&self) -> bool {
        self.flow.is_detached() && !self.keeper.is_hopeful()
    }

    pub(super) fn is_over(&self) -> bool {
        self.gone.is_some() || self.flow.is_settled()
    }

    /// Writes what has to be written beside the data: acknowledgements, and what is sent again.
    fn attend(&mut self, who: Waiting, context: &mut Context<'_>) {
        if self.flow.owes_acknowledgement() {
            let timer = || Box::pin(tokio::time::sleep(ACK_AFTER));
            let timer = self.acknowledging.get_or_insert_with(timer);
            if timer.as_mut().poll(context).is_ready() {
                self.acknowledging = None;
                self.flow.acknowledge();
                self.dirty = true;
            }
        } else if self.flow.has_news() {
            self.dirty = true;
        }
        if self.dirty {
            let _ = self.poll_out(who, context);
        }
    }

    /// Receives one thing. Ready when something changed.
    fn poll_in(&mut self, who: Waiting, context: &mut Context<'_>) -> Poll<()> {
        let both = self.with_others(who, context);
        let mut below = Context::from_waker(both.as_ref().unwrap_or(context.waker()));
        let Some(leg) = &mut self.leg else {
            self.wait(who, context);
            return Poll::Pending;
        };
        match leg.poll_got(&mut below) {
            Poll::Ready(Ok(got)) => {
                self.take_in(got);
                if !matches!(who, Waiting::Reader) {
                    self.wake_one(Waiting::Reader);
                }
            }
            Poll::Ready(Err(gone)) => self.lose(gone),
            Poll::Pending => {
                self.wait(who, context);
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    fn take_in(&mut self, got: Got) {
        let generation = self.flow.generation();
        let taken = match got {
            Got::Data(bytes) => {
                let is_little = bytes.len() < LITTLE && self.flow.is_waiting();
                let bytes = if is_little { Bytes::copy_from_slice(&bytes) } else { bytes };
                self.flow.handle_data(generation, bytes)
            }
            Got::Said(Part::Data(_)) => Ok(()),
            Got::Said(Part::From(offset)) => self.flow.handle_from(generation, offset),
            Got::Said(Part::Finished) => self.flow.handle_ended(generation, End::Finished),
            Got::Said(Part::Reset(code)) => self.flow.handle_ended(generation, End::Reset(code)),
            Got::Said(Part::Acknowledged(offset)) => {
                self.wake_one(Waiting::Writer);
                let taken = self.flow.handle_acknowledged(generation, offset);
                self.count();
                taken
            }
            Got::Said(Part::Stopped(code)) => {
                self.stopped.get_or_insert(code);
                self.wake();
                Ok(())
            }
        };
        if let Err(refused) = taken {
            tracing::info!(?refused, "a flow is given up");
            self.give_up(None);
        }
    }

    /// Writes everything that there is to write.
    fn poll_out(&mut self, who: Waiting, context: &mut Context<'_>) -> Poll<()> {
        let both = self.with_others(who, context);
        let mut below = Context::from_waker(both.as_ref().unwrap_or(context.waker()));
        loop {
            let Some(leg) = &mut self.leg else {
                self.wait(who, context);
                return Poll::Pending;
            };
            match leg.poll_flush(&mut below) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(gone)) => {
                    self.lose(gone);
                    continue;
                }
                Poll::Pending => {
                    self.wait(who, context);
                    return Poll::Pending;
                }
            }
            for place in 0..PARTS_AT_ONCE {
                let Some(out) = self.flow.poll_out(MAX_DATA, &mut self.room) else {
                    if place == 0 {
                        self.dirty = false;
                        return Poll::Ready(());
                    }
                    break;
                };
                if let Err(gone) = put(leg, out, &mut self.room) {
                    self.lose(gone);
                    break;
                }
            }
        }
    }

    fn lose(&mut self, Gone(close): Gone) {
        self.leg = None;
        self.acknowledging = None;
        self.room.clear();
        let said = match close {
            // An entry that lost its client waits for it.
            Some(Close::Ended(EndReason::ClientLost) | Close::Done) | None => false,
            Some(Close::Ended(_) | Close::Refused(_)) => true,
        };
        let generation = self.flow.generation();
        let is_last = said || self.flow.is_settled() || !self.keeper.is_hopeful();
        if is_last || !self.flow.detach(generation, self.clock.moment()) {
            return self.give_up(close);
        }
        // One that another connection was asked for has it in a moment.
        if !self.flow.is_offered() && !self.reserve() {
            tracing::warn!("a flow ends: too many are without a connection");
            return self.give_up(None);
        }
        self.wake();
        if let Some(me) = self.me.upgrade() {
            self.keeper.clone().lost(Lasting(me));
        }
    }

    /// Tells the store what is kept.
    fn count(&mut self) {
        let kept = self.flow.kept();
        if kept != self.counted {
            self.store.count(self.counted, kept);
            self.counted = kept;
        }
    }

    fn give_back(&mut self) {
        if let Some(reserved) = self.reserved.take() {
            self.store.give(reserved);
        }
    }

    fn wait(&mut self, who: Waiting, context: &Context<'_>) {
        self.wakers[who as usize] = Some(context.waker().clone());
    }

    pub(super) fn wake(&mut self) {
        self.wakers.iter_mut().filter_map(Option::take).for_each(Waker::wake);
    }

    fn wake_one(&mut self, who: Waiting) {
        self.wakers[who as usize].take().into_iter().for_each(Waker::wake);
    }

    /// A connection knows one waker. Where another task waits for it as well, both are woken.
    fn with_others(&self, who: Waiting, context: &Context<'_>) -> Option<Waker> {
        let others = self.wakers.iter().enumerate().filter(|(at, _)| *at != who as usize);
        let mut others = others.filter_map(|(_, waker)| waker.as_ref());
        let foreign = others.any(|waker| !waker.will_wake(context.waker()));
        foreign.then(|| {
            let mut all: Vec<Waker> = self.wakers.iter().flatten().cloned().collect();
            all.push(context.waker().clone());
            Waker::from(Arc::new(All(all)))
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give_back();
        self.store.count(self.counted, 0);
    }
}

struct All(Vec<Waker>);

impl Wake for All {
    fn wake(self: Arc<Self>) {
        self.0.iter().for_each(Waker::wake_by_ref);
    }
}

fn put(leg: &mut Leg, out: Out, room: &mut Vec<Bytes>) -> Result<(), Gone> {
    match out {
        Out::From(offset) => leg.put(&carrier::from(offset), room),
        Out::Acknowledged(offset) => leg.put(&carrier::acknowledged(offset), room),
        Out::Data => {
            let length = room.iter().map(Bytes::len).sum();
            leg.put(&carrier::data_head(length), room)
        }
        Out::Ended(End::Finished) => leg.put(&carrier::finished(), room),
        Out::Ended(End::Reset(code)) => leg.put(&carrier::reset(code), room),
        Out::Stopped(code) => leg.put(&carrier::stopped(code), room),
    }
}
