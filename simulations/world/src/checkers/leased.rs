//! Who lets what through under which generation of a lease: nobody anything older than before,
//! whatever it lost in between, and an egress only what it was granted itself.

use std::collections::BTreeMap;

use rap_proto::{Generation, NodeId, VpnConnectionId};

use super::Violation;

/// What an entry or an egress let through rises.
pub const FENCE: &str = "fence";
/// An egress admits under a generation that was granted to it.
pub const GRANTED: &str = "granted";

#[derive(Debug, Default)]
pub struct Leased {
    granted: BTreeMap<(VpnConnectionId, Generation), NodeId>,
    passed: BTreeMap<(NodeId, VpnConnectionId), Generation>,
    found: Option<Violation>,
}

impl Leased {
    /// The log says that a lease was granted.
    pub fn granted(&mut self, node: NodeId, leased: rap_proto::Leased) {
        self.granted.insert((leased.connection, leased.generation), node);
    }

    /// A fence let something through, at an entry or at an egress.
    pub fn let_through(&mut self, node: NodeId, leased: rap_proto::Leased) {
        let highest = self.passed.entry((node, leased.connection)).or_default();
        if leased.generation < *highest {
            let generation = leased.generation;
            let detail = format!("{node} let {generation} through after {highest}");
            self.found.get_or_insert(Violation::new(FENCE, detail));
        }
        *highest = leased.generation.max(*highest);
    }

    /// A node begins to carry a connection.
    pub fn activated(&mut self, node: NodeId, connection: VpnConnectionId, generation: Generation) {
        let outcome = self.admitted(node, rap_proto::Leased { connection, generation });
        self.found = self.found.take().or(outcome.err());
    }

    /// An egress opened a flow.
    pub fn admitted(&self, node: NodeId, leased: rap_proto::Leased) -> Result<(), Violation> {
        let rap_proto::Leased { connection, generation } = leased;
        let to = self.granted.get(&(connection, generation));
        if to == Some(&node) {
            return Ok(());
        }
        let detail = format!("{node} acts under {generation}, which was granted to {to:?}");
        Err(Violation::new(GRANTED, detail))
    }

    /// What was found since the last look.
    pub fn check(&mut self) -> Result<(), Violation> {
        self.found.take().map_or(Ok(()), Err)
    }
}
