//! How one replica reaches the log: over a connection that a partition may cut, in one direction too.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::future::ready;
use rap_events::{
    MemoryLog,
    tapped::{Asked, Cut, Tap, TappedLog},
};

use crate::control::Ballots;

const CUT: &str = "the way is cut";

/// The primary, as far as one replica reaches it.
pub type Reached = TappedLog<Way, Arc<MemoryLog>>;

/// A way to the primary, open or cut in each direction for as long as one turn lasts.
#[derive(Debug)]
pub struct Way {
    asks: AtomicBool,
    answers: AtomicBool,
}

impl Way {
    pub fn to(primary: &Arc<MemoryLog>) -> Reached {
        let tap = Self { asks: AtomicBool::new(true), answers: AtomicBool::new(true) };
        TappedLog { log: Arc::clone(primary), tap }
    }

    /// Whether what is asked arrives, and whether what is answered does.
    pub fn set(&self, asks: bool, answers: bool) {
        self.asks.store(asks, Ordering::Relaxed);
        self.answers.store(answers, Ordering::Relaxed);
    }

    /// Whether what is asked arrives and what is answered does.
    pub fn is_open(&self) -> bool {
        self.asks() && self.answers()
    }

    fn asks(&self) -> bool {
        self.asks.load(Ordering::Relaxed)
    }

    fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }
}

impl Tap for Way {
    fn pass<'a, T: Send + 'a, E: Cut + 'a>(
        &'a self,
        log: &'a MemoryLog,
        ask: impl FnOnce(&'a MemoryLog) -> Asked<'a, T, E>,
    ) -> Asked<'a, T, E> {
        if !self.asks() {
            return Box::pin(ready(Err(E::unreached(CUT))));
        }
        let asked = ask(log);
        if self.answers() {
            return asked;
        }
        // It arrives, and is done; nobody hears of it.
        Box::pin(async move {
            let _ = asked.await;
            Err(E::unanswered(CUT))
        })
    }
}

impl Ballots for Reached {
    fn is_reached(&self) -> bool {
        self.tap.asks()
    }
}
