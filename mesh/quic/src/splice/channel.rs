//! Between a client's channel and its flow on a lane, each on whichever carrier.

use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use rap_mesh_core::ended::ended_reason;
use rap_proto::observation::EndReason;

use super::{CopyEnd, Counters, Halves, Side, natural};
use crate::pipe::{Inlet, Outlet, Unsent};

/// How many received pieces are passed on at once.
const PIECES: usize = 32;

/// Copies both ways until both directions are closed, one of them is cut, or `over` says so.
/// Returns why the flow ended.
pub(crate) async fn splice(
    client: &mut Halves<'_>,
    lane: &mut Halves<'_>,
    counters: &Counters,
    over: impl Future<Output = EndReason>,
) -> EndReason {
    let cut = {
        let up = copy(client.recv, lane.send, &counters.up, Side::Client);
        let down = copy(lane.recv, client.send, &counters.down, Side::Lane);
        tokio::pin!(up, down, over);
        let (mut up_open, mut down_open) = (true, true);
        let mut first = None;
        loop {
            let end = tokio::select! {
                biased;
                reason = &mut over => break reason,
                end = &mut up, if up_open => {
                    up_open = false;
                    first.get_or_insert(match &end {
                        CopyEnd::Stopped(reason) => reason.unwrap_or(EndReason::TargetClosed),
                        _ => EndReason::ClientClosed,
                    });
                    end
                }
                end = &mut down, if down_open => {
                    down_open = false;
                    first.get_or_insert(match &end {
                        CopyEnd::Stopped(_) => EndReason::ClientClosed,
                        _ => EndReason::TargetClosed,
                    });
                    end
                }
            };
            if let CopyEnd::Cut(reason) = end {
                break reason;
            }
            if !up_open && !down_open {
                return natural(first);
            }
        }
    };
    client.cut(cut);
    lane.cut(cut);
    cut
}

async fn copy(from: &mut Inlet, to: &mut Outlet, count: &AtomicU64, source: Side) -> CopyEnd {
    let stopped = to.stopped();
    tokio::pin!(stopped);
    let mut pieces: [Bytes; PIECES] = Default::default();
    loop {
        let read = tokio::select! {
            biased;
            read = from.pieces(&mut pieces) => read,
            // A receiver that is gone is noticed also while the source is silent.
            unsent = &mut stopped => return ended(from, unsent, source),
        };
        let received = match read {
            Ok(0) => {
                // It fails only when the receiver stopped listening, which changes nothing now.
                to.finish().await;
                return CopyEnd::Finished;
            }
            Ok(received) => &mut pieces[..received],
            Err(broken) => return CopyEnd::Cut(source.broke(broken)),
        };
        let bytes: usize = received.iter().map(Bytes::len).sum();
        match to.write_pieces(received).await {
            Ok(()) => count.fetch_add(bytes as u64, Ordering::Relaxed),
            Err(unsent) => return ended(from, unsent, source),
        };
    }
}

/// How a direction ends whose receiver takes no more.
fn ended(from: &mut Inlet, unsent: Unsent, source: Side) -> CopyEnd {
    match unsent {
        Unsent::Stopped(code) => {
            // A source that has ended needs no stopping.
            from.stop(code);
            CopyEnd::Stopped(ended_reason(code))
        }
        Unsent::Lost(close) => CopyEnd::Cut(source.other().lost_because(close)),
    }
}
