//! Bandwidth: what the platform grants an organization of each node, and what that makes of it.

use rap_control_core::{Action, Target};
use rap_events::{
    node::{self, NodeCommand},
    organization::{
        self, BandwidthFault, OrganizationCommand, check_bandwidth, check_count, check_grant,
    },
};
use rap_proto::{
    BitRate, OrganizationId, ResourceId, UserId, VpnConnectionId,
    api::{
        Bandwidth, BandwidthRule, CapNodeBandwidth, Changed, GrantBandwidth, NamedConnection,
        NamedResource, NamedUser, NewBandwidthRule, Reference, SetBandwidth,
    },
    bandwidth::{self, Allowance, OrganizationBandwidth, Traffic},
};
use uuid::Uuid;

use super::{
    answer::Done,
    call::Call,
    failure::{Failure, invalid, not_found, rejected},
    reference::{self, organization_of},
};

pub(super) async fn get(call: Call) -> Result<Bandwidth, Failure> {
    let id = organization_of(&call)?;
    call.allow(Action::ReadBandwidth, Target::Organization(id))?;
    let found = call.state.organizations().get(id).ok_or_else(not_found)?;
    let (cap, reserved) = shown(&found.bandwidth.granted);
    Ok(Bandwidth {
        organization: id,
        granted: GrantBandwidth { cap_bits_per_second: cap, reserved_bits_per_second: reserved },
        rules: found.bandwidth.rules.iter().map(|rule| show(&call, id, rule)).collect(),
        revision: found.stamp.revision,
    })
}

pub(super) async fn set(call: Call, body: SetBandwidth) -> Result<Done<Changed>, Failure> {
    let id = organization_of(&call)?;
    call.allow(Action::RuleBandwidth, Target::Organization(id))?;
    check_count(body.rules.len()).map_err(faulty)?;
    let mut work = call.work();
    let mut loaded = work.load::<organization::Organization>(id.uuid()).await?;
    call.check_revision(loaded.revision)?;
    let OrganizationBandwidth { granted, rules: before, .. } = &loaded.state.bandwidth;
    let scope = Scope { call: &call, organization: id, before };
    let said = body.rules.iter().enumerate();
    let rules = said.map(|(at, rule)| scope.read(at, rule)).collect::<Result<Vec<_>, _>>()?;
    check_bandwidth(granted, before, &rules).map_err(faulty)?;
    work.decide(&mut loaded, OrganizationCommand::RuleBandwidth { rules })?;
    call.commit(work, Changed { revision: loaded.revision }).await
}

pub(super) async fn grant(call: Call, body: GrantBandwidth) -> Result<Done<Changed>, Failure> {
    let id = organization_of(&call)?;
    call.allow(Action::GrantBandwidth, Target::Organization(id))?;
    let granted = allowance("", body.cap_bits_per_second, body.reserved_bits_per_second)?;
    check_grant(&granted).map_err(faulty)?;
    let mut work = call.work();
    let mut loaded = work.load::<organization::Organization>(id.uuid()).await?;
    call.check_revision(loaded.revision)?;
    work.decide(&mut loaded, OrganizationCommand::GrantBandwidth { granted })?;
    call.commit(work, Changed { revision: loaded.revision }).await
}

pub(super) async fn cap_node(call: Call, body: CapNodeBandwidth) -> Result<Done<Changed>, Failure> {
    let named = call.reference("node")?;
    let id = reference::node(&call.state, &named).map(|node| node.id).ok_or_else(not_found)?;
    call.allow(Action::CapNodeBandwidth, Target::Node(id))?;
    let cap = rate("capBitsPerSecond", body.cap_bits_per_second)?;
    let mut work = call.work();
    let mut loaded = work.load::<node::Node>(id.uuid()).await?;
    call.check_revision(loaded.revision)?;
    work.decide(&mut loaded, NodeCommand::CapBandwidth { cap })?;
    call.commit(work, Changed { revision: loaded.revision }).await
}

/// What the rules of an organization can name.
struct Scope<'a> {
    call: &'a Call,
    organization: OrganizationId,
    /// What these name already they may go on naming by its id, also when it is gone: else none of
    /// them could be changed before all such are removed at once.
    before: &'a [bandwidth::BandwidthRule],
}

impl Scope<'_> {
    fn read(
        &self,
        at: usize,
        rule: &NewBandwidthRule,
    ) -> Result<bandwidth::BandwidthRule, Failure> {
        let within = format!("rules[{at}].");
        let missing = |field: &str, rule: &str| {
            invalid(
                &format!("{within}{field}"),
                rule,
                "nothing of that name is in the organization",
            )
        };
        let (call, organization) = (self.call, self.organization);
        let connection = rule.connection.as_ref().map(|named| {
            let found = reference::vpn_connection(&call.state, organization, named);
            found
                .map(|found| found.id)
                .or_else(|| {
                    self.named(named, |traffic| traffic.connection, |id: VpnConnectionId| id.uuid())
                })
                .ok_or_else(|| missing("connection", "connection_exists"))
        });
        let resource = rule.resource.as_ref().map(|named| {
            let found = reference::resource(&call.state, organization, named);
            found
                .map(|found| found.id)
                .or_else(|| {
                    self.named(named, |traffic| traffic.resource, |id: ResourceId| id.uuid())
                })
                .ok_or_else(|| missing("resource", "resource_exists"))
        });
        let user = rule.user.as_ref().map(|named| {
            reference::user(&call.state, named)
                .filter(|user| call.state.users().role(organization, user.id).is_some())
                .map(|user| user.id)
                .or_else(|| self.named(named, |traffic| traffic.user, |id: UserId| id.uuid()))
                .ok_or_else(|| missing("user", "user_is_member"))
        });
        Ok(bandwidth::BandwidthRule {
            traffic: Traffic {
                connection: connection.transpose()?,
                resource: resource.transpose()?,
                kind: rule.kind,
                user: user.transpose()?,
                lane: rule.lane,
                each: rule.each,
                while_interactive: rule.while_interactive,
            },
            allowance: allowance(&within, rule.cap_bits_per_second, rule.reserved_bits_per_second)?,
        })
    }

    /// What a rule of before names, if it has that id.
    fn named<T: Copy>(
        &self,
        named: &Reference,
        part: impl Fn(&Traffic) -> Option<T>,
        uuid: impl Fn(T) -> Uuid,
    ) -> Option<T> {
        let mut parts = self.before.iter().filter_map(|rule| part(&rule.traffic));
        parts.find(|id| *named == Reference::Id(uuid(*id)))
    }
}

fn allowance(within: &str, cap: Option<u64>, reserved: Option<u64>) -> Result<Allowance, Failure> {
    Ok(Allowance {
        cap: rate(&format!("{within}capBitsPerSecond"), cap)?,
        reserved: rate(&format!("{within}reservedBitsPerSecond"), reserved)?,
    })
}

fn rate(field: &str, said: Option<u64>) -> Result<Option<BitRate>, Failure> {
    let in_range = |bits| {
        BitRate::new(bits).ok_or_else(|| {
            invalid(field, "bandwidth_out_of_range", "a rate is from 8kbit to 100gbit")
        })
    };
    said.map(in_range).transpose()
}

/// The problem names the rule that is wrong, and which of its fields.
fn faulty(fault: BandwidthFault) -> Failure {
    let field = match fault.field {
        "cap" => "capBitsPerSecond",
        "reserved" => "reservedBitsPerSecond",
        other => other,
    };
    let field = match (fault.rule, field) {
        (None, field) => field.to_owned(),
        (Some(at), "traffic") => format!("rules[{at}]"),
        (Some(at), field) => format!("rules[{at}].{field}"),
    };
    match rejected::<organization::Organization>(&fault.rejection) {
        Failure::Problem(problem) => problem.field(field).into(),
        other => other,
    }
}

fn shown(allowance: &Allowance) -> (Option<u64>, Option<u64>) {
    let bits = |rate: Option<BitRate>| rate.map(BitRate::bits_per_second);
    (bits(allowance.cap), bits(allowance.reserved))
}

/// Names only what the organization still has.
fn show(
    call: &Call,
    organization: OrganizationId,
    rule: &bandwidth::BandwidthRule,
) -> BandwidthRule {
    let (state, within) = (&call.state, call.state.within(organization));
    let (cap, reserved) = shown(&rule.allowance);
    let traffic = &rule.traffic;
    let member = |id| state.users().role(organization, id).and_then(|_| state.users().get(id));
    BandwidthRule {
        connection: traffic.connection.map(|id| NamedConnection {
            id,
            name: within.vpn_connections().get(id).map(|found| found.name.clone()),
        }),
        resource: traffic.resource.map(|id| NamedResource {
            id,
            name: within.resources().get(id).map(|found| found.name.clone()),
        }),
        kind: traffic.kind,
        user: traffic
            .user
            .map(|id| NamedUser { id, name: member(id).map(|user| user.name.clone()) }),
        lane: traffic.lane,
        each: traffic.each,
        while_interactive: traffic.while_interactive,
        cap_bits_per_second: cap,
        reserved_bits_per_second: reserved,
    }
}
