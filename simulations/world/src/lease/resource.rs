//! What a connection leads to, behind the real fence: it sees which generations touch it.

use std::collections::BTreeMap;

use rap_mesh_core::fence::{Admitted, Fence};
use rap_proto::{Leased, VpnConnectionId};

use super::mutation::Mutation;

#[derive(Debug, Default)]
pub struct Resource {
    fence: Fence,
    marks: BTreeMap<VpnConnectionId, Leased>,
}

impl Resource {
    /// A packet comes; whether it is served. `dies` says that the power goes before the mark is
    /// durable.
    pub fn receive(&mut self, leased: Leased, dies: bool, mutation: Option<Mutation>) -> bool {
        if mutation == Some(Mutation::FenceNotChecked) {
            return true;
        }
        match self.fence.admit(leased) {
            Ok(Admitted::Current) => true,
            Ok(Admitted::Raise(mark)) if mutation == Some(Mutation::MarkNotPersisted) => {
                self.fence.raised(mark).is_ok()
            }
            Ok(Admitted::Raise(_)) if dies => {
                self.restart();
                false
            }
            Ok(Admitted::Raise(mark)) => {
                self.marks.insert(mark.connection, mark);
                self.fence.raised(mark).is_ok()
            }
            Err(_) => false,
        }
    }

    pub fn restart(&mut self) {
        self.fence = Fence::new(self.marks.values().copied());
    }

    pub fn refused(&self) -> u64 {
        self.fence.refused()
    }
}
