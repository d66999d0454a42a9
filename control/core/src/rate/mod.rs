//! How often somebody may ask the control plane: token buckets, one for each who pays.
//!
//! ```text
//! RateTable::new(Rates).admit(now, &[payer, …]) -> Ok(()) | Err(Limited { class, retry_after })
//! ```
//!
//! A bucket holds `burst` tokens and gains `per_second` of them each second; a request takes one
//! from every bucket that pays for it, or none at all. `now` is monotonic: a calendar that is set
//! back would lock everybody out.
//!
//! The table is bounded ([`MAX_BUCKETS`] of each class). A bucket is forgotten only when it is full
//! again, that is when forgetting it changes nothing. So nobody empties the table to have a fresh
//! bucket: whoever finds no room draws from one bucket that all such newcomers share.

mod bucket;
mod payer;
mod table;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

pub use payer::{AddressBlock, Payer, PayerClass};
pub use table::{Limited, MAX_BUCKETS, RateTable};

/// The greatest rate, and the greatest burst, that can be configured.
pub const MAX_RATE: u32 = 100_000;

/// A bucket's measures. Written `50/200`: fifty a second, two hundred at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    per_second: u32,
    burst: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rate is written as in 50/200, each number from 1 to {MAX_RATE}")]
pub struct ParseRateError;

/// The rate of each class of payers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// A user, with all logins and API tokens together.
    pub user: Rate,
    /// One API token, within what its user has.
    pub api_token: Rate,
    /// An address, for whoever shows no valid credential.
    pub address: Rate,
    pub node: Rate,
}

impl Rate {
    /// `None` when a number is 0 or above [`MAX_RATE`].
    pub const fn new(per_second: u32, burst: u32) -> Option<Self> {
        let fits = per_second > 0 && per_second <= MAX_RATE && burst > 0 && burst <= MAX_RATE;
        if fits { Some(Self { per_second, burst }) } else { None }
    }

    /// Tokens that a bucket gains in a second.
    pub const fn per_second(self) -> u32 {
        self.per_second
    }

    /// Tokens in a full bucket.
    pub const fn burst(self) -> u32 {
        self.burst
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            user: Rate { per_second: 50, burst: 200 },
            api_token: Rate { per_second: 25, burst: 100 },
            address: Rate { per_second: 10, burst: 100 },
            node: Rate { per_second: 10, burst: 50 },
        }
    }
}

impl FromStr for Rate {
    type Err = ParseRateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (per_second, burst) = text.split_once('/').ok_or(ParseRateError)?;
        let number = |text: &str| text.parse().map_err(|_| ParseRateError);
        Self::new(number(per_second)?, number(burst)?).ok_or(ParseRateError)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.per_second, self.burst)
    }
}
