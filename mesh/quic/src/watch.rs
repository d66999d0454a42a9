//! Waiting for a view that changes something.

use std::{sync::Arc, time::Duration};

use rap_mesh_core::View;
use rap_proto::{Timestamp, snapshot::StalePolicy};
use tokio::time::timeout;

use crate::mesh::Mesh;

/// How long a request waits for the snapshot that its token was issued under.
pub(crate) const SNAPSHOT_WAIT: Duration = Duration::from_secs(2);

/// Resolves when `check` finds something in the current view or a later one, or when the view
/// goes stale and running sessions have to stop.
pub(crate) async fn until<T>(mesh: &Mesh, check: impl Fn(&View, Timestamp) -> Option<T>) -> T {
    let mut views = mesh.views.subscribe();
    loop {
        let view: Arc<View> = views.borrow_and_update().clone();
        let now = mesh.clock.now();
        if let Some(found) = check(&view, now) {
            return found;
        }
        tokio::select! {
            biased;
            () = changed(&mut views) => {}
            () = stale(&view, now) => {}
        }
    }
}

/// Resolves when something was so of every view that was seen for that long.
pub(crate) async fn throughout<V>(
    mut views: rap_watch::Receiver<V>,
    length: Duration,
    is_so: impl Fn(&V) -> bool,
) {
    let mut becomes = async |wanted: bool| {
        while is_so(&views.borrow_and_update()) != wanted {
            changed(&mut views).await;
        }
    };
    loop {
        becomes(true).await;
        if timeout(length, becomes(false)).await.is_err() {
            return;
        }
    }
}

/// Waits until the view has reached `version`, asking the agent for it. False when it did not
/// come in time.
pub(crate) async fn wait_for_version(mesh: &Mesh, version: u64) -> bool {
    let mut views = mesh.views.subscribe();
    if views.borrow().version >= version {
        return true;
    }
    mesh.events.snapshot_wanted(version);
    let arrived = views.wait_for(|view| view.version >= version);
    matches!(timeout(SNAPSHOT_WAIT, arrived).await, Ok(Ok(_)))
}

/// Waits a little for a snapshot newer than `version`, asking the agent for it: what was assigned
/// a moment ago may be on its way. False when none came.
pub(crate) async fn catch_up(mesh: &Mesh, version: u64, limit: Duration) -> bool {
    let mut views = mesh.views.subscribe();
    mesh.events.snapshot_wanted(version + 1);
    let newer = views.wait_for(|view| view.version > version);
    matches!(timeout(limit, newer).await, Ok(Ok(_)))
}

async fn changed<V>(views: &mut rap_watch::Receiver<V>) {
    if views.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Waits until the view is stale, if that ends anything. Whoever looked at one that is stale already has
/// seen it, and waits for another.
async fn stale(view: &View, now: Timestamp) {
    if view.stale_policy == StalePolicy::KeepSessions || view.is_stale(now) {
        return std::future::pending().await;
    }
    let beyond = Duration::from_millis(1);
    tokio::time::sleep(view.expires_at.since(now) + beyond).await;
}

#[cfg(test)]
mod tests {
    use rap_mesh_core::many_relays;
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_view_goes_stale_once_and_only_where_that_ends_something() {
        let at = Timestamp::from_unix_millis;
        let mut view = many_relays::view(1);
        view.expires_at = at(5_000);
        for (policy, now, waits) in [
            (StalePolicy::Stop, 4_000, Some(1_001)),
            (StalePolicy::Stop, 5_000, Some(1)),
            (StalePolicy::Stop, 5_001, None),
            (StalePolicy::KeepSessions, 4_000, None),
        ] {
            view.stale_policy = policy;
            let begun = Instant::now();
            let waited = timeout(Duration::from_secs(3_600), stale(&view, at(now))).await;
            let waited = waited.ok().map(|()| begun.elapsed());
            assert_eq!(waited, waits.map(Duration::from_millis), "{policy} {now}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_so_again_begins_its_time_anew() {
        const LENGTH: Duration = Duration::from_secs(12);
        let views = rap_watch::Sender::new(true);
        let begun = Instant::now();
        let waiting = throughout(views.subscribe(), LENGTH, |is_so| *is_so);
        let changing = async {
            for (after, is_so) in [(11, false), (30, true), (3, true), (8, false), (1, true)] {
                sleep(Duration::from_secs(after)).await;
                views.send_replace(is_so);
            }
            Instant::now()
        };
        let (changed, ()) = tokio::join!(changing, waiting);
        assert_eq!(changed - begun, Duration::from_secs(53));
        assert_eq!(changed.elapsed(), LENGTH, "since it was so for the last time");
    }
}
