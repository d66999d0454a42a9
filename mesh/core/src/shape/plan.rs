//! What a node makes of its policy: reserves that fit into what there is.

use std::collections::BTreeMap;

use rap_proto::{
    BitRate, OrganizationId,
    bandwidth::{Allowance, Bandwidth, BandwidthRule, OrganizationBandwidth, Traffic},
};

use super::turns::FLOOR;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) node: Option<BitRate>,
    pub(super) organizations: BTreeMap<OrganizationId, Planned>,
}

/// What is said of one organization.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) granted: Share,
    pub(super) rules: Vec<(Traffic, Share)>,
}

/// What one class may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Share {
    pub(super) said: Allowance,
    /// The reserve as far as it fits, in bits per second.
    pub(super) reserved: Option<u64>,
}

impl Plan {
    /// INVARIANT: the reserves within a cap are together at most all of it but one part in
    /// [`FLOOR`]. Where more was said, as when the platform grants less than before, each is
    /// lowered in the same proportion.
    pub(super) fn new(policy: &Bandwidth) -> Self {
        let said = policy.organizations.values().map(|said| said.granted);
        let kept = Reserves::new(said, policy.node);
        // Of some it is said only what their flows run on.
        let organizations = policy.organizations.iter().filter(|(_, said)| said.shapes());
        let organizations =
            organizations.map(|(id, said)| (*id, planned(said, &kept, policy.node)));
        Self { node: policy.node, organizations: organizations.collect() }
    }
}

fn planned(said: &OrganizationBandwidth, kept: &Reserves, node: Option<BitRate>) -> Planned {
    let room = said.granted.cap.into_iter().chain(node).min();
    let reserves = Reserves::new(said.rules.iter().map(|rule| rule.allowance), room);
    let share = |rule: &BandwidthRule| (rule.traffic, reserves.share(rule.allowance));
    Planned { granted: kept.share(said.granted), rules: said.rules.iter().map(share).collect() }
}

/// All reserves within one cap, in bits per second.
struct Reserves {
    together: u64,
    most: Option<u64>,
}

impl Reserves {
    fn new(allowances: impl Iterator<Item = Allowance>, cap: Option<BitRate>) -> Self {
        let reserves = allowances.filter_map(|allowance| allowance.reserved);
        let add = |sum: u64, rate: BitRate| sum.saturating_add(rate.bits_per_second());
        let bits = cap.map(BitRate::bits_per_second);
        Self { together: reserves.fold(0, add), most: bits.map(|bits| bits - bits / FLOOR) }
    }

    fn share(&self, said: Allowance) -> Share {
        let reserved = said.reserved.map(|rate| self.fitted(rate.bits_per_second()));
        Share { said, reserved }
    }

    fn fitted(&self, reserved: u64) -> u64 {
        match self.most {
            Some(most) if self.together > most => {
                // Below `reserved`, as the quotient is below one.
                let scaled = u128::from(reserved) * u128::from(most) / u128::from(self.together);
                u64::try_from(scaled).unwrap_or(reserved)
            }
            _ => reserved,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn rate(text: &str) -> BitRate {
        text.parse().unwrap()
    }

    fn said(cap: Option<&str>, reserved: &str) -> Allowance {
        Allowance { cap: cap.map(rate), reserved: Some(rate(reserved)) }
    }

    fn organization(granted: Allowance, reserves: &[&str]) -> OrganizationBandwidth {
        let rule = |(number, text): (usize, &&str)| BandwidthRule {
            traffic: Traffic {
                resource: Some(rap_proto::ResourceId::from_u128(number as u128)),
                ..Traffic::default()
            },
            allowance: said(None, text),
        };
        let rules = reserves.iter().enumerate().map(rule).collect();
        OrganizationBandwidth { granted, rules, ..Default::default() }
    }

    fn of(node: Option<&str>, organizations: Vec<OrganizationBandwidth>) -> Plan {
        let number = |(at, said): (usize, _)| (OrganizationId::from_u128(at as u128), said);
        let organizations = organizations.into_iter().enumerate().map(number).collect();
        Plan::new(&Bandwidth { node: node.map(rate), organizations, ..Bandwidth::default() })
    }

    fn reserves(planned: &Planned) -> Vec<Option<u64>> {
        planned.rules.iter().map(|(_, share)| share.reserved).collect()
    }

    #[test]
    fn reserves_that_fit_stay_as_they_are() {
        let plan =
            of(None, vec![organization(said(Some("16mbit"), "8mbit"), &["10mbit", "5mbit"])]);
        let planned = plan.organizations.values().next().unwrap();
        assert_eq!(planned.granted.reserved, Some(8_000_000));
        assert_eq!(reserves(planned), [Some(10_000_000), Some(5_000_000)]);
    }

    #[test]
    fn reserves_above_the_grant_are_lowered_in_proportion_and_leave_the_floor() {
        let plan = of(None, vec![organization(said(Some("8mbit"), "1mbit"), &["15mbit", "5mbit"])]);
        let planned = plan.organizations.values().next().unwrap();
        assert_eq!(reserves(planned), [Some(5_625_000), Some(1_875_000)], "7.5 of 8 mbit");
    }

    #[test]
    fn what_the_node_passes_bounds_reserves_of_and_within_organizations() {
        let one = || organization(said(None, "12mbit"), &["20mbit"]);
        let plan = of(Some("16mbit"), vec![one(), one()]);
        for planned in plan.organizations.values() {
            assert_eq!(planned.granted.reserved, Some(7_500_000));
            assert_eq!(reserves(planned), [Some(15_000_000)]);
        }
    }

    #[test]
    fn the_greatest_reserves_are_added_without_overflow() {
        let one = organization(said(None, "100gbit"), &["100gbit"; 64]);
        let plan = of(Some("8kbit"), vec![one; 1_000]);
        for planned in plan.organizations.values() {
            assert_eq!(planned.granted.reserved, Some(7));
            assert!(reserves(planned).iter().all(|reserved| *reserved == Some(117)));
        }
    }
}
