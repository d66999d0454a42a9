//! What sessions reach in place of workers: it sends each number back that comes on a channel.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use rap_mesh::{DialRequest, Dialed, Dialer};
use rap_proto::{SessionId, refusal::Refusal};
use rap_simulations::{
    kit::{Verdict, Violation},
    level2::Mutation,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use crate::meshes::record::Record;

/// What is taken in before it is answered.
const ROOM: usize = 4_096;
/// Which number of a channel a planted bug takes in twice.
const TWICE: u64 = 20;

/// A reliable channel loses nothing, and brings nothing twice or out of order.
pub(crate) const WHOLE: &str = "whole";

#[derive(Clone)]
pub(crate) struct Desk {
    record: Record,
    plant: Option<Mutation>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// The next number of each session's channel.
    next: BTreeMap<SessionId, u64>,
    verdict: Verdict,
}

impl Desk {
    pub(super) fn new(record: Record, plant: Option<Mutation>) -> Self {
        Self { record, plant, seen: Arc::default() }
    }

    /// How many numbers of a session's channel came.
    pub(crate) fn taken(&self, session: SessionId) -> u64 {
        self.seen().next.get(&session).copied().unwrap_or(0)
    }

    pub(crate) fn judge(&self, outcome: Result<(), Violation>) {
        self.seen().verdict.judge(outcome);
    }

    pub(super) fn violation(&self) -> Option<Violation> {
        self.seen().verdict.found().cloned()
    }

    fn take(&self, session: SessionId, number: u64) {
        self.record.arrived(number);
        let mut seen = self.seen();
        let next = seen.next.entry(session).or_default();
        let expected = *next;
        *next = number + 1;
        if number != expected {
            let detail = format!("the resource of {session} got {number} in place of {expected}");
            seen.verdict.violated(WHOLE, detail);
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dialer for Desk {
    fn dial(&self, request: DialRequest) -> BoxFuture<'_, Result<Dialed, Refusal>> {
        let (desk, session) = (self.clone(), request.session);
        self.record.note(format_args!("the resource of {session} is dialled"));
        let (near, mut far) = duplex(ROOM);
        tokio::spawn(async move {
            while let Ok(number) = far.read_u64().await {
                desk.take(session, number);
                if desk.plant == Some(Mutation::TakenInTwice) && number == TWICE {
                    desk.take(session, number);
                }
                if far.write_u64(number).await.is_err() {
                    return;
                }
            }
        });
        std::future::ready(Ok(Dialed::without_worker(near))).boxed()
    }
}
