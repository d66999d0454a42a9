//! Copying between two byte streams with half-close, and finding out why a flow ended.

mod channel;
mod joint;
mod target;

use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
};

use rap_mesh_core::ended::{Close, ended_code, ended_reason};
use rap_proto::observation::EndReason;

pub(crate) use channel::splice;
pub(crate) use joint::{Joined, join};
pub(crate) use target::splice_target;

use crate::pipe::{Broken, Inlet, Outlet};

/// Bytes of one flow so far.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    up: AtomicU64,
    down: AtomicU64,
}

impl Counters {
    pub(crate) fn add(&self, up: u64, down: u64) {
        self.up.fetch_add(up, Ordering::Relaxed);
        self.down.fetch_add(down, Ordering::Relaxed);
    }

    /// Towards the resource, then towards the client.
    pub(crate) fn read(&self) -> (u64, u64) {
        (self.up.load(Ordering::Relaxed), self.down.load(Ordering::Relaxed))
    }
}

/// Both directions of one side of a flow.
pub(crate) struct Halves<'a> {
    pub(crate) send: &'a mut Outlet,
    pub(crate) recv: &'a mut Inlet,
}

/// Which side of a flow it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Side {
    Client,
    Lane,
}

/// Waits until something that came from this side was passed on. What a lane brings meanwhile is received:
/// a client or a resource that takes its time must not hold up what else runs on the lane.
async fn passed_on<T>((from, side): (&Inlet, Side), passed: impl Future<Output = T>) -> T {
    match side {
        Side::Lane => from.ahead_until(passed).await,
        Side::Client => passed.await,
    }
}

/// How one direction ended.
enum CopyEnd {
    /// Its source closed it, and that was passed on.
    Finished,
    /// Its receiver wants no more; the other direction may go on.
    Stopped(Option<EndReason>),
    /// The flow is cut.
    Cut(EndReason),
}

impl Halves<'_> {
    /// Ends both directions at once and tells the other side why.
    fn cut(&mut self, reason: EndReason) {
        let code = ended_code(reason);
        // A direction that is closed already has nothing to be told.
        self.send.reset(code);
        self.recv.stop(code);
    }
}

impl Side {
    /// Why a flow ends when this side sends no more, for this reason.
    fn broke(self, broken: Broken) -> EndReason {
        match broken {
            Broken::Reset(code) => ended_reason(code).unwrap_or(self.reset()),
            Broken::Lost(close) => self.lost_because(close),
        }
    }

    /// Why a flow ends whose stream on this side is reset without a reason.
    const fn reset(self) -> EndReason {
        match self {
            Self::Client => EndReason::ClientClosed,
            Self::Lane => EndReason::TargetClosed,
        }
    }

    /// Why it ends when this side's connection is lost.
    const fn lost(self) -> EndReason {
        match self {
            Self::Client => EndReason::ClientLost,
            Self::Lane => EndReason::PathLost,
        }
    }

    /// The same, when the connection's end may say more.
    fn lost_because(self, close: Option<Close>) -> EndReason {
        match (self, close) {
            (Self::Lane, Some(Close::Ended(reason))) => reason,
            (Self::Lane, Some(Close::Refused(_))) => EndReason::NodeLeft,
            // What a client says when it closes its connection is about itself.
            (Self::Client, _) | (Self::Lane, Some(Close::Done) | None) => self.lost(),
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Client => Self::Lane,
            Self::Lane => Self::Client,
        }
    }
}

/// Why a flow ended naturally: whose end came first.
fn natural(first: Option<EndReason>) -> EndReason {
    first.unwrap_or(EndReason::ClientClosed)
}
