//! Asking peers whether they are there: on QUIC, and on TCP where no datagram gets through.

mod on_tcp;

use std::sync::{Arc, atomic::Ordering};

use rap_mesh_core::{
    peers::{Packets, Said},
    refusals::refusal,
};
use rap_proto::{
    NodeId, RefusalCode,
    refusal::Refusal,
    wire::hop::{Reply, Request},
};
use tokio::time::timeout;

use super::{HOP_REPLY_TIMEOUT, Hop, ask, connected, exchange};
use crate::{
    PeerAnswer,
    mesh::{Mesh, locked},
    pool::Pooled as _,
    tls::certificate_until,
};
pub(super) use on_tcp::KeptLines;

/// No relay has a flow of this number: they count from one.
const NO_FLOW: u64 = 0;

/// Asks a node whether it is there. Each time on QUIC first, so that a network that lets datagrams
/// through again is noticed.
pub(crate) async fn ask_peer(mesh: &Arc<Mesh>, node: NodeId) -> Result<PeerAnswer, Refusal> {
    match ask_on_quic(mesh, node).await {
        Err(refused) if refused.code == RefusalCode::PathUnavailable => {
            on_tcp::ask(mesh, node).await
        }
        outcome => {
            mesh.hops.lines.remove(node);
            outcome
        }
    }
}

async fn ask_on_quic(mesh: &Arc<Mesh>, node: NodeId) -> Result<PeerAnswer, Refusal> {
    let hop = connected(mesh, node).await?;
    let (certificate_until, now) = (certificate_until(&hop.0), mesh.clock.now());
    let Some(certificate_until) = certificate_until.filter(|until| *until > now) else {
        // Flows that run go on; whoever asks next is shown what the node has now.
        mesh.hops.pool.remove_if(node, |_| true);
        return Err(refusal(RefusalCode::PeerNotTrusted));
    };
    let said = heartbeat(&hop).await?;
    let packets = Some(packets(&hop));
    Ok(PeerAnswer { rtt: hop.0.rtt(), said, packets, certificate_until })
}

/// What the connection counted since this was last asked.
fn packets(hop: &Hop) -> Packets {
    let path = hop.0.stats().path;
    // A probe for a larger datagram that is lost is not counted as lost.
    let sent = path.sent_packets.saturating_sub(path.sent_plpmtud_probes);
    let all = Packets { sent, lost: path.lost_packets };
    let before = std::mem::replace(&mut *locked(&hop.1.packets), all);
    Packets {
        sent: all.sent.saturating_sub(before.sent),
        lost: all.lost.saturating_sub(before.lost),
    }
}

/// What a node says of itself. One of an earlier release says nothing: it closes the stream, and is
/// asked about no flow, which everybody refuses; the next time at once.
async fn heartbeat(hop: &Hop) -> Result<Option<Said>, Refusal> {
    if hop.1.is_older.load(Ordering::Relaxed) {
        return ask_about_no_flow(hop).await;
    }
    let gone = || refusal(RefusalCode::PathUnavailable);
    let answer = timeout(HOP_REPLY_TIMEOUT, exchange(hop, &Request::Heartbeat {})).await;
    match answer.map_err(|_| gone())? {
        Some(reply) => return said(reply).map(Some),
        None if !hop.is_usable() => return Err(gone()),
        None => {}
    }
    let says_nothing = ask_about_no_flow(hop).await?;
    hop.1.is_older.store(true, Ordering::Relaxed);
    Ok(says_nothing)
}

fn said(reply: Reply) -> Result<Said, Refusal> {
    match reply {
        Reply::Here { load, bandwidth_kbps } => Ok(Said { load, bandwidth_kbps }),
        Reply::Refused(refused) => Err(refused),
        _ => Err(refusal(RefusalCode::Malformed)),
    }
}

/// What nodes of earlier releases are asked. They say nothing of themselves.
async fn ask_about_no_flow(hop: &Hop) -> Result<Option<Said>, Refusal> {
    match ask(hop, &Request::RefreshFlow { flow: NO_FLOW }).await? {
        Reply::Refused(refused) if refused.code == RefusalCode::PathUnavailable => Ok(None),
        Reply::Refused(refused) => Err(refused),
        _ => Err(refusal(RefusalCode::Malformed)),
    }
}
