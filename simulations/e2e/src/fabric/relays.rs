//! Relays that carry what runs, and are killed.

use std::time::{Duration, UNIX_EPOCH};

use rap_proto::Timestamp;
use rustix::process::Signal;
use serde_json::Value;

use super::{Fabric, PATIENCE};
use crate::{Space, until};

/// The relays of which each can take over from the other.
const PAIR: [Space; 2] = [Space::Relay, Space::Spare];
/// What agents say in their logs when a lane has another path.
const CHANGED: &str = "lane changed its path";

/// A relay that carries the entry's interactive lane.
#[derive(Debug)]
pub struct Used {
    pub relay: Space,
    node: Value,
}

/// A relay that was killed.
#[derive(Debug)]
pub struct Killed {
    pub relay: Space,
    node: Value,
    /// By the clock of the agents' logs.
    at: Timestamp,
}

impl Fabric {
    /// The one of the two relays that carries the entry's interactive lane, once the other is warm.
    ///
    /// # Panics
    /// When it does not come to that.
    pub async fn used_relay(&self) -> Used {
        until("one relay carries the lane, and the other is warm", PATIENCE, async || {
            let lanes = self.entry_lanes().await?;
            let lane = lanes.into_iter().find(|lane| lane["lane"] == "interactive")?;
            let mut used = None;
            for relay in PAIR {
                let status = self.agent_status(relay).await?;
                (status["mesh"]["relayedFlows"].as_u64()? > 0).then_some(())?;
                if status["node"] == lane["relay"] {
                    used = Some(Used { relay, node: status["node"].clone() });
                }
            }
            used
        })
        .await
    }

    /// Kills a relay (SIGKILL).
    pub fn kill_relay(&self, Used { relay, node }: Used) -> Killed {
        self.signal_agent(relay, Signal::KILL);
        Killed { relay, node, at: now() }
    }

    /// How long after a relay was killed the entry's interactive lane changed its path, by the entry's log.
    pub fn left_after(&self, killed: &Killed) -> Option<Duration> {
        let log = self.agents.get(&Space::Entry)?.output();
        let changes =
            log.lines().filter(|line| line.contains(CHANGED) && line.contains("lane=interactive"));
        let mut times =
            changes.filter_map(|line| line.split(' ').next()?.parse::<Timestamp>().ok());
        times.find(|time| *time >= killed.at).map(|time| time.since(killed.at))
    }

    /// Waits until no lane of the entry goes over a relay that was killed. One that carries nothing notices
    /// later than others.
    pub async fn lanes_leave(&self, killed: &Killed) {
        until("every lane has left it", PATIENCE, async || {
            let lanes = self.entry_lanes().await?;
            lanes.iter().all(|lane| lane["relay"] != killed.node).then_some(())
        })
        .await;
    }

    async fn entry_lanes(&self) -> Option<Vec<Value>> {
        self.agent_status(Space::Entry).await?["mesh"]["lanes"].as_array().cloned()
    }
}

fn now() -> Timestamp {
    let since = UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
