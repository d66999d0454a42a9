//! Rules: what the Cedar policy language decides, for access and for administration.
//!
//! ```text
//! access:          lists (linked to one template) ─┐
//!                  documents' rules ───────────────┼─ OrganizationRules::reach ──▶ Answer
//!                  the isolation rule ─────────────┘
//! administration:  the table's rules, one for each holder ── administer ──▶ Answer
//!                  documents' rules ──── OrganizationRules::administer ──▶ Answer
//! ```
//!
//! Every organization's rules are compiled where the log is folded (`OrganizationRules`) and asked
//! many times. What a rule can see is declared in one schema, which documents are checked against
//! before they are written ([`compile_document`]). The isolation rules forbid whatever crosses from
//! one organization into another; no document can lift a `forbid`. A rule that cannot be evaluated
//! counts as a `forbid`.

mod answer;
mod builtin;
mod document;
mod organization;
mod question;
mod schema;

pub use answer::Answer;
pub(crate) use builtin::administer;
pub use builtin::builtin_rules;
pub use document::{
    CompiledRule, Flaw, MAX_DOCUMENT_RULES, compile_document, unknown_lane, unknown_literal,
};
pub(crate) use organization::OrganizationRules;
pub(crate) use question::{Lists, Member, Question};

/// The action of reaching a resource, as rules call it.
pub const REACH: &str = "reach";

#[cfg(test)]
mod tests;
