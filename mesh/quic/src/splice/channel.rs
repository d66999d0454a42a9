//! Between a client's channel and its flow on a lane, each on whichever carrier.

use std::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use rap_mesh_core::{ended::ended_reason, shape::Direction};
use rap_proto::observation::EndReason;

use super::{CopyEnd, Counters, Halves, Side, natural, passed_on};
use crate::{
    lanes::Metered,
    pieces::PIECES,
    pipe::{Inlet, Outlet, Unsent},
    shaping::Shaped,
};

/// Copies both ways until both directions are closed, one of them is cut, or `over` says so.
/// `shaped` says how fast. Returns why the flow ended.
pub(crate) async fn splice(
    client: &mut Halves<'_>,
    lane: &mut Halves<'_>,
    shaped: Option<&Shaped>,
    (counters, [up_meter, down_meter]): (&Counters, [Metered; 2]),
    over: impl Future<Output = EndReason>,
) -> EndReason {
    let cut = {
        let up_pace = shaped.map(|shaped| Pace { shaped, direction: Direction::Up });
        let down_pace = shaped.map(|shaped| Pace { shaped, direction: Direction::Down });
        let up_count = (&counters.up, up_meter);
        let down_count = (&counters.down, down_meter);
        let up = copy(client.recv, lane.send, up_pace, up_count, Side::Client);
        let down = copy(lane.recv, client.send, down_pace, down_count, Side::Lane);
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
    from: &mut Inlet,
    to: &mut Outlet,
    pace: Option<Pace<'_>>,
    (count, mut meter): (&AtomicU64, Metered),
    source: Side,
) -> CopyEnd {
    let stopped = to.stopped();
    tokio::pin!(stopped);
    let mut pieces: [Bytes; PIECES] = Default::default();
    loop {
        let asked = meter.begin();
        let read = tokio::select! {
            biased;
            read = from.pieces(&mut pieces) => read,
            // A receiver that is gone is noticed also while the source is silent.
            unsent = &mut stopped => return ended(from, unsent, source),
        };
        meter.read(asked);
        let received = match read {
            Ok(0) => {
                // It fails only when the receiver stopped listening, which changes nothing now.
                to.finish().await;
                return CopyEnd::Finished;
            }
            Ok(received) => &mut pieces[..received],
            Err(broken) => return CopyEnd::Cut(source.broke(broken)),
        };
        if let Some(pace) = pace.filter(|pace| !pace.shaped.is_free()) {
            let bytes = received.iter().map(Bytes::len).sum();
            let counted = (count, &mut meter);
            let passing = paced(received, to, pace, stopped.as_mut(), counted);
            if let Err(unsent) = passed_on((from, source), passing).await {
                return ended(from, unsent, source);
            }
            measure(&mut meter, bytes, (from, to, source));
            continue;
        }
        let bytes: usize = received.iter().map(Bytes::len).sum();
        let begun = meter.begin();
        match passed_on((from, source), to.write_pieces(received)).await {
            Ok(()) => count.fetch_add(bytes as u64, Ordering::Relaxed),
            Err(unsent) => return ended(from, unsent, source),
        };
        meter.wrote(begun);
        measure(&mut meter, bytes, (from, to, source));
    }
}

/// So many bytes passed. What the lane's end of the direction is on may be found to be the worse carrier.
fn measure(meter: &mut Metered, bytes: usize, (from, to, source): (&Inlet, &Outlet, Side)) {
    let carrier = || match source {
        Side::Client => to.carrier(),
        Side::Lane => from.carrier(),
    };
    if let Some(worse) = meter.passed(bytes, carrier) {
        match source {
            Side::Client => to.leave(worse),
            Side::Lane => from.leave(worse),
        }
    }
}

/// Who says how fast one direction may be.
#[derive(Clone, Copy)]
struct Pace<'a> {
    shaped: &'a Shaped,
    direction: Direction,
}

/// Passes pieces on as fast as they may be. Nothing more is taken meanwhile.
async fn paced(
    pieces: &mut [Bytes],
    to: &mut Outlet,
    Pace { shaped, direction }: Pace<'_>,
    mut stopped: Pin<&mut impl Future<Output = Unsent>>,
    (count, meter): (&AtomicU64, &mut Metered),
) -> Result<(), Unsent> {
    let mut left: usize = pieces.iter().map(Bytes::len).sum();
    while left > 0 {
        let granted = tokio::select! {
            biased;
            granted = shaped.pass(direction, left) => granted,
            // A receiver that is gone is noticed also while the piece waits.
            unsent = &mut stopped => return Err(unsent),
        };
        let mut part: [Bytes; PIECES] = Default::default();
        let filled = split_off(pieces, granted, &mut part);
        let begun = meter.begin();
        to.write_pieces(&mut part[..filled]).await?;
        meter.wrote(begun);
        count.fetch_add(granted as u64, Ordering::Relaxed);
        left -= granted;
    }
    Ok(())
}

/// Moves the first `bytes` of `pieces` into `part`; says how many pieces that made.
fn split_off(pieces: &mut [Bytes], mut bytes: usize, part: &mut [Bytes]) -> usize {
    let mut filled = 0;
    for piece in pieces.iter_mut().filter(|piece| !piece.is_empty()) {
        if bytes == 0 {
            break;
        }
        part[filled] = piece.split_to(bytes.min(piece.len()));
        bytes -= part[filled].len();
        filled += 1;
    }
    filled
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_are_split_off_in_their_order_and_the_rest_stays() {
        let mut pieces = [&b"abc"[..], b"de", b"fgh"].map(Bytes::from_static);
        let mut part: [Bytes; PIECES] = Default::default();
        assert_eq!(split_off(&mut pieces, 4, &mut part), 2);
        assert_eq!((&part[0][..], &part[1][..]), (&b"abc"[..], &b"d"[..]));
        assert_eq!(split_off(&mut pieces, 4, &mut part), 2);
        assert_eq!((&part[0][..], &part[1][..]), (&b"e"[..], &b"fgh"[..]));
        assert_eq!(split_off(&mut pieces, 1, &mut part), 0);
    }
}
