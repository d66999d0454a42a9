//! A session: one authorized access, from the request to its end. Its stream's id is its own.
//!
//! ```text
//! requested ─┬─ denied
//!            └─ authorized ─┬─ started ── ended
//!                           ├─ terminated ── ended
//!                           └─ ended (not used)
//! ```
//!
//! Authority requests, authorizes, denies, refreshes and terminates. Starts, refusals and ends are
//! what nodes saw, and arrive late when control or the bus was away: an observation is recorded
//! whenever it comes, once.
//!
//! # Where it lives
//!
//! A session can be at several entries, one after the other or at once. Each of them says when it
//! starts and ends *there*; an egress says only that the resource was reached. [`Presence`] keeps
//! the newest start and end of each entry, by that entry's own numbers, and compares nothing
//! between two nodes:
//!
//! | entries said | an egress said | time | not terminated | terminated |
//! |---|---|---|---|---|
//! | nothing | nothing | | authorized | terminated |
//! | nothing | started | | started | terminated |
//! | one of them: started, and no end since | either | | started | terminated |
//! | each of them: ended, and no start since | either, also later | | ended | ended |
//! | anything, and nothing newer since | either | concluded | ended | ended |
//!
//! - An egress' word opens nothing that the entries closed: it can be late. It is evidence, kept so
//!   that an entry that hides a start is seen.
//! - An entry that dies, and never says that it ended there, leaves the session started until time
//!   concludes it: [`CONCLUDE_STARTED_AFTER_MS`] after the last token expired. Until then it counts
//!   as used, because it may be.
//! - An entry that leaves (`node_left`) leaves the session to go on elsewhere: it has ended there, and
//!   its client gets a newer token while one that it has can be accepted ([`Presence::is_left`]). With
//!   that the session is again as if no entry had spoken ([`Presence::refresh`]).
//! - A terminated session is terminated for good, wherever it starts again. It is terminated also
//!   when it has ended, for as long as a node may still accept one of its tokens.
//! - Of one entry so many words are recorded ([`MAX_WORDS`]), and one end beyond. A client that comes
//!   back more often within one session is not seen to, and gets no newer token: it asks for a session
//!   anew.
//! - A node's numbers are taken in their order. Its clock is shown and decides nothing; what it
//!   says of time is kept within bounds ([`MAX_SEEN_SKEW_MS`]).

mod basis;
mod command;
mod decide;
mod event;
mod presence;
mod state;
#[cfg(test)]
mod tests;

pub use basis::*;
pub use command::*;
pub use event::*;
pub use presence::*;
pub use state::*;
