//! Bandwidth: how fast which traffic may be, and how much is kept for it.
//!
//! An organization's rules name traffic by what a node knows of each flow. A rule caps what it
//! names, reserves a minimum for it, or both, at each node and in each direction by itself. The words
//! are those of RFC 2698: what stays within a reserve is committed, what is above it is excess and
//! borrowed from what others leave, and nothing passes above a cap.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    Lane, OrganizationId, ResourceId, ResourceKind, UserId, VpnConnectionId,
    carriers::CarrierRules, snapshot::Section,
};

/// The most rules of one organization.
pub const MAX_BANDWIDTH_RULES: usize = 64;

/// Bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BitRate(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rate is a whole number and one of bit, kbit, mbit, gbit, from 8kbit to 100gbit")]
pub struct ParseBitRateError;

/// From the greatest, each a thousand of the next: as traffic control writes them.
const UNITS: [(&str, u64); 4] =
    [("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1_000), ("bit", 1)];

impl BitRate {
    /// One kilobyte per second.
    pub const MIN: Self = Self(8_000);
    pub const MAX: Self = Self(100_000_000_000);

    /// `None` outside [`Self::MIN`] to [`Self::MAX`].
    pub const fn new(bits_per_second: u64) -> Option<Self> {
        if bits_per_second < Self::MIN.0 || bits_per_second > Self::MAX.0 {
            return None;
        }
        Some(Self(bits_per_second))
    }

    pub const fn bits_per_second(self) -> u64 {
        self.0
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, bits): &&(&str, u64)| self.0.is_multiple_of(*bits);
        let (unit, bits) = UNITS.iter().find(fits).unwrap_or(&UNITS[3]);
        f.pad(&format!("{}{unit}", self.0 / bits))
    }
}

impl FromStr for BitRate {
    type Err = ParseBitRateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (digits, bits) = UNITS
            .iter()
            .find_map(|(unit, bits)| text.strip_suffix(unit).map(|digits| (digits, *bits)))
            .ok_or(ParseBitRateError)?;
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(ParseBitRateError);
        }
        let number: u64 = digits.parse().map_err(|_| ParseBitRateError)?;
        number.checked_mul(bits).and_then(Self::new).ok_or(ParseBitRateError)
    }
}

/// How much something may take, in each direction by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Allowance {
    /// Never more than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<BitRate>,
    /// As much as this whatever others want.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<BitRate>,
}

/// Which flows of an organization a rule is about: those that fit all that is said. What is left
/// out says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Traffic {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<VpnConnectionId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ResourceKind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<Lane>,
    /// The rule holds for each of them by itself instead of for all together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<Each>,
    /// Only bulk flows, and only while an interactive flow of the same is open.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub while_interactive: bool,
}

impl Traffic {
    /// Whether it names a person or a resource, of which an entry is told nothing.
    pub const fn names_somebody(&self) -> bool {
        self.user.is_some() || self.resource.is_some()
    }
}

crate::term::terms! {
    /// What a rule divides its traffic into.
    Each, "division":
    User = "user",
    Session = "session",
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BandwidthRule {
    pub traffic: Traffic,
    pub allowance: Allowance,
}

/// What a node keeps to. Only on nodes that are told of any.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bandwidth {
    /// The most that passes through the node, in each direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<BitRate>,
    #[serde(default)]
    pub organizations: BTreeMap<OrganizationId, OrganizationBandwidth>,
    /// What the platform says of the carriers of everybody's flows; an organization's own word is among
    /// [`Self::organizations`].
    #[serde(default, skip_serializing_if = "CarrierRules::is_empty")]
    pub carriers: CarrierRules,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OrganizationBandwidth {
    /// What the platform grants the organization of each node.
    pub granted: Allowance,
    /// What the organization makes of it.
    #[serde(default)]
    pub rules: Vec<BandwidthRule>,
    /// What its flows run on.
    #[serde(default, skip_serializing_if = "CarrierRules::is_empty")]
    pub carriers: CarrierRules,
}

impl Bandwidth {
    /// Whether there is nothing to keep to.
    pub fn is_empty(&self) -> bool {
        self.node.is_none() && self.organizations.is_empty() && self.carriers.is_empty()
    }
}

impl OrganizationBandwidth {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        !self.shapes() && self.carriers.is_empty()
    }

    /// Whether it says how fast anything may be.
    pub fn shapes(&self) -> bool {
        self.granted != Allowance::default() || !self.rules.is_empty()
    }
}

impl Section for Bandwidth {
    const NAME: &'static str = "bandwidth";
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_rate_is_written_in_the_greatest_unit_that_fits_and_read_in_any() {
        for (text, bits) in [("20mbit", 20_000_000), ("8kbit", 8_000), ("100gbit", 100_000_000_000)]
        {
            let rate: BitRate = text.parse().unwrap();
            assert_eq!((rate.bits_per_second(), rate.to_string().as_str()), (bits, text));
        }
        assert_eq!("1500000bit".parse::<BitRate>().unwrap().to_string(), "1500kbit");
        assert_eq!("8001bit".parse::<BitRate>().unwrap().to_string(), "8001bit");
    }

    #[test]
    fn what_is_no_rate_or_out_of_range_is_refused() {
        let wrong =
            ["", "20", "mbit", "1.5mbit", "-1mbit", "+1mbit", "20 mbit", "20MBit", "20mbyte"];
        let outside = ["7999bit", "7kbit", "101gbit", "99999999999999999999gbit", "0gbit"];
        for text in wrong.iter().chain(&outside) {
            assert_eq!(text.parse::<BitRate>(), Err(ParseBitRateError), "{text}");
        }
        assert_eq!(BitRate::new(BitRate::MIN.bits_per_second() - 1), None);
        assert_eq!(BitRate::new(BitRate::MAX.bits_per_second() + 1), None);
    }

    #[test]
    fn what_a_later_release_adds_is_passed_over() {
        #[derive(Serialize)]
        struct Later {
            node: Option<BitRate>,
            weight: u32,
        }
        let bytes = crate::codec::encode(&Later { node: Some(BitRate::MIN), weight: 3 });
        let read = Bandwidth::from_bytes(&bytes).unwrap();
        assert_eq!(read, Bandwidth { node: Some(BitRate::MIN), ..Bandwidth::default() });
    }
}
