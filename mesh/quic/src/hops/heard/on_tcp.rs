//! Heartbeats where no datagram gets through: one after the other on a TCP connection that is kept.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use rap_mesh_core::{View, peers::peer::ANSWER_LIMIT, refusals::refusal};
use rap_proto::{
    Moment, NodeId, RefusalCode, Timestamp,
    refusal::Refusal,
    wire::hop::{Reply, Request},
};
use tokio::time::{Instant, timeout};

use super::said;
use crate::{
    PeerAnswer,
    frames::{read_frame, write_frame},
    hops::{HOP_REPLY_TIMEOUT, MAX_HOPS, connected_on_tcp},
    mesh::{Mesh, locked},
    pipe::{Inlet, Outlet},
    relay::NEXT_HEARTBEAT_WITHIN,
    tcp::Secured,
};

/// How long a connection is kept for the next heartbeat: longer than an active peer's may be apart.
const KEPT_FOR: Duration = Duration::from_secs(30);
/// How long everything on TCP may take: a connection and a question.
const LIMIT: Duration = Duration::from_secs(2);
const _: () = assert!(
    HOP_REPLY_TIMEOUT.as_millis() + LIMIT.as_millis() <= ANSWER_LIMIT.as_millis(),
    "a node that answers on TCP would be counted as missed"
);
const _: () = assert!(
    KEPT_FOR.as_millis() < NEXT_HEARTBEAT_WITHIN.as_millis(),
    "the other side would close what is still used"
);

/// Connections that wait for the next heartbeat: at most [`MAX_HOPS`], one to a node. Whoever asks
/// takes one out.
#[derive(Default)]
pub(crate) struct KeptLines(Mutex<Kept<Line>>);

struct Line {
    outlet: Outlet,
    inlet: Inlet,
    certificate_until: Timestamp,
}

/// A node of a release without heartbeats closes the connection, and counts as one that does not
/// answer.
pub(super) async fn ask(mesh: &Mesh, node: NodeId) -> Result<PeerAnswer, Refusal> {
    let asked = timeout(LIMIT, ask_over_a_line(mesh, node)).await;
    asked.unwrap_or_else(|_| Err(refusal(RefusalCode::PathUnavailable)))
}

async fn ask_over_a_line(mesh: &Mesh, node: NodeId) -> Result<PeerAnswer, Refusal> {
    if let Some(line) = mesh.hops.lines.take(mesh, node)
        && let Ok(answer) = ask_over(mesh, node, line).await
    {
        return Ok(answer);
    }
    let (Secured { outlet, inlet, certificate_until, .. }, _) =
        connected_on_tcp(mesh, node).await?;
    let certificate_until =
        certificate_until.ok_or_else(|| refusal(RefusalCode::PeerNotTrusted))?;
    let line = Line { outlet, inlet, certificate_until };
    ask_over(mesh, node, line).await
}

/// Keeps the line when it brings an answer.
async fn ask_over(mesh: &Mesh, node: NodeId, mut line: Line) -> Result<PeerAnswer, Refusal> {
    let begun = Instant::now();
    let reply = line.exchange().await.ok_or_else(|| refusal(RefusalCode::PathUnavailable))?;
    let rtt = begun.elapsed();
    let said = Some(said(reply)?);
    let certificate_until = line.certificate_until;
    locked(&mesh.hops.lines.0).keep(mesh.clock.moment(), node, line);
    Ok(PeerAnswer { rtt, said, packets: None, certificate_until })
}

impl Line {
    async fn exchange(&mut self) -> Option<Reply> {
        write_frame(&mut self.outlet, &Request::Heartbeat {}).await.ok()?;
        read_frame(&mut self.inlet).await.ok()
    }
}

impl KeptLines {
    /// Ends the connections to nodes that the view no longer trusts.
    pub(crate) fn apply(&self, view: &View) {
        locked(&self.0).lines.retain(|node, _| view.peer(*node).is_some());
    }

    pub(crate) fn remove(&self, node: NodeId) {
        locked(&self.0).take(node);
    }

    fn take(&self, mesh: &Mesh, node: NodeId) -> Option<Line> {
        let line = locked(&self.0).take(node)?;
        (line.certificate_until > mesh.clock.now()).then_some(line)
    }
}

/// INVARIANT: no more than [`MAX_HOPS`].
struct Kept<L> {
    /// By when the node last answered.
    lines: BTreeMap<NodeId, (Moment, L)>,
}

impl<L> Default for Kept<L> {
    fn default() -> Self {
        Self { lines: BTreeMap::new() }
    }
}

impl<L> Kept<L> {
    fn take(&mut self, node: NodeId) -> Option<L> {
        self.lines.remove(&node).map(|(_, line)| line)
    }

    /// Keeps it, unless there is no room.
    fn keep(&mut self, now: Moment, node: NodeId, line: L) {
        self.lines.retain(|_, (heard_at, _)| now.since(*heard_at) < KEPT_FOR);
        if self.lines.len() < MAX_HOPS {
            self.lines.insert(node, (now, line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_kept_and_each_for_so_long() {
        let (mut kept, begun) = (Kept::default(), Moment::default());
        for node in 0..=MAX_HOPS as u128 {
            kept.keep(begun, NodeId::from_u128(node), node);
        }
        assert_eq!(kept.lines.len(), MAX_HOPS);
        let last = NodeId::from_u128(MAX_HOPS as u128);
        assert_eq!(kept.take(last), None, "there was no room");
        kept.keep(begun + KEPT_FOR, last, 7);
        assert_eq!(kept.lines.len(), 1, "nobody was heard over the others");
        assert_eq!(kept.take(last), Some(7));
    }
}
