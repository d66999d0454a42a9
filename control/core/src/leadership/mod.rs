//! How one replica comes to lead a duty, keeps to its time, and gives it up.
//!
//! The replica that leads holds the duty's lease and renews it; the others look at the row until
//! it is free. A leader counts from the moment at which it *sent* a request, on a clock that
//! counts on while the host sleeps, so it stops before another can begin. And because a paused
//! leader does not know that it was paused, its appends carry the lease's generation: what it
//! writes too late is refused where it would be stored.

mod candidate;
mod take;
#[cfg(test)]
mod tests;

pub use candidate::*;
pub use take::*;
