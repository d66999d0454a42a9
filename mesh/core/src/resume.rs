//! A flow that outlives the connection below it: both directions, counted in bytes, so that after a
//! loss each side says how far it came and the other goes on from there.
//!
//! What was sent is kept until the receiver's acknowledgement. That is also a credit: nobody sends
//! more than [`MAX_REPLAY_BYTES`] that are not acknowledged, and a receiver acknowledges what was
//! taken from it, so neither side ever keeps more than that.
//!
//! ```text
//! attached(0) ── detach ──▶ detached ── attach(n) ──▶ attached(n) …
//!                              └─ handle_timeout, after RESUME_WITHIN ──▶ expired
//! ```
//!
//! A flow can also leave a connection that still carries it: it makes an offer, goes on meanwhile,
//! and attaches when the other one is there. An offer is of one generation, and a newer one takes its
//! place: whoever comes with the older one is late, even when the newer one came to nothing.
//!
//! ```text
//! attached(m) ── offer(n) ──▶ offered(n), attached(m) ── attach(n) ──▶ attached(n)
//!                                 └─ withdraw(n) ──▶ attached(m)
//! ```

mod budget;
mod received;
mod sent;
mod shares;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use rap_proto::Moment;

pub use budget::Budget;
use received::Received;
use sent::Sent;
pub use shares::Shares;

/// The most bytes of one direction that are kept for sending them again.
pub const MAX_REPLAY_BYTES: usize = 4 * 1024 * 1024;
/// The most pieces that they are in.
pub const MAX_REPLAY_PIECES: usize = 8192;
/// The most pieces that go into one part.
pub const MAX_PART_PIECES: usize = 64;
/// So many bytes are acknowledged at once …
pub const ACK_EVERY: u64 = 512 * 1024;
/// … and fewer after this.
pub const ACK_AFTER: Duration = Duration::from_millis(100);
/// A flow that is detached for longer is over.
pub const RESUME_WITHIN: Duration = Duration::from_secs(60);
/// The most flows that one node keeps without a connection, and the most bytes in them.
pub const MAX_DETACHED_FLOWS: usize = 1024;
pub const MAX_DETACHED_BYTES: usize = 256 * 1024 * 1024;

/// When the flows of one side of a node keep more together, with a connection or without …
pub const MAX_KEPT_BYTES: usize = 256 * 1024 * 1024;
/// … each may keep no more than this: enough that it is acknowledged without waiting.
pub const NARROW_WINDOW: usize = ACK_EVERY as usize;

/// The offset behind a direction's end: everything came, and that it is all.
pub const COMPLETE: u64 = u64::MAX;

/// How a direction ends that its sender ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Finished,
    /// Cut, with a code of [`crate::ended`].
    Reset(u64),
}

/// What is to be written next on the attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Out {
    /// The data that follows begins at this offset. Said first on every attachment but the first.
    From(u64),
    /// The receiver of this has come so far in the other direction.
    Acknowledged(u64),
    /// The bytes that were put into the room for them.
    Data,
    Ended(End),
    Stopped(u64),
}

/// Why something that came counts for nothing. But for [`Refused::Late`], the peer does not keep to
/// the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It belongs to an attachment before the one of now.
    Late,
    /// Bytes are missing before it.
    Gap,
    /// It claims, or brings, more than there can be.
    TooMuch,
}

/// How many bytes of one direction one flow may keep, where all keep `kept` and should keep no more
/// than `most`.
pub const fn window(kept: usize, most: usize) -> usize {
    if kept < most { MAX_REPLAY_BYTES } else { NARROW_WINDOW }
}

/// How many bytes may wait to be taken where each flow may keep so many: a sender goes beyond its bound by the
/// one piece that reaches it, and its bound may be the wider one.
pub const fn ahead(window: usize) -> usize {
    2 * window
}

/// Both directions of one flow, at one of its ends.
#[derive(Debug, Clone)]
pub struct Flow {
    sent: Sent,
    received: Received,
    generation: u32,
    /// The newest that an offer was made for; none was for 0.
    offered: u32,
    detached: Option<Moment>,
    expired: bool,
}

impl Default for Flow {
    fn default() -> Self {
        Self::new()
    }
}

impl Flow {
    /// A flow that was opened just now, attached to the connection that it was opened on.
    pub fn new() -> Self {
        let (sent, received) = (Sent::default(), Received::default());
        Self { sent, received, generation: 0, offered: 0, detached: None, expired: false }
    }

    /// Whether more may be sent within a [`window`]. If not, whoever brings it has to wait for
    /// acknowledgements.
    pub fn has_room(&self, window: usize) -> bool {
        self.sent.has_room(window)
    }

    /// Sends these bytes, now or on a later attachment. A direction that has ended sends no more.
    pub fn send(&mut self, bytes: Bytes) {
        self.sent.push(bytes);
    }

    /// Ends the direction from here; the first end stands. What a cut leaves unsent is dropped.
    pub fn end(&mut self, end: End) {
        self.sent.end(end);
    }

    /// Wants no more of the direction towards here. What still comes is dropped.
    pub fn stop(&mut self, code: u64) {
        self.received.stop(code);
    }

    /// The next to be written on the attachment, with data of at most `most` bytes in `room`.
    /// `None` while detached, and when there is nothing.
    pub fn poll_out(&mut self, most: usize, room: &mut Vec<Bytes>) -> Option<Out> {
        if self.detached.is_some() {
            return None;
        }
        self.sent
            .poll_from()
            .or_else(|| self.received.poll_out())
            .or_else(|| self.sent.poll_data(most, room))
    }

    /// Bytes that came on attachment `generation`.
    pub fn handle_data(&mut self, generation: u32, bytes: Bytes) -> Result<(), Refused> {
        self.check(generation)?;
        self.received.data(bytes)
    }

    /// The offset that data on this attachment begins at.
    pub fn handle_from(&mut self, generation: u32, offset: u64) -> Result<(), Refused> {
        self.check(generation)?;
        self.received.from(offset)
    }

    pub fn handle_ended(&mut self, generation: u32, end: End) -> Result<(), Refused> {
        self.check(generation)?;
        self.received.ended(end)
    }

    /// The peer has come so far in the direction from here.
    pub fn handle_acknowledged(&mut self, generation: u32, offset: u64) -> Result<(), Refused> {
        self.check(generation)?;
        self.sent.acknowledged(offset)
    }

    /// The next bytes for whoever reads. Taking them is what acknowledges them.
    pub fn take(&mut self) -> Option<Bytes> {
        self.received.take()
    }

    /// Whether what comes may be received before anybody asks for it, where so many bytes may wait.
    pub fn may_read_ahead(&self, most: usize) -> bool {
        self.received.may_read_ahead(most)
    }

    /// Whether something came that was not taken yet.
    pub fn is_waiting(&self) -> bool {
        self.received.is_waiting()
    }

    /// How the direction towards here ended, once everything before its end was taken.
    pub fn ended(&self) -> Option<End> {
        self.received.end_reached()
    }

    /// Whether the peer said how its direction ends.
    pub fn is_complete(&self) -> bool {
        self.received.is_complete()
    }

    /// Whether something was taken that is not acknowledged yet and waits for [`ACK_AFTER`].
    pub fn owes_acknowledgement(&self) -> bool {
        self.received.owes()
    }

    /// Whether something is to be acknowledged now.
    pub fn has_news(&self) -> bool {
        self.received.has_news()
    }

    /// [`ACK_AFTER`] is over.
    pub fn acknowledge(&mut self) {
        self.received.hurry();
    }

    /// The connection below is gone. Returns whether it was this attachment's.
    pub fn detach(&mut self, generation: u32, now: Moment) -> bool {
        let current = generation == self.generation && self.detached.is_none();
        if current {
            self.detached = Some(now);
            self.received.detach();
        }
        current
    }

    /// Goes on over another connection. `received` is how far the peer came.
    pub fn attach(&mut self, generation: u32, received: u64) -> Result<(), Refused> {
        let is_late = generation <= self.generation || generation < self.offered;
        if is_late || self.expired {
            return Err(Refused::Late);
        }
        self.sent.resume(received)?;
        if generation > self.offered {
            self.received.withdraw();
        }
        if self.detached.is_none() {
            self.received.detach();
        }
        self.received.attach();
        self.generation = generation;
        self.detached = None;
        Ok(())
    }

    /// How far this side came: what the peer is told when it attaches anew. Whatever was not taken
    /// is not counted once the flow is detached: it is sent again.
    pub fn received(&self) -> u64 {
        self.received.offset()
    }

    /// How far this side came, to be told while attachment `generation` is asked for and this one still
    /// carries. Nothing is acknowledged until that one comes, or the offer is withdrawn: what the
    /// peer was told stays a place that it can go on from. Late when there was one of that generation,
    /// or of a newer one.
    pub fn offer(&mut self, generation: u32) -> Result<u64, Refused> {
        if generation <= self.generation || generation <= self.offered {
            return Err(Refused::Late);
        }
        self.offered = generation;
        Ok(self.received.offer())
    }

    /// Attachment `generation` does not come. Returns whether its offer stood until now.
    pub fn withdraw(&mut self, generation: u32) -> bool {
        let stood = generation == self.offered && self.received.is_offered();
        if stood {
            self.received.withdraw();
        }
        stood
    }

    pub fn is_offered(&self) -> bool {
        self.received.is_offered()
    }

    pub fn generation(&self) -> u32 {
        self.generation
    }

    pub fn is_detached(&self) -> bool {
        self.detached.is_some()
    }

    /// Bytes that are kept, in both directions.
    pub fn kept(&self) -> usize {
        self.sent.kept() + self.received.kept()
    }

    /// Whether both ends were said and heard: nobody has anything to send again.
    pub fn is_settled(&self) -> bool {
        self.sent.is_settled() && self.received.is_settled()
    }

    /// When a detached flow is given up.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.detached.filter(|_| !self.expired).map(|since| since + RESUME_WITHIN)
    }

    /// Returns whether the flow is given up now.
    pub fn handle_timeout(&mut self, now: Moment) -> bool {
        self.expired |= self.poll_timeout().is_some_and(|at| now >= at);
        self.expired
    }

    fn check(&self, generation: u32) -> Result<(), Refused> {
        if generation == self.generation && self.detached.is_none() {
            Ok(())
        } else {
            Err(Refused::Late)
        }
    }
}
