//! The servers of control, shared by all callers of one agent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rap_agent_core::servers::{HeldServers, Servers};
use rap_proto::{ControlUrl, Moment};

use crate::board::ControlStatus;

/// Clones share one choice: what one caller finds out, the others need not.
#[derive(Clone)]
pub(crate) struct SharedServers(Arc<Mutex<Servers>>);

impl SharedServers {
    pub(crate) fn new(joined: ControlUrl, held: HeldServers, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Servers::new(joined, held, seed))))
    }

    /// Begins at `server`, whatever others there are.
    pub(crate) fn at(server: ControlUrl, others: &[ControlUrl], seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Servers::at(server, others.to_vec(), seed))))
    }

    pub(crate) fn present(&self) -> ControlUrl {
        self.lock().present().clone()
    }

    pub(crate) fn is_one(&self) -> bool {
        self.lock().count() == 1
    }

    pub(crate) fn answered(&self, tried: &[ControlUrl]) {
        self.lock().answered(tried);
    }

    pub(crate) fn failed(&self, tried: &[ControlUrl], lost: bool) -> Option<ControlUrl> {
        self.lock().failed(tried, lost)
    }

    pub(crate) fn leave(&self, now: Moment, from: &ControlUrl) {
        let mut servers = self.lock();
        if servers.leave(now, from) {
            tracing::info!(%from, to = %servers.present(), "it has no newer beat; another one is asked");
        }
    }

    pub(crate) fn discover(&self, now: Moment) {
        let mut servers = self.lock();
        if servers.discover(now) {
            tracing::info!(to = %servers.present(), "another server is asked for peers");
        }
    }

    /// What a server says, beside a beat that `counts` or while none was ever heard.
    pub(crate) fn told(&self, named: &[String], counts: bool) {
        let mut servers = self.lock();
        let news = if counts { servers.confirmed(named) } else { servers.told(named) };
        if news {
            tracing::info!(
                count = servers.count(),
                "other servers of control are known from now on"
            );
        }
    }

    pub(crate) fn unkept(&self) -> Option<HeldServers> {
        self.lock().unkept()
    }

    pub(crate) fn kept(&self, held: HeldServers) {
        self.lock().kept(held);
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
