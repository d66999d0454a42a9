//! Which carriers an organization's flows take, lane by lane, where it does not leave that to what
//! its entries measure.

use serde::{Deserialize, Serialize};

use crate::Lane;

crate::term::terms! {
    /// What a lane's flows run on. Without a rule, entries choose by what they measure.
    CarrierRule, "carrier rule":
    /// QUIC first, and TCP where that does not get through.
    Quic = "quic",
    /// TCP first, and QUIC where that does not get through.
    Tcp = "tcp",
    /// Where it does not get through, no flow opens.
    QuicOnly = "quic-only",
    TcpOnly = "tcp-only",
}

/// An organization's rules, one for each lane that has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CarrierRules {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interactive: Option<CarrierRule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media: Option<CarrierRule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulk: Option<CarrierRule>,
}

impl CarrierRules {
    pub const fn of(&self, lane: Lane) -> Option<CarrierRule> {
        match lane {
            Lane::Interactive => self.interactive,
            Lane::Media => self.media,
            Lane::Bulk => self.bulk,
        }
    }

    pub const fn set(&mut self, lane: Lane, rule: Option<CarrierRule>) {
        match lane {
            Lane::Interactive => self.interactive = rule,
            Lane::Media => self.media = rule,
            Lane::Bulk => self.bulk = rule,
        }
    }

    /// Whether no lane has one.
    pub const fn is_empty(&self) -> bool {
        self.interactive.is_none() && self.media.is_none() && self.bulk.is_none()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn each_lane_has_its_own_rule_or_none() {
        let mut rules = CarrierRules::default();
        assert!(rules.is_empty());
        for (lane, rule) in Lane::ALL.iter().zip(CarrierRule::ALL) {
            rules.set(*lane, Some(*rule));
            assert_eq!(rules.of(*lane), Some(*rule));
        }
        for lane in Lane::ALL {
            assert!(!rules.is_empty(), "{lane}");
            rules.set(*lane, None);
        }
        assert!(rules.is_empty());
    }

    #[test]
    fn a_word_that_no_rule_has_is_refused() {
        let known = crate::codec::encode(&CarrierRules {
            bulk: Some(CarrierRule::TcpOnly),
            ..CarrierRules::default()
        });
        let read: CarrierRules = crate::codec::decode(&known, known.len()).unwrap();
        assert_eq!(read.bulk, Some(CarrierRule::TcpOnly));
        let other: Vec<u8> = known.iter().map(|b| if *b == b'y' { b'x' } else { *b }).collect();
        assert!(crate::codec::decode::<CarrierRules>(&other, other.len()).is_err());
    }
}
