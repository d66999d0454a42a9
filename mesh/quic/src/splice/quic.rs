//! Between two QUIC streams: a client's channel and its flow on a lane.

use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use quinn::{ReadError, RecvStream, SendStream, WriteError};
use rap_proto::observation::EndReason;

use super::{CopyEnd, Counters, Halves, Side, lost_because, natural, reason_of};

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

async fn copy(
    from: &mut RecvStream,
    to: &mut SendStream,
    count: &AtomicU64,
    source: Side,
) -> CopyEnd {
    let stopped = to.stopped();
    tokio::pin!(stopped);
    let mut pieces: [Bytes; PIECES] = Default::default();
    loop {
        let read = tokio::select! {
            biased;
            read = from.read_chunks(&mut pieces) => read,
            // A receiver that is gone is noticed also while the source is silent.
            Ok(Some(code)) = &mut stopped => return stop(from, code),
        };
        let received = match read {
            Ok(Some(received)) => &mut pieces[..received],
            Ok(None) => {
                // It fails only when the receiver stopped listening, which changes nothing now.
                let _ = to.finish();
                return CopyEnd::Finished;
            }
            Err(error) => return CopyEnd::Cut(read_cut(&error, source)),
        };
        let bytes: usize = received.iter().map(Bytes::len).sum();
        match to.write_all_chunks(received).await {
            Ok(()) => count.fetch_add(bytes as u64, Ordering::Relaxed),
            Err(WriteError::Stopped(code)) => return stop(from, code),
            Err(WriteError::ConnectionLost(error)) => {
                return CopyEnd::Cut(lost_because(&error, source.other().lost()));
            }
            Err(_) => return CopyEnd::Cut(source.other().lost()),
        };
    }
}

fn stop(from: &mut RecvStream, code: quinn::VarInt) -> CopyEnd {
    // A stream that has ended needs no stopping.
    let _ = from.stop(code);
    CopyEnd::Stopped(reason_of(code))
}

fn read_cut(error: &ReadError, source: Side) -> EndReason {
    match error {
        ReadError::Reset(code) => reason_of(*code).unwrap_or(source.reset()),
        ReadError::ConnectionLost(error) => source.lost_because(error),
        _ => source.lost(),
    }
}
