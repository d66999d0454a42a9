use std::time::Duration;

use rap_events::{
    leadership::LEADERSHIP_TTL_MS,
    lease::{LeaseRow, RenewalOutcome},
};
use rap_proto::{Moment, ReplicaId, Timestamp};

/// How often a leader renews, and how often the others look.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// How soon a question that was not answered is asked again.
pub const RETRY_DELAY: Duration = Duration::from_millis(200);
/// How much sooner than its lease ends a leader stops: one per mille of it for clocks that run
/// apart, and this long to stop.
pub const STOP_BUDGET: Duration = Duration::from_millis(100);
const DRIFT_DIVISOR: u64 = 1_000;
/// How long behind its end an expired lease is taken.
const BEHIND_THE_END: Duration = Duration::from_millis(1);

/// What the driver learned. `sent` is when it asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The duty's row, if there is one, and the database's time.
    Looked {
        row: Option<LeaseRow>,
        now: Timestamp,
    },
    /// The lease was granted to this replica.
    Granted {
        sent: Moment,
        generation: u64,
    },
    /// Somebody was faster.
    Refused,
    Renewed {
        sent: Moment,
        generation: u64,
        outcome: RenewalOutcome,
    },
    /// Nobody answered.
    Unanswered,
    /// An append of this generation was refused by its guard.
    Lost {
        generation: u64,
    },
    /// The replica stops and leads nothing any more.
    Resign,
}

/// What the driver does next. One at a time: each is answered before the next is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Look,
    /// Take the lease over a row that is free: see [`super::take`].
    Take {
        row: Option<LeaseRow>,
        now: Timestamp,
    },
    Renew {
        generation: u64,
    },
    /// Nothing of the duty runs any more: give the lease back.
    GiveBack {
        generation: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Term {
    generation: u64,
    /// From here on this replica does not lead.
    deadline: Moment,
}

/// One replica's part in one duty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    replica: ReplicaId,
    term: Option<Term>,
    effect: Option<Effect>,
    /// When the next question is due; `None` while one is under way, and when all is over.
    next: Option<Moment>,
    resigned: bool,
    settled: bool,
}

impl Candidate {
    pub fn new(replica: ReplicaId, now: Moment) -> Self {
        let next = Some(now);
        Self { replica, term: None, effect: None, next, resigned: false, settled: false }
    }

    /// Under which generation the replica leads now.
    pub fn leads(&self, now: Moment) -> Option<u64> {
        self.term.filter(|term| now < term.deadline).map(|term| term.generation)
    }

    /// Until when it leads unless it renews.
    pub fn deadline(&self) -> Option<Moment> {
        self.term.map(|term| term.deadline)
    }

    /// Whether it is known who leads: this replica, or another.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    pub fn handle_input(&mut self, now: Moment, input: Input) {
        match input {
            Input::Looked { row, now: database } => self.looked(now, row, database),
            Input::Granted { sent, generation } => {
                self.lead(sent, generation, u64::from(LEADERSHIP_TTL_MS));
                self.ask_at(now, sent + INTERVAL);
            }
            Input::Refused => self.follow(now),
            Input::Renewed {
                sent,
                generation,
                outcome: RenewalOutcome::Renewed { remaining_ms },
            } => {
                self.lead(sent, generation, remaining_ms);
                self.ask_at(now, sent + INTERVAL);
            }
            Input::Renewed { .. } => self.follow(now),
            Input::Unanswered => self.ask_at(now, now + RETRY_DELAY),
            Input::Lost { generation } => {
                if self.term.is_some_and(|term| term.generation == generation) {
                    self.term = None;
                    self.next = self.next.map(|next| next.min(now));
                }
            }
            Input::Resign => self.resign(now),
        }
    }

    pub fn handle_timeout(&mut self, now: Moment) {
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        self.next = None;
        // A leader whose time is over learns from the row what became of its lease.
        self.effect = Some(match self.leads(now) {
            Some(generation) => Effect::Renew { generation },
            None => Effect::Look,
        });
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effect.take()
    }

    pub fn poll_timeout(&self) -> Option<Moment> {
        self.next
    }

    fn looked(&mut self, now: Moment, row: Option<LeaseRow>, database: Timestamp) {
        if self.resigned {
            return self.ask_at(now, now);
        }
        match row {
            Some(held) if database < held.valid_until => {
                self.settled = true;
                if held.is_held(database) && held.holder == self.replica.uuid() {
                    // Granted, but nobody said when: only a renewal tells how long it lasts.
                    self.effect = Some(Effect::Renew { generation: held.generation });
                    return;
                }
                self.term = None;
                let free = Duration::from_millis(held.remaining_ms(database)) + BEHIND_THE_END;
                self.ask_at(now, now + free.min(INTERVAL));
            }
            free => self.effect = Some(Effect::Take { row: free, now: database }),
        }
    }

    fn lead(&mut self, sent: Moment, generation: u64, ttl_ms: u64) {
        let drift = Duration::from_millis(ttl_ms.div_ceil(DRIFT_DIVISOR));
        let usable = Duration::from_millis(ttl_ms).saturating_sub(drift + STOP_BUDGET);
        self.term = Some(Term { generation, deadline: sent + usable });
        self.settled = true;
    }

    fn follow(&mut self, now: Moment) {
        self.term = None;
        self.ask_at(now, now);
    }

    fn resign(&mut self, now: Moment) {
        self.resigned = true;
        self.settled = true;
        // Whatever is under way is answered first.
        if self.next.is_some() {
            self.ask_at(now, now);
        }
    }

    fn ask_at(&mut self, now: Moment, at: Moment) {
        if !self.resigned {
            self.next = Some(at.max(now));
            return;
        }
        self.next = None;
        if let Some(term) = self.term.take() {
            self.effect = Some(Effect::GiveBack { generation: term.generation });
        }
    }
}
