//! The direction from here: kept until it is acknowledged.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes};

use super::{COMPLETE, End, MAX_PART_PIECES, MAX_REPLAY_PIECES, Out, Refused};

/// INVARIANT: `pieces` are the bytes from `acknowledged` to `acknowledged + kept`; those before
/// `written` are the first `written_pieces` of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Sent {
    pieces: VecDeque<Bytes>,
    kept: usize,
    acknowledged: u64,
    written: u64,
    written_pieces: usize,
    /// The most that was written on any attachment: more cannot be acknowledged.
    highest: u64,
    end: Option<End>,
    /// Said on this attachment.
    end_said: bool,
    /// Said on any attachment.
    end_was_said: bool,
    end_acknowledged: bool,
    say_from: bool,
}

impl Sent {
    pub(super) fn has_room(&self, window: usize) -> bool {
        self.kept < window && self.pieces.len() < MAX_REPLAY_PIECES
    }

    pub(super) fn push(&mut self, bytes: Bytes) {
        if self.end.is_none() && !bytes.is_empty() {
            self.kept += bytes.len();
            self.pieces.push_back(bytes);
        }
    }

    pub(super) fn end(&mut self, end: End) {
        if self.end.is_some() {
            return;
        }
        self.end = Some(end);
        if matches!(end, End::Reset(_)) {
            self.forget();
            // Nothing follows that has a place.
            self.say_from = false;
        }
    }

    pub(super) fn poll_from(&mut self) -> Option<Out> {
        std::mem::take(&mut self.say_from).then_some(Out::From(self.written))
    }

    pub(super) fn poll_data(&mut self, most: usize, room: &mut Vec<Bytes>) -> Option<Out> {
        let mut left = most;
        while left > 0
            && room.len() < MAX_PART_PIECES
            && let Some(piece) = self.pieces.get_mut(self.written_pieces)
        {
            if piece.len() > left {
                let here = piece.split_to(left);
                self.pieces.insert(self.written_pieces, here);
            }
            let piece = &self.pieces[self.written_pieces];
            left -= piece.len();
            self.written += piece.len() as u64;
            self.written_pieces += 1;
            room.push(piece.clone());
        }
        if left < most {
            self.highest = self.highest.max(self.written);
            return Some(Out::Data);
        }
        let end = self.end.filter(|_| !self.end_said)?;
        (self.end_said, self.end_was_said) = (true, true);
        Some(Out::Ended(end))
    }

    pub(super) fn acknowledged(&mut self, offset: u64) -> Result<(), Refused> {
        if offset == COMPLETE {
            if !self.end_said {
                return Err(Refused::TooMuch);
            }
            self.end_acknowledged = true;
            self.forget();
            return Ok(());
        }
        if offset > self.written {
            return Err(Refused::TooMuch);
        }
        self.drop_through(offset);
        Ok(())
    }

    /// The next attachment begins where the peer is.
    pub(super) fn resume(&mut self, received: u64) -> Result<(), Refused> {
        let cut = matches!(self.end, Some(End::Reset(_)));
        if received == COMPLETE {
            if !self.end_was_said {
                return Err(Refused::TooMuch);
            }
            self.end_acknowledged = true;
            self.forget();
        } else if received > self.highest {
            return Err(Refused::TooMuch);
        } else if received < self.acknowledged && !cut {
            return Err(Refused::Gap);
        } else {
            self.drop_through(received);
        }
        (self.written, self.written_pieces) = (self.acknowledged, 0);
        self.end_said = self.end_acknowledged;
        // Where nothing follows but an end that needs no bytes before it, there is no place to name.
        self.say_from = !cut && !self.end_acknowledged;
        Ok(())
    }

    pub(super) fn kept(&self) -> usize {
        self.kept
    }

    pub(super) fn is_settled(&self) -> bool {
        self.end_acknowledged
    }

    /// Nothing of what was sent is needed again.
    fn forget(&mut self) {
        self.acknowledged = self.highest;
        self.written = self.highest;
        self.pieces.clear();
        (self.kept, self.written_pieces) = (0, 0);
    }

    fn drop_through(&mut self, offset: u64) {
        // Less than was acknowledged before says nothing new.
        let mut bytes = usize::try_from(offset.saturating_sub(self.acknowledged)).unwrap_or(0);
        while bytes > 0
            && let Some(first) = self.pieces.front_mut()
        {
            let here = first.len().min(bytes);
            bytes -= here;
            self.kept -= here;
            self.acknowledged += here as u64;
            if here == first.len() {
                self.pieces.pop_front();
                self.written_pieces = self.written_pieces.saturating_sub(1);
            } else {
                first.advance(here);
            }
        }
    }
}
