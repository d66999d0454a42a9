//! What an organization's bandwidth rules may say.

use std::collections::BTreeSet;

use rap_proto::{
    BitRate, Lane,
    bandwidth::{Allowance, BandwidthRule, MAX_BANDWIDTH_RULES},
};

use super::OrganizationRejection as Rejection;

/// The first fault of a policy: which rule it is in, which of its fields, and what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BandwidthFault {
    /// `None` when it is in no single rule.
    pub rule: Option<usize>,
    pub field: &'static str,
    pub rejection: Rejection,
}

/// Whether an organization that has some rules may have these instead, within what it was granted.
///
/// The platform can grant less than rules say already. Then nothing may go further beyond it, but
/// rules can stay, be lowered and be removed one by one.
pub fn check_bandwidth(
    granted: &Allowance,
    before: &[BandwidthRule],
    rules: &[BandwidthRule],
) -> Result<(), BandwidthFault> {
    let fault = |rule, field, rejection| Err(BandwidthFault { rule, field, rejection });
    check_count(rules.len())?;
    let mut known = BTreeSet::new();
    let mut reserved = 0_u64;
    for (at, BandwidthRule { traffic, allowance }) in rules.iter().enumerate() {
        let at = Some(at);
        if !known.insert(*traffic) {
            return fault(at, "traffic", Rejection::BandwidthRuleTwice);
        }
        check_allowance(allowance).or_else(|(field, why)| fault(at, field, why))?;
        let reserves = allowance.reserved.is_some();
        if reserves && (traffic.each.is_some() || traffic.while_interactive) {
            return fault(at, "reserved", Rejection::ReserveForMany);
        }
        if traffic.while_interactive && traffic.lane.is_some_and(|lane| lane != Lane::Bulk) {
            return fault(at, "lane", Rejection::OnlyBulkGivesWay);
        }
        if let Some(most) = granted.cap {
            let stood = before.iter().find(|rule| rule.traffic == *traffic);
            let stood = stood.and_then(|rule| rule.allowance.cap);
            if allowance.cap > Some(most) && allowance.cap > stood {
                return fault(at, "cap", Rejection::BandwidthAboveGrant);
            }
            // At most `MAX_BANDWIDTH_RULES` rates.
            reserved += allowance.reserved.map_or(0, BitRate::bits_per_second);
            if reserved > most.bits_per_second().max(reserved_by(before)) {
                return fault(at, "reserved", Rejection::BandwidthAboveGrant);
            }
        }
    }
    Ok(())
}

/// Whether an organization may have so many rules: known before anything is looked up for them.
pub fn check_count(rules: usize) -> Result<(), BandwidthFault> {
    if rules > MAX_BANDWIDTH_RULES {
        let rejection = Rejection::TooManyBandwidthRules;
        return Err(BandwidthFault { rule: None, field: "rules", rejection });
    }
    Ok(())
}

fn reserved_by(rules: &[BandwidthRule]) -> u64 {
    let reserved = rules.iter().filter_map(|rule| rule.allowance.reserved);
    reserved.map(BitRate::bits_per_second).fold(0, u64::saturating_add)
}

/// Whether the platform may grant so much. To say nothing takes every bound away.
pub fn check_grant(granted: &Allowance) -> Result<(), BandwidthFault> {
    if *granted == Allowance::default() {
        return Ok(());
    }
    let fault = |(field, rejection)| BandwidthFault { rule: None, field, rejection };
    check_allowance(granted).map_err(fault)
}

/// Whether something is said, in range, and nothing that contradicts itself.
fn check_allowance(allowance: &Allowance) -> Result<(), (&'static str, Rejection)> {
    let Allowance { cap, reserved } = *allowance;
    for (field, rate) in [("cap", cap), ("reserved", reserved)] {
        if rate.is_some_and(|rate| BitRate::new(rate.bits_per_second()).is_none()) {
            return Err((field, Rejection::BandwidthOutOfRange));
        }
    }
    match (cap, reserved) {
        (None, None) => Err(("cap", Rejection::BandwidthSaysNothing)),
        (Some(cap), Some(reserved)) if reserved > cap => {
            Err(("reserved", Rejection::ReserveAboveCap))
        }
        _ => Ok(()),
    }
}
