//! Which observations are kept, sent, and sent again until control has recorded them.
//!
//! Inputs: observations, disk outcomes, confirmations, the link's state. Effects: at most one
//! disk write in flight, at most one batch unconfirmed.
//!
//! INVARIANT: an observation is sent only after it is durable, so that a sequence number never
//! means two things, whatever was lost with the power.
//! INVARIANT: what is kept is bounded; what is left out is counted and never silent.

mod file;

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Duration};

use rap_proto::{
    Moment, Timestamp,
    bus::MAX_OBSERVATIONS,
    observation::{Observation, Spooled},
};

use crate::{
    Machine,
    jitter::{Backoff, Jitter},
};

pub use file::{MAX_FILE_BYTES, MAX_FRAME_BYTES};

/// The most observations that wait for control.
pub const MAX_SPOOLED: usize = 4_096;
/// Above this many, refusals of strangers and changes of paths are left out: whoever can cause them
/// at will must not push out what sessions did.
pub const STRANGER_LIMIT: usize = MAX_SPOOLED / 2;
/// How long to wait for a confirmation before the batch is sent again.
const FIRST_RESEND: Duration = Duration::from_secs(3);
const GREATEST_RESEND: Duration = Duration::from_secs(60);
/// Confirmed observations are cut from the file once so many bytes of it are of no use.
const COMPACT_BYTES: usize = 64 * 1024;

#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    Observed {
        observation: Observation,
        at: Timestamp,
    },
    /// The last [`Effect::Write`] is durable.
    Written,
    /// The last [`Effect::Write`] may or may not have happened.
    WriteFailed,
    /// Control has everything up to and including this one.
    Recorded {
        through: u64,
    },
    /// Whether messages can be sent now.
    Link {
        up: bool,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Write(Write),
    /// At most [`MAX_OBSERVATIONS`].
    Send(Vec<Spooled>),
    /// So many observations were left out since the last such effect.
    LeftOut(u64),
}

/// What to do to the spool's file.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    Append(Vec<u8>),
    Replace(Vec<u8>),
}

pub struct Spool {
    /// Ascending by sequence.
    kept: VecDeque<Spooled>,
    next_sequence: u64,
    /// Everything below is durable.
    durable_below: u64,
    /// What the write in flight will make durable.
    writing: Option<u64>,
    /// The file must be written anew: its tail is torn, or a write failed.
    rewrite: bool,
    file_bytes: usize,
    /// The last sequence of the batch that waits for its confirmation.
    sent_through: Option<u64>,
    resend: Option<Moment>,
    link_up: bool,
    backoff: Backoff,
    jitter: Jitter,
    effects: VecDeque<Effect>,
}

impl Spool {
    /// From the file's bytes, as a power cut may have left them; `None` when there is no file.
    pub fn restore(bytes: Option<&[u8]>, seed: u64) -> Self {
        let found = bytes.map(file::read).unwrap_or_default();
        Self {
            durable_below: found.next_sequence,
            next_sequence: found.next_sequence,
            kept: found.kept.into(),
            writing: None,
            rewrite: !found.whole,
            file_bytes: bytes.map_or(0, <[u8]>::len),
            sent_through: None,
            resend: None,
            link_up: false,
            backoff: Backoff::new(FIRST_RESEND, GREATEST_RESEND),
            jitter: Jitter::new(seed),
            effects: VecDeque::new(),
        }
    }

    pub fn waiting(&self) -> usize {
        self.kept.len()
    }

    fn observe(&mut self, observation: Observation, at: Timestamp) {
        let stranger = matches!(
            observation,
            Observation::AccessRefused { claimed: None, .. } | Observation::PathChanged { .. }
        );
        let limit = if stranger { STRANGER_LIMIT } else { MAX_SPOOLED };
        if self.kept.len() >= limit || file::frame_too_large(&observation) {
            self.leave_out();
            return;
        }
        self.kept.push_back(Spooled { sequence: self.next_sequence, at, observation });
        self.next_sequence += 1;
        self.write();
    }

    fn leave_out(&mut self) {
        if let Some(Effect::LeftOut(count)) = self.effects.back_mut() {
            *count += 1;
        } else {
            self.effects.push_back(Effect::LeftOut(1));
        }
    }

    fn write(&mut self) {
        if self.writing.is_some() {
            return;
        }
        let write = if self.rewrite || self.file_bytes == 0 {
            Write::Replace(file::whole(self.next_sequence, self.kept.iter()))
        } else if self.durable_below < self.next_sequence {
            let new = self.kept.iter().filter(|one| one.sequence >= self.durable_below);
            Write::Append(file::frames(new))
        } else {
            return;
        };
        match &write {
            Write::Replace(bytes) => self.file_bytes = bytes.len(),
            Write::Append(bytes) => self.file_bytes += bytes.len(),
        }
        self.rewrite = false;
        self.writing = Some(self.next_sequence);
        self.effects.push_back(Effect::Write(write));
    }

    fn send(&mut self, now: Moment) {
        if !self.link_up || self.sent_through.is_some() {
            return;
        }
        let durable = self.kept.iter().take_while(|one| one.sequence < self.durable_below);
        let batch: Vec<Spooled> = durable.take(MAX_OBSERVATIONS).cloned().collect();
        let Some(last) = batch.last() else { return };
        self.sent_through = Some(last.sequence);
        self.resend = Some(now + self.backoff.next_delay(&mut self.jitter));
        self.effects.push_back(Effect::Send(batch));
    }

    fn recorded(&mut self, now: Moment, through: u64) {
        // Confirming what was never durable would be a mistake of control's; nothing is dropped.
        if through >= self.durable_below {
            return;
        }
        self.kept.retain(|one| one.sequence > through);
        if self.sent_through.is_some_and(|sent| sent <= through) {
            self.sent_through = None;
            self.resend = None;
            self.backoff.reset();
        }
        let useless = self.kept.is_empty() && self.file_bytes > COMPACT_BYTES;
        if useless || self.file_bytes > MAX_FILE_BYTES / 2 {
            self.rewrite = true;
            self.write();
        }
        self.send(now);
    }
}

impl Machine for Spool {
    type Input = Input;
    type Effect = Effect;

    fn handle_input(&mut self, now: Moment, input: Input) {
        match input {
            Input::Observed { observation, at } => self.observe(observation, at),
            Input::Written => {
                self.durable_below = self.writing.take().unwrap_or(self.durable_below);
                self.write();
                self.send(now);
            }
            Input::WriteFailed => {
                self.writing = None;
                self.rewrite = true;
                self.resend = Some(now + self.backoff.next_delay(&mut self.jitter));
            }
            Input::Recorded { through } => self.recorded(now, through),
            Input::Link { up } => {
                self.link_up = up;
                self.sent_through = None;
                self.resend = None;
                self.backoff.reset();
                if self.rewrite {
                    self.write();
                }
                self.send(now);
            }
        }
    }

    fn handle_timeout(&mut self, now: Moment) {
        if self.resend.is_none_or(|at| now < at) {
            return;
        }
        self.resend = None;
        self.sent_through = None;
        if self.rewrite {
            self.write();
        }
        self.send(now);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn poll_timeout(&self) -> Option<Moment> {
        self.resend
    }
}
