//! Which carriers flows take, lane by lane, where that is not left to what entries measure: what the
//! platform says for all, what an organization says for its own, and what both come to.

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

crate::term::terms! {
    /// What the platform's rule and an organization's come to, for one lane.
    #[derive(Default)]
    CarrierRuling, "carrier ruling":
    /// Neither says anything: entries choose by what they measure.
    #[default]
    Auto = "auto",
    Quic = "quic",
    Tcp = "tcp",
    QuicOnly = "quic-only",
    TcpOnly = "tcp-only",
    /// One of them forbids TCP, and the other one QUIC: no flow opens.
    Neither = "none",
}

impl CarrierRule {
    /// This rule, without the carrier that the other one forbids.
    const fn within(self, other: Self) -> CarrierRuling {
        match (self, other) {
            (Self::QuicOnly, Self::TcpOnly) | (Self::TcpOnly, Self::QuicOnly) => {
                CarrierRuling::Neither
            }
            (Self::QuicOnly, _) | (_, Self::QuicOnly) => CarrierRuling::QuicOnly,
            (Self::TcpOnly, _) | (_, Self::TcpOnly) => CarrierRuling::TcpOnly,
            (Self::Quic, _) => CarrierRuling::Quic,
            (Self::Tcp, _) => CarrierRuling::Tcp,
        }
    }
}

impl CarrierRuling {
    /// What either forbids is forbidden. Of what is left the organization says which comes first, and
    /// where it says nothing the platform does.
    pub const fn of(platform: Option<CarrierRule>, organization: Option<CarrierRule>) -> Self {
        match (platform, organization) {
            (None, None) => Self::Auto,
            (Some(rule), None) | (None, Some(rule)) => rule.within(rule),
            (Some(platform), Some(organization)) => organization.within(platform),
        }
    }
}

/// The rules of an organization, or of the platform: one for each lane that has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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

    const ANY: [Option<CarrierRule>; 5] = [
        None,
        Some(CarrierRule::Quic),
        Some(CarrierRule::Tcp),
        Some(CarrierRule::QuicOnly),
        Some(CarrierRule::TcpOnly),
    ];

    #[test]
    fn a_ruling_of_two_rules_forbids_what_either_forbids_and_nothing_else() {
        for (platform, organization) in ANY.iter().flat_map(|one| ANY.map(|other| (*one, other))) {
            let forbids = |rule| [platform, organization].contains(&Some(rule));
            let (no_quic, no_tcp) = (forbids(CarrierRule::TcpOnly), forbids(CarrierRule::QuicOnly));
            let ruling = CarrierRuling::of(platform, organization);
            let expected: &[CarrierRuling] = match (no_quic, no_tcp) {
                (true, true) => &[CarrierRuling::Neither],
                (true, false) => &[CarrierRuling::TcpOnly],
                (false, true) => &[CarrierRuling::QuicOnly],
                (false, false) => &[CarrierRuling::Auto, CarrierRuling::Quic, CarrierRuling::Tcp],
            };
            assert!(expected.contains(&ruling), "{platform:?} and {organization:?}: {ruling}");
        }
    }

    #[test]
    fn of_what_is_left_the_organization_chooses_and_else_the_platform() {
        let words: Vec<[&str; 3]> = vec![
            ["", "", "auto"],
            ["quic", "", "quic"],
            ["tcp-only", "", "tcp-only"],
            ["", "quic", "quic"],
            ["", "quic-only", "quic-only"],
            ["quic", "tcp", "tcp"],
            ["tcp", "tcp", "tcp"],
            ["quic", "tcp-only", "tcp-only"],
            ["tcp-only", "tcp", "tcp-only"],
            ["tcp-only", "quic", "tcp-only"],
            ["quic-only", "tcp", "quic-only"],
            ["quic-only", "quic-only", "quic-only"],
            ["quic-only", "tcp-only", "none"],
            ["tcp-only", "quic-only", "none"],
        ];
        for [platform, organization, ruling] in words {
            let ruled = CarrierRuling::of(platform.parse().ok(), organization.parse().ok());
            assert_eq!(ruled.as_str(), ruling, "{platform} and {organization}");
        }
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
