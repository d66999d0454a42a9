//! One actor per concern. They hold no decision of their own: projections, processes and rules
//! are pure code elsewhere. Each can die alone; the guardian starts it again.

pub(crate) mod beats;
pub(crate) mod doorbell;
pub(crate) mod feeder;
pub(crate) mod fold_keeper;
pub(crate) mod grantor;
pub(crate) mod guardian;
pub(crate) mod guesses;
pub(crate) mod keeper;
pub(crate) mod observer;
pub(crate) mod processes;
pub(crate) mod projection;
pub(crate) mod rebuilder;
pub(crate) mod revocations;
pub(crate) mod sealer;
pub(crate) mod words;
