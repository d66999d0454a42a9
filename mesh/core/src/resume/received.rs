//! The direction towards here: counted, and acknowledged when it was taken.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes};

use super::{ACK_EVERY, COMPLETE, End, MAX_REPLAY_BYTES, MAX_REPLAY_PIECES, Out, Refused, ahead};

/// INVARIANT: `waiting` are the bytes from `taken` to `taken + waiting_bytes`.
#[derive(Debug, Clone, Default)]
pub(super) struct Received {
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    taken: u64,
    /// Where the next data of this attachment belongs. Unknown on a further attachment until the
    /// peer says it.
    at: At,
    /// What the peer knows to be taken.
    told: u64,
    /// Tell the rest now, however little it is.
    hurried: bool,
    end: Option<End>,
    end_told: bool,
    /// The end was heard after the peer was told of a place before it: the peer says it again, and
    /// hears of it only then.
    end_comes_again: bool,
    /// What the peer was told for an attachment to come.
    offered: Option<u64>,
    stop: Option<u64>,
    stop_said: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Unknown,
    Offset(u64),
}

impl Default for At {
    fn default() -> Self {
        Self::Offset(0)
    }
}

impl Received {
    pub(super) fn stop(&mut self, code: u64) {
        if self.end.is_none() {
            self.stop.get_or_insert(code);
        }
        self.drop_waiting();
    }

    pub(super) fn data(&mut self, mut bytes: Bytes) -> Result<(), Refused> {
        let At::Offset(at) = self.at else { return Err(Refused::Gap) };
        if self.end.is_some() {
            // Only what is sent again can come after the end was heard.
            return Ok(());
        }
        let known = usize::try_from(self.end_of_waiting() - at).unwrap_or(usize::MAX);
        let again = known.min(bytes.len());
        if again < bytes.len() && self.waiting_bytes >= ahead(MAX_REPLAY_BYTES) {
            return Err(Refused::TooMuch);
        }
        self.at = At::Offset(at + bytes.len() as u64);
        bytes.advance(again);
        if bytes.is_empty() {
            return Ok(());
        }
        self.waiting_bytes += bytes.len();
        self.waiting.push_back(bytes);
        if self.stop.is_some() {
            self.drop_waiting();
        }
        Ok(())
    }

    pub(super) fn from(&mut self, offset: u64) -> Result<(), Refused> {
        if self.at != At::Unknown {
            return Err(Refused::TooMuch);
        }
        // After an end was heard nothing is missing, whatever its sender dropped.
        if offset > self.end_of_waiting() && self.end.is_none() {
            return Err(Refused::Gap);
        }
        self.at = At::Offset(offset);
        Ok(())
    }

    pub(super) fn ended(&mut self, end: End) -> Result<(), Refused> {
        let whole = self.at == At::Offset(self.end_of_waiting());
        if end == End::Finished && !whole && self.end.is_none() {
            return Err(Refused::Gap);
        }
        self.end.get_or_insert(end);
        self.end_comes_again = false;
        Ok(())
    }

    pub(super) fn take(&mut self) -> Option<Bytes> {
        let bytes = self.waiting.pop_front()?;
        self.waiting_bytes -= bytes.len();
        self.taken += bytes.len() as u64;
        Some(bytes)
    }

    pub(super) fn may_read_ahead(&self, most: usize) -> bool {
        self.waiting.len() < MAX_REPLAY_PIECES && self.waiting_bytes < most
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn end_reached(&self) -> Option<End> {
        self.end.filter(|_| self.waiting.is_empty())
    }

    pub(super) const fn is_complete(&self) -> bool {
        self.end.is_some()
    }

    pub(super) fn owes(&self) -> bool {
        self.end.is_none() && self.untold() > 0 && !self.is_due() && !self.is_offered()
    }

    pub(super) fn has_news(&self) -> bool {
        if self.is_offered() {
            return false;
        }
        if self.end_reached().is_some() { self.end_is_due() } else { self.is_due() }
    }

    pub(super) fn hurry(&mut self) {
        self.hurried = self.untold() > 0;
    }

    pub(super) fn poll_out(&mut self) -> Option<Out> {
        if let Some(code) = self.stop.filter(|_| self.end.is_none() && !self.stop_said) {
            self.stop_said = true;
            return Some(Out::Stopped(code));
        }
        if self.is_offered() {
            return None;
        }
        // What an end covers needs no further word, once it was taken.
        if self.end_reached().is_some() {
            let news = self.end_is_due();
            self.end_told |= news;
            return news.then_some(Out::Acknowledged(COMPLETE));
        }
        if !self.is_due() {
            return None;
        }
        self.hurried = false;
        self.told += self.untold();
        Some(Out::Acknowledged(self.told))
    }

    pub(super) fn detach(&mut self) {
        self.hurried = false;
        if self.end.is_none() {
            // It is sent again: what a detached flow keeps stays within one window.
            self.waiting.clear();
            self.waiting_bytes = 0;
        }
    }

    pub(super) fn attach(&mut self) {
        self.at = At::Unknown;
        self.stop_said = false;
        // The peer was told how far this side came, if not before, then as it attached.
        let told = self.offered.take().unwrap_or(self.offset());
        self.told = told.min(self.taken);
        self.end_told = told == COMPLETE;
        self.end_comes_again = self.end.is_some() && !self.end_told;
    }

    pub(super) fn offer(&mut self) -> u64 {
        *self.offered.insert(self.offset())
    }

    pub(super) fn withdraw(&mut self) {
        self.offered = None;
    }

    pub(super) const fn is_offered(&self) -> bool {
        self.offered.is_some()
    }

    pub(super) fn offset(&self) -> u64 {
        if self.end.is_some() { COMPLETE } else { self.taken }
    }

    pub(super) fn kept(&self) -> usize {
        self.waiting_bytes
    }

    pub(super) const fn is_settled(&self) -> bool {
        self.end_told
    }

    fn is_due(&self) -> bool {
        self.hurried || self.untold() >= ACK_EVERY
    }

    /// How much there is to acknowledge. What was taken after an offer comes again on the attachment
    /// that the offer was for. There its sender has not said it before, and takes no word of it.
    fn untold(&self) -> u64 {
        let At::Offset(at) = self.at else { return 0 };
        self.taken.min(at).saturating_sub(self.told)
    }

    fn end_is_due(&self) -> bool {
        !self.end_told && !self.end_comes_again
    }

    fn end_of_waiting(&self) -> u64 {
        self.taken + self.waiting_bytes as u64
    }

    fn drop_waiting(&mut self) {
        self.taken += self.waiting_bytes as u64;
        self.waiting.clear();
        self.waiting_bytes = 0;
    }
}
