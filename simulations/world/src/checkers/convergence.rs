//! When the faults have stopped, every node that control approves of comes to act on its newest
//! snapshot, nothing waits in a spool, and whoever was revoked has stopped.

use super::Violation;

const NAME: &str = "convergence";

/// How one host stands at the end.
#[derive(Debug, Clone)]
pub struct Standing {
    pub host: String,
    pub applied: u64,
    pub spooled: usize,
    /// The agent works: it neither stopped nor waits for its enrollment.
    pub working: bool,
    /// What control says: the newest version for an approved node.
    pub newest: Option<u64>,
    pub revoked: bool,
}

#[derive(Debug, Default)]
pub struct Convergence;

impl Convergence {
    pub fn check(&self, standing: &Standing) -> Result<(), Violation> {
        let host = &standing.host;
        let violated = |what: String| Err(Violation::new(NAME, format!("{host} {what}")));
        match standing.newest {
            Some(_) if !standing.working => violated("is approved and does not work".to_owned()),
            Some(newest) if standing.applied != newest => {
                violated(format!("acts on version {} and not on {newest}", standing.applied))
            }
            Some(_) if standing.spooled > 0 => {
                violated(format!("still keeps {} observations", standing.spooled))
            }
            None if standing.revoked && standing.working => {
                violated("was revoked and goes on".to_owned())
            }
            _ => Ok(()),
        }
    }
}
