//! The servers of control, shared by all callers of one agent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rap_agent_core::servers::{HeldServers, Servers};
use rap_proto::{ControlUrl, Moment};

use crate::board::ControlStatus;

/// Clones share one choice: what one caller finds out, the others need not.
#[derive(Clone)]
pub(crate) struct SharedServers(Arc<Mutex<Servers>>);

impl SharedServers {
    pub(crate) fn new(joined: ControlUrl, held: &HeldServers, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Servers::new(joined, held, seed))))
    }

    /// One server, and no other.
    pub(crate) fn only(server: ControlUrl) -> Self {
        Self::new(server, &HeldServers::default(), 0)
    }

    pub(crate) fn present(&self) -> ControlUrl {
        self.lock().present().clone()
    }

    pub(crate) fn is_one(&self) -> bool {
        self.lock().count() == 1
    }

    pub(crate) fn failed(&self, tried: &[ControlUrl]) -> Option<ControlUrl> {
        self.lock().failed(tried)
    }

    pub(crate) fn leave(&self, now: Moment) {
        let mut servers = self.lock();
        if servers.leave(now) {
            tracing::info!(to = %servers.present(), "another server of control is asked");
        }
    }

    /// What is to be kept, if it is news.
    pub(crate) fn told(&self, told: &[String]) -> Option<HeldServers> {
        let mut servers = self.lock();
        servers.told(told).then(|| servers.held())
    }

    pub(crate) fn show(&self, status: &mut ControlStatus) {
        let servers = self.lock();
        status.server = Some(servers.present().to_string());
        status.servers = servers.count();
        status.server_changes = servers.changes();
    }

    fn lock(&self) -> MutexGuard<'_, Servers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
