use std::collections::BTreeMap;

use rap_proto::{Timestamp, UserId};
use serde::{Deserialize, Serialize};

use crate::aggregate::events;

events! {
    /// What was noticed of guessing.
    GuessingEvent:
    Noticed(GuessingNoticed) = "guessing.noticed" / 1;
}

/// Somebody tried wrong passwords more often than a person who mistypes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuessingNoticed {
    /// Wrong passwords since the last such event, of each account.
    pub accounts: BTreeMap<UserId, u32>,
    /// The same, of names that are nobody's and of accounts that found no room above.
    pub unnamed: u32,
    pub noticed_at: Timestamp,
}
