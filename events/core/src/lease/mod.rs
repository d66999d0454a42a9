//! Leases: exclusive rights that end by themselves, in rows beside the log.
//!
//! Who holds a lease is decided by appends, so every grant and every end stands with its event in
//! one transaction and in one order. That a holder is still there is no event: a renewal moves
//! two times of a row and nothing else. See [`LeaseTable`] for the one and [`LeaseChange`] for
//! the other. Every time here is the database's: whoever asks counts from the moment it asked.

mod change;
mod row;
mod table;
mod tenure;
#[cfg(test)]
mod tests;

pub use change::*;
pub use row::*;
pub use table::*;
pub use tenure::*;
