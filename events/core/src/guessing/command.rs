use std::collections::BTreeMap;

use rap_proto::UserId;

/// How long after one event nothing more is recorded: 10 minutes.
pub const NOTICE_INTERVAL_MS: u64 = 10 * 60_000;
/// The most accounts that one event names.
pub const MAX_NAMED_ACCOUNTS: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuessingCommand {
    /// Nothing follows within [`NOTICE_INTERVAL_MS`] of the last event: whoever counts goes on
    /// counting. Of more than [`MAX_NAMED_ACCOUNTS`], those that were guessed at most are named.
    Notice {
        /// Wrong passwords since the last event, of each account.
        accounts: BTreeMap<UserId, u32>,
        /// The same, of names that are nobody's.
        unnamed: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GuessingRejection {
    #[error("there is no wrong password to record")]
    NothingGuessed,
}
