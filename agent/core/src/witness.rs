//! Whether the log that control shows only grows.
//!
//! A node keeps the newest tree head that it saw. It presents that one when it asks for a newer
//! one, and what it gets must have grown out of it. A log that became shorter, or another one, is
//! a log that somebody rewrote: the node says so, and takes nothing from that control plane any
//! more until a person looked. It goes on presenting what it saw, so that a control server that was
//! started again learns of it too. A head of an authority epoch that is over is refused as one that was
//! not signed: whoever signs it has no say any more.
//!
//! Inputs: what is kept, answers and when they came, outcomes of writes, control keys. Effects: at most one
//! [`Effect::Ask`] or [`Effect::Persist`] in flight; [`Effect::Refused`] to be observed;
//! [`Effect::Suspend`] ends authority.
//!
//! INVARIANT: a head is durable before the node says that it saw it.
//! INVARIANT: nothing is asked while a head is being written, so an answer proves what it is judged by. Once the
//! log is refuted no answer counts, and that is written with each look until it is durable.

use std::{collections::VecDeque, time::Duration};

use rap_proto::{
    ClusterId, Digest, Moment, PublicKey, Timestamp,
    observation::LogRefusal,
    wire::node_api::{TreeReply, TreeRequest},
};
use rap_tlog::{
    OpenHeadError, TreeHead, VerifierKey, WitnessKey,
    head::{MAX_HEAD_BYTES, epoch_of},
    proof,
};
use serde::{Deserialize, Serialize};

use crate::{
    Machine,
    jitter::{Backoff, Jitter},
    record::Record,
};

/// How long a node goes without asking; spread by a third.
pub const POLL: Duration = Duration::from_secs(60);
/// How soon a cosignature is presented, when the last answer was waited for at leisure.
pub const PRESENT: Duration = Duration::from_secs(1);
/// How long an answer may take.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const GREATEST_RETRY: Duration = Duration::from_secs(60);

/// The newest tree head, as it was signed, and whether what came after it was refuted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Witnessed {
    pub size: u64,
    pub root: Digest,
    /// With this node's cosignature; empty before the first.
    #[serde(with = "serde_bytes")]
    pub note: Vec<u8>,
    /// A log that did not grow out of this one was seen: final, until this file is removed.
    pub refuted: Option<LogRefusal>,
}

impl Record for Witnessed {
    const KIND: u8 = 6;
    const MAX_BYTES: usize = 8 * 1024;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// What was found on disk, once and before everything else.
    Restore(Option<Witnessed>),
    /// The keys that may sign for this node's cluster.
    ControlKeys(Vec<PublicKey>),
    Answered {
        reply: TreeReply,
        /// By the node's own clock.
        at: Timestamp,
    },
    /// Control could not be reached, or answered nonsense.
    Failed,
    /// The last [`Effect::Persist`] is durable.
    Persisted,
    /// It is not: the head counts as not seen.
    PersistFailed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Ask(TreeRequest),
    /// Write this, durably, and answer with [`Input::Persisted`].
    Persist(Witnessed),
    /// A head was seen and is durable.
    Saw {
        size: u64,
        root: Digest,
    },
    /// To be observed.
    Refused {
        size: u64,
        known: u64,
        code: LogRefusal,
    },
    /// Nothing that control says has authority any more.
    Suspend(LogRefusal),
}

/// Answers as [`TreeHead::open`] does.
pub type Open = fn(&[u8], ClusterId, &[VerifierKey]) -> Result<TreeHead, OpenHeadError>;

pub struct Witness {
    cluster: ClusterId,
    key: WitnessKey,
    keys: Vec<VerifierKey>,
    open: Open,
    known: Witnessed,
    candidate: Option<Witnessed>,
    /// What is known is refuted, and that could not be written.
    is_unwritten: bool,
    /// The last head that was opened, by its bytes: the same bytes need no look at signatures again.
    opened: Option<(Vec<u8>, TreeHead)>,
    asked: bool,
    /// The answer that is waited for is that to a presented cosignature.
    presenting: bool,
    next: Option<Moment>,
    last_refused: Option<(u64, LogRefusal)>,
    backoff: Backoff,
    jitter: Jitter,
    effects: VecDeque<Effect>,
}

impl Witness {
    pub fn new(cluster: ClusterId, key: WitnessKey, seed: u64) -> Self {
        Self {
            cluster,
            key,
            keys: Vec::new(),
            open: TreeHead::open,
            known: Witnessed::default(),
            candidate: None,
            is_unwritten: false,
            opened: None,
            asked: false,
            presenting: false,
            next: None,
            last_refused: None,
            backoff: Backoff::new(FIRST_RETRY, GREATEST_RETRY),
            jitter: Jitter::new(seed),
            effects: VecDeque::new(),
        }
    }

    /// For whoever opens the same heads again and again, and remembers them.
    pub fn opening_by(self, open: Open) -> Self {
        Self { open, ..self }
    }

    fn ask(&mut self, now: Moment) {
        self.asked = true;
        self.next = Some(now + ANSWER_LIMIT);
        let (known, witness) = (self.known.note.clone(), self.key.public().to_vec());
        self.effects.push_back(Effect::Ask(TreeRequest { known, witness }));
    }

    fn wait(&mut self, now: Moment, delay: Duration) {
        self.asked = false;
        self.next = Some(now + delay);
    }

    fn answered(&mut self, now: Moment, reply: &TreeReply, at: Timestamp) {
        let delay = self.jitter.around(POLL, 33);
        match self.judge(reply) {
            Ok(head) => {
                self.opened = Some((reply.head.clone(), head.clone()));
                self.backoff.reset();
                self.last_refused = None;
                let grew = head.size > self.known.size && self.candidate.is_none();
                let presents = grew && !self.presenting;
                self.presenting = presents;
                self.wait(now, if presents { PRESENT } else { delay });
                if grew {
                    let (size, root) = (head.size, head.root);
                    let note = self.cosigned(&reply.head, at);
                    self.keep(Witnessed { size, root, note, refuted: None });
                }
            }
            Err((size, code)) => {
                let known = self.known.size;
                if self.last_refused.replace((size, code)) != Some((size, code)) {
                    self.effects.push_back(Effect::Refused { size, known, code });
                }
                self.wait(now, delay);
                if matches!(code, LogRefusal::Shorter | LogRefusal::Forked) {
                    // What is on its way to the disk must not overwrite this.
                    self.candidate = None;
                    self.keep(Witnessed { refuted: Some(code), ..self.known.clone() });
                    self.suspend(code);
                }
            }
        }
    }

    /// The head with this node's cosignature, or as it came when it would become too large by it.
    fn cosigned(&self, head: &[u8], at: Timestamp) -> Vec<u8> {
        let note = self.key.cosign(head, at).ok();
        note.filter(|note| note.len() <= MAX_HEAD_BYTES).unwrap_or_else(|| head.to_vec())
    }

    /// The head that was shown, if it grew out of the known one.
    fn judge(&self, reply: &TreeReply) -> Result<TreeHead, (u64, LogRefusal)> {
        if reply.head.len() > MAX_HEAD_BYTES {
            return Err((0, LogRefusal::Malformed));
        }
        let head = self.open(&reply.head)?;
        // What is kept was verified when it came. Before the first there is nothing to fall behind.
        if epoch_of(&self.known.note).is_ok_and(|known| head.epoch() < known) {
            return Err((head.size, LogRefusal::NotTrusted));
        }
        if head.size < self.known.size {
            return Err((head.size, LogRefusal::Shorter));
        }
        let known = (self.known.size, &self.known.root);
        proof::check_consistency(&reply.consistency, known, (head.size, &head.root))
            .map_err(|_| (head.size, LogRefusal::Forked))?;
        Ok(head)
    }

    fn open(&self, bytes: &[u8]) -> Result<TreeHead, (u64, LogRefusal)> {
        if let Some((known, head)) = &self.opened
            && known == bytes
        {
            return Ok(head.clone());
        }
        (self.open)(bytes, self.cluster, &self.keys).map_err(|error| {
            let code = match error {
                OpenHeadError::Malformed => LogRefusal::Malformed,
                OpenHeadError::NotTrusted | OpenHeadError::OtherLog => LogRefusal::NotTrusted,
            };
            (0, code)
        })
    }

    fn keep(&mut self, witnessed: Witnessed) {
        self.candidate = Some(witnessed.clone());
        self.effects.push_back(Effect::Persist(witnessed));
    }

    fn suspend(&mut self, code: LogRefusal) {
        self.known.refuted = Some(code);
        self.effects.push_back(Effect::Suspend(code));
    }

    fn restore(&mut self, now: Moment, kept: Option<Witnessed>) {
        self.known = kept.unwrap_or_default();
        if let Some(code) = self.known.refuted {
            self.suspend(code);
        }
        self.ask(now);
    }
}

impl Machine for Witness {
    type Input = Input;
    type Effect = Effect;

    fn handle_input(&mut self, now: Moment, input: Input) {
        match input {
            Input::Restore(kept) => self.restore(now, kept),
            Input::ControlKeys(keys) => {
                let key = |key| VerifierKey::p256(self.cluster, key);
                self.keys = keys.into_iter().map(key).collect();
                self.opened = None;
            }
            // An answer that came too late; the next one tells more.
            Input::Answered { .. } | Input::Failed if !self.asked => {}
            // Whatever it is, it counts no more.
            Input::Answered { .. } if self.known.refuted.is_some() => {
                let delay = self.jitter.around(POLL, 33);
                self.backoff.reset();
                self.wait(now, delay);
            }
            Input::Answered { reply, at } => self.answered(now, &reply, at),
            Input::Failed => {
                let delay = self.backoff.next_delay(&mut self.jitter);
                self.wait(now, delay);
            }
            Input::Persisted => {
                if let Some(durable) = self.candidate.take()
                    && durable.refuted.is_none()
                {
                    self.effects.push_back(Effect::Saw { size: durable.size, root: durable.root });
                    self.known = durable;
                }
            }
            Input::PersistFailed => {
                let lost = self.candidate.take();
                self.is_unwritten = lost.is_some_and(|lost| lost.refuted.is_some());
            }
        }
    }

    fn handle_timeout(&mut self, now: Moment) {
        if self.next.is_none_or(|at| now < at) {
            return;
        }
        if self.asked {
            self.handle_input(now, Input::Failed);
        } else if self.candidate.is_some() {
            // What is presented has to be what the answer is judged by.
            self.wait(now, PRESENT);
        } else {
            if std::mem::take(&mut self.is_unwritten) {
                self.keep(self.known.clone());
            }
            self.ask(now);
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn poll_timeout(&self) -> Option<Moment> {
        self.next
    }
}

#[cfg(test)]
mod tests;
