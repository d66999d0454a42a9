//! Tells a node over the bus that its configuration changed. Losing a ring costs the time until
//! the node's next poll, nothing else.
//!
//! One change can concern every node. Each ring is signed when its turn comes, and others have
//! theirs in between: all at once would take the thread that all actors share for seconds.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use actix::{Actor, AsyncContext as _, Context};
use rap_control_core::State;
use rap_proto::{NodeId, bus::ControlBody};
use tokio::task::yield_now;

use crate::{app::App, clock};

/// How many nodes are rung for before the newest state is looked at again.
const RINGS_A_LOOK: usize = 256;

pub(crate) struct Doorbell {
    app: Arc<App>,
}

impl Doorbell {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

impl Actor for Doorbell {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.spawn(actix::fut::wrap_future(run(Arc::clone(&self.app))));
    }
}

/// Rings for as long as the server lives.
async fn run(app: Arc<App>) {
    let (mut states, mut bells) = (app.states(), Bells::default());
    loop {
        let state = Arc::clone(&states.borrow_and_update());
        bells.look(versions(&state));
        // Whoever folds on would have to copy a state that somebody holds.
        drop(state);
        for _ in 0..RINGS_A_LOOK {
            let Some((node, version)) = bells.next() else { break };
            ring(&app, node, version).await;
            yield_now().await;
        }
        if bells.due.is_empty() && states.changed().await.is_err() {
            return;
        }
    }
}

fn versions(state: &State) -> BTreeMap<NodeId, u64> {
    state.nodes().approved().map(|node| (node.id, node.version)).collect()
}

async fn ring(app: &App, node: NodeId, version: u64) {
    let (subject, payload) =
        app.say(node, ControlBody::SnapshotAvailable { version }, clock::now());
    match app.bus.publish(subject, payload).await {
        Ok(()) => app.metrics.count("doorbells", "rung"),
        Err(error) => {
            app.metrics.count("doorbells", "lost");
            tracing::debug!(%error, "a doorbell was not rung; the node polls");
        }
    }
}

/// Who is to be rung for. Of each node only the newest version counts.
#[derive(Debug, Default)]
struct Bells {
    /// What each node has, as far as it was looked at.
    seen: BTreeMap<NodeId, u64>,
    due: BTreeMap<NodeId, u64>,
    /// The last one that was rung for: who comes behind it is next, so nobody waits for ever.
    last: Option<NodeId>,
}

impl Bells {
    /// Takes in the versions of all nodes as of now.
    fn look(&mut self, versions: BTreeMap<NodeId, u64>) {
        self.due.retain(|node, _| versions.contains_key(node));
        for (node, version) in &versions {
            if self.seen.get(node).is_none_or(|seen| seen < version) {
                self.due.insert(*node, *version);
            }
        }
        self.seen = versions;
    }

    fn next(&mut self) -> Option<(NodeId, u64)> {
        let behind = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut due = self.due.range((behind, Bound::Unbounded)).chain(&self.due);
        let node = *due.next()?.0;
        self.last = Some(node);
        self.due.remove_entry(&node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(of: &[(u128, u64)]) -> BTreeMap<NodeId, u64> {
        of.iter().map(|(node, version)| (NodeId::from_u128(*node), *version)).collect()
    }

    fn rung(bells: &mut Bells, most: usize) -> Vec<(u128, u64)> {
        let rings = std::iter::from_fn(|| bells.next()).take(most);
        rings.map(|(node, version)| (node.uuid().as_u128(), version)).collect()
    }

    #[test]
    fn each_node_is_rung_for_once_and_for_its_newest_version() {
        let mut bells = Bells::default();
        bells.look(versions(&[(1, 5), (2, 5), (3, 5)]));
        assert_eq!(rung(&mut bells, 1), [(1, 5)]);
        bells.look(versions(&[(1, 5), (2, 7), (4, 6)]));
        assert_eq!(rung(&mut bells, 9), [(2, 7), (4, 6)], "the third one is gone");
        bells.look(versions(&[(1, 5), (2, 7), (4, 6)]));
        assert_eq!(rung(&mut bells, 9), []);
    }

    #[test]
    fn nobody_waits_for_ever_while_the_configuration_of_all_changes_again_and_again() {
        let mut bells = Bells::default();
        let mut heard = Vec::new();
        for version in 1..=3 {
            bells.look(versions(&[(1, version), (2, version), (3, version), (4, version)]));
            heard.extend(rung(&mut bells, 2));
        }
        assert_eq!(heard, [(1, 1), (2, 1), (3, 2), (4, 2), (1, 3), (2, 3)]);
    }
}
