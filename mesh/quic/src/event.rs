//! What the mesh tells the agent.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rap_proto::{
    RefusalCode, Timestamp,
    observation::{Claimed, Observation},
    paths::PathChange,
};
use tokio::sync::mpsc;

/// How many events wait for the agent. When it is full, refusals are counted and dropped, and
/// sessions wait with their reports.
pub const EVENT_QUEUE: usize = 1024;
/// So many places of it no change of a path takes, however many organizations have lanes that flap: they
/// are for what happens to sessions.
const KEPT_FOR_SESSIONS: usize = EVENT_QUEUE / 2;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeshEvent {
    /// For the audit: `SessionStarted` (from an entry and from an egress), `SessionEnded` (from an
    /// entry), `AccessRefused` (from whichever node decided it) or `PathChanged` (from an entry).
    Observed { at: Timestamp, observation: Observation },
    /// A token asks for a newer snapshot than this node has: fetch now. Repeated for as long as
    /// somebody waits.
    SnapshotWanted { version: u64 },
}

pub type MeshEvents = mpsc::Receiver<MeshEvent>;

#[derive(Clone)]
pub(crate) struct EventSender {
    queue: mpsc::Sender<MeshEvent>,
    dropped: Arc<AtomicU64>,
}

/// A place in the queue.
pub(crate) struct Room<'a>(mpsc::Permit<'a, MeshEvent>);

impl Room<'_> {
    pub(crate) fn tell(self, at: Timestamp, observation: Observation) {
        self.0.send(MeshEvent::Observed { at, observation });
    }
}

impl EventSender {
    pub(crate) fn channel() -> (Self, MeshEvents) {
        let (queue, events) = mpsc::channel(EVENT_QUEUE);
        (Self { queue, dropped: Arc::default() }, events)
    }

    /// Room for one report, once there is some: whoever gives up waiting has told nothing. None when
    /// nobody listens any more.
    pub(crate) async fn room(&self) -> Option<Room<'_>> {
        self.queue.reserve().await.ok().map(Room)
    }

    /// Waits until all that was reported so far has been taken.
    pub(crate) async fn taken(&self) {
        let _ = self.queue.reserve_many(EVENT_QUEUE).await;
    }

    pub(crate) fn refused(&self, at: Timestamp, code: RefusalCode, claimed: Option<Claimed>) {
        tracing::info!(code = code.as_str(), session = ?claimed.as_ref().map(|c| c.session), "refused");
        let observation = Observation::AccessRefused { code, claimed };
        self.droppable(MeshEvent::Observed { at, observation });
    }

    /// Returns whether it will be reported.
    pub(crate) fn path_changed(&self, at: Timestamp, change: PathChange) -> bool {
        if self.queue.capacity() <= KEPT_FOR_SESSIONS {
            self.drop_one();
            return false;
        }
        let observation = Observation::PathChanged { change };
        self.droppable(MeshEvent::Observed { at, observation })
    }

    pub(crate) fn snapshot_wanted(&self, version: u64) {
        self.droppable(MeshEvent::SnapshotWanted { version });
    }

    /// Counts an event that is not reported.
    pub(crate) fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Returns whether there was room.
    fn droppable(&self, event: MeshEvent) -> bool {
        let has_room = self.queue.try_send(event).is_ok();
        if !has_room {
            self.drop_one();
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use rap_proto::{Lane, NodeId, OrganizationId, paths::PathCarrier};

    use super::*;

    #[tokio::test]
    async fn refusals_that_nobody_reads_are_counted_and_dropped() {
        let (sender, mut events) = EventSender::channel();
        for _ in 0..EVENT_QUEUE + 3 {
            sender.refused(Timestamp::default(), RefusalCode::AccessDenied, None);
        }
        assert_eq!(sender.dropped(), 3);
        assert!(events.recv().await.is_some());
        sender.snapshot_wanted(1);
        assert_eq!(sender.dropped(), 3, "there was room again");
    }

    #[tokio::test]
    async fn changes_of_paths_leave_room_for_what_happens_to_sessions() {
        let (sender, _events) = EventSender::channel();
        let change = PathChange {
            egress: NodeId::from_u128(1),
            organization: OrganizationId::from_u128(2),
            lane: Lane::Bulk,
            carrier: PathCarrier::Tcp,
            from: None,
            to: None,
            left_out: 0,
        };
        let reported =
            (0..EVENT_QUEUE).filter(|_| sender.path_changed(Timestamp::default(), change)).count();
        assert_eq!(reported, EVENT_QUEUE - KEPT_FOR_SESSIONS);
        let dropped = sender.dropped();
        for _ in 0..KEPT_FOR_SESSIONS {
            sender.refused(Timestamp::default(), RefusalCode::AccessDenied, None);
        }
        assert_eq!(sender.dropped(), dropped, "there is room");
    }

    #[tokio::test]
    async fn whoever_leaves_can_wait_until_all_is_taken() {
        let (sender, mut events) = EventSender::channel();
        sender.taken().await;
        sender.snapshot_wanted(1);
        sender.snapshot_wanted(2);
        assert!(events.recv().await.is_some());
        assert!(sender.taken().now_or_never().is_none(), "one is left");
        assert!(events.recv().await.is_some());
        sender.taken().await;
    }
}
