//! Copying between two byte streams with half-close, and finding out why a flow ended.

mod quic;
mod target;

use std::sync::atomic::{AtomicU64, Ordering};

use quinn::{ConnectionError, RecvStream, SendStream};
use rap_mesh_core::ended::{Close, DONE, ended_code, ended_reason};
use rap_proto::observation::EndReason;

pub(crate) use quic::splice;
pub(crate) use target::splice_target;

use crate::mesh::code;

/// Bytes of one flow so far.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    up: AtomicU64,
    down: AtomicU64,
}

impl Counters {
    /// Towards the resource, then towards the client.
    pub(crate) fn read(&self) -> (u64, u64) {
        (self.up.load(Ordering::Relaxed), self.down.load(Ordering::Relaxed))
    }
}

/// One QUIC stream's two halves.
pub(crate) struct Halves<'a> {
    pub(crate) send: &'a mut SendStream,
    pub(crate) recv: &'a mut RecvStream,
}

/// Which end of a flow a QUIC stream is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Side {
    Client,
    Lane,
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
        let code = code(ended_code(reason));
        // A direction that is closed already has nothing to be told.
        let _ = self.send.reset(code);
        let _ = self.recv.stop(code);
    }
}

impl Side {
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
    fn lost_because(self, error: &ConnectionError) -> EndReason {
        match self {
            // What a client says when it closes its connection is about itself.
            Self::Client => self.lost(),
            Self::Lane => lost_because(error, self.lost()),
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

/// Why a connection under a flow is gone; `otherwise` when it does not say.
fn lost_because(error: &ConnectionError, otherwise: EndReason) -> EndReason {
    let ConnectionError::ApplicationClosed(close) = error else { return otherwise };
    match Close::from_code(close.error_code.into_inner()) {
        Some(Close::Ended(reason)) => reason,
        Some(Close::Refused(_)) => EndReason::NodeLeft,
        Some(Close::Done) | None => otherwise,
    }
}

fn done() -> quinn::VarInt {
    code(DONE)
}

fn reason_of(code: quinn::VarInt) -> Option<EndReason> {
    ended_reason(code.into_inner())
}
