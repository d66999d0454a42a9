//! The endpoint's fence: asked before each leased channel, and by those that run.
//!
//! Where a path serves many resources, a relay knows none of them, and a lane is no more of one
//! connection than of another: so the generation comes with each flow's token, and entry and
//! egress ask the fence for each flow.

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use rap_mesh_core::fence::{Admitted, Fence, check_held};
use rap_proto::{Leased, RefusalCode};
use tokio::time::{sleep, timeout};

use crate::{
    Leases, MarkNotKept,
    frames::{CHANNEL_REPLY_TIMEOUT, TARGET_DIAL_TIMEOUT},
    mesh::locked,
    watch::SNAPSHOT_WAIT,
};

/// How long making a mark durable may take.
const KEEP_LIMIT: Duration = Duration::from_secs(2);
/// How long a flow waits for this node to hold the lease that it was granted a moment ago.
const LEASE_WAIT: Duration = Duration::from_secs(2);

const EGRESS_TAKES_S: u64 = SNAPSHOT_WAIT.as_secs()
    + KEEP_LIMIT.as_secs()
    + LEASE_WAIT.as_secs()
    + TARGET_DIAL_TIMEOUT.as_secs();
const _: () = assert!(CHANNEL_REPLY_TIMEOUT.as_secs() > EGRESS_TAKES_S, "the egress says why");

pub(crate) struct Fencing {
    fence: Mutex<Fence>,
    leases: Arc<dyn Leases>,
    /// Changes when a newer generation of any connection was seen.
    seen: rap_watch::Sender<()>,
}

impl Fencing {
    pub(crate) fn new(leases: Arc<dyn Leases>, marks: Vec<Leased>) -> Self {
        let fence = Mutex::new(Fence::new(marks));
        Self { fence, leases, seen: rap_watch::Sender::new(()) }
    }

    /// Whether something under this lease may go on here. What is newer than anything before is
    /// durable when this returns, and ends what runs under an older generation.
    pub(crate) async fn admit(&self, leased: Option<Leased>) -> Result<(), RefusalCode> {
        let Some(leased) = leased else { return Ok(()) };
        let admitted = locked(&self.fence).admit(leased)?;
        let Admitted::Raise(mark) = admitted else { return Ok(()) };
        self.seen.send_replace(());
        let kept = timeout(KEEP_LIMIT, self.leases.keep(mark)).await;
        kept.unwrap_or(Err(MarkNotKept)).map_err(|error| {
            tracing::error!(%error, connection = %mark.connection, "a leased channel is refused");
            RefusalCode::LeaseNotHeld
        })?;
        locked(&self.fence).raised(mark)
    }

    /// An egress' check that it holds this very lease itself. A grant is known to tokens a little
    /// earlier than to its node, so it waits a little.
    pub(crate) async fn hold(&self, leased: Option<Leased>) -> Result<(), RefusalCode> {
        let Some(leased) = leased else { return Ok(()) };
        let mut changes = self.leases.changes();
        let held = async {
            loop {
                changes.borrow_and_update();
                match self.held(leased) {
                    Err(RefusalCode::LeaseNotHeld) => changed(&mut changes).await,
                    outcome => return outcome.map(drop),
                }
            }
        };
        timeout(LEASE_WAIT, held).await.unwrap_or(Err(RefusalCode::LeaseNotHeld))
    }

    /// For how much longer this node holds this lease, unless it is renewed.
    pub(crate) fn held(&self, leased: Leased) -> Result<Duration, RefusalCode> {
        check_held(leased, self.leases.held(leased.connection))
    }

    /// At an egress: resolves when a running flow has to end, because this node holds its lease no
    /// more or saw a newer one.
    pub(crate) async fn over(&self, leased: Option<Leased>) {
        tokio::select! {
            biased;
            () = self.superseded(leased) => {}
            () = self.lost(leased) => {}
        }
    }

    /// Resolves when a newer generation was seen here.
    pub(crate) async fn superseded(&self, leased: Option<Leased>) {
        let Some(Leased { connection, generation }) = leased else { return pending().await };
        let mut seen = self.seen.subscribe();
        loop {
            let highest = locked(&self.fence).highest(connection);
            if highest.is_some_and(|highest| highest > generation) {
                return;
            }
            changed(&mut seen).await;
        }
    }

    async fn lost(&self, leased: Option<Leased>) {
        let Some(leased) = leased else { return pending().await };
        let mut changes = self.leases.changes();
        loop {
            changes.borrow_and_update();
            let Ok(remaining) = self.held(leased) else { return };
            tokio::select! {
                biased;
                () = changed(&mut changes) => {}
                () = sleep(remaining) => {}
            }
        }
    }
}

/// Whoever could change it no more is gone: then time alone decides.
async fn changed(changes: &mut rap_watch::Receiver<()>) {
    if changes.changed().await.is_err() {
        pending().await
    }
}
