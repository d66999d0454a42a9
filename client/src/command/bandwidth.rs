//! `rap bandwidth`.

use rap_proto::{
    BitRate, Name,
    api::{
        Bandwidth, BandwidthRule, CapNodeBandwidth, Changed, GrantBandwidth, NewBandwidthRule,
        Node, Reference, SetBandwidth,
    },
};
use reqwest::Method;
use serde::Serialize;

use super::Context;
use crate::{
    api::Api,
    args::{BandwidthCommand, TrafficArguments},
    failure::{Exit, Failure},
    output::Row,
};

/// One line of the list: the grant, or a rule.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    /// `granted`, or `rule`.
    by: &'static str,
    traffic: String,
    cap: Option<String>,
    reserved: Option<String>,
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &["BY", "TRAFFIC", "CAP", "RESERVED"];

    fn cells(&self) -> Vec<String> {
        let rate = |rate: &Option<String>| rate.clone().unwrap_or_else(|| "-".to_owned());
        vec![self.by.to_owned(), self.traffic.clone(), rate(&self.cap), rate(&self.reserved)]
    }
}

pub(super) async fn run(context: &Context, command: BandwidthCommand) -> Result<(), Failure> {
    let api = context.api()?;
    match command {
        BandwidthCommand::Ls => {
            let path = path(context, &api).await?;
            let found: Bandwidth = api.get(&path).await?;
            context.list(&lines(&found))
        }
        BandwidthCommand::Set { traffic, cap, reserved } => {
            put(context, &api, &traffic, Some((cap, reserved))).await
        }
        BandwidthCommand::Rm { traffic } => put(context, &api, &traffic, None).await,
    }
}

async fn path(context: &Context, api: &Api) -> Result<String, Failure> {
    Ok(format!("{}/bandwidth", context.organization_path(api).await?))
}

/// Sets what the arguments name, or takes it back.
async fn put(
    context: &Context,
    api: &Api,
    traffic: &TrafficArguments,
    rates: Option<(Option<BitRate>, Option<BitRate>)>,
) -> Result<(), Failure> {
    let bits = |rate: Option<BitRate>| rate.map(BitRate::bits_per_second);
    let (cap, reserved) = rates.map_or((None, None), |(cap, reserved)| (bits(cap), bits(reserved)));
    if let Some(node) = &traffic.node {
        let path = format!("/nodes/{node}");
        let revision = api.get::<Node>(&path).await?.revision;
        let body = CapNodeBandwidth { cap_bits_per_second: cap };
        let path = format!("{path}/bandwidth");
        let _: Changed = api.change(Method::PUT, &path, Some(revision), Some(&body)).await?;
        return context.did(&format!("the cap of {node} is {}", said(cap)));
    }
    let path = path(context, api).await?;
    let found: Bandwidth = api.get(&path).await?;
    let revision = Some(found.revision);
    if traffic.granted {
        let body = GrantBandwidth { cap_bits_per_second: cap, reserved_bits_per_second: reserved };
        let path = format!("{path}/grant");
        let _: Changed = api.change(Method::PUT, &path, revision, Some(&body)).await?;
    } else {
        let mut rules: Vec<NewBandwidthRule> = found.rules.iter().map(Into::into).collect();
        match (found.rules.iter().position(|rule| is_about(rule, traffic)), rates) {
            (Some(at), Some(_)) => rules[at] = rule(traffic, cap, reserved),
            (None, Some(_)) => rules.push(rule(traffic, cap, reserved)),
            (Some(at), None) => drop(rules.remove(at)),
            (None, None) => {
                return Err(Failure::new(Exit::NotFound, "there is no rule about that traffic")
                    .hint("list them: rap bandwidth ls"));
            }
        }
        let body = SetBandwidth { rules };
        let _: Changed = api.change(Method::PUT, &path, revision, Some(&body)).await?;
    }
    context.list(&lines(&api.get(&path).await?))
}

fn rule(
    traffic: &TrafficArguments,
    cap_bits_per_second: Option<u64>,
    reserved_bits_per_second: Option<u64>,
) -> NewBandwidthRule {
    NewBandwidthRule {
        connection: traffic.connection.clone(),
        resource: traffic.resource.clone(),
        kind: traffic.kind,
        user: traffic.user.clone(),
        lane: traffic.lane,
        each: traffic.each,
        while_interactive: traffic.while_interactive,
        cap_bits_per_second,
        reserved_bits_per_second,
    }
}

/// Whether a rule is about exactly the traffic that the arguments name.
fn is_about(rule: &BandwidthRule, traffic: &TrafficArguments) -> bool {
    fn same(known: Option<(Reference, Option<&Name>)>, said: Option<&Reference>) -> bool {
        match (known, said) {
            (None, None) => true,
            (Some((_, name)), Some(Reference::Name(said))) => name == Some(said),
            (Some((id, _)), Some(said)) => id == *said,
            _ => false,
        }
    }
    let connection = rule.connection.as_ref();
    let connection = connection.map(|c| (Reference::Id(c.id.uuid()), c.name.as_ref()));
    let resource = rule.resource.as_ref();
    let resource = resource.map(|r| (Reference::Id(r.id.uuid()), r.name.as_ref()));
    let user = rule.user.as_ref().map(|u| (Reference::Id(u.id.uuid()), u.name.as_ref()));
    same(connection, traffic.connection.as_ref())
        && same(resource, traffic.resource.as_ref())
        && same(user, traffic.user.as_ref())
        && rule.kind == traffic.kind
        && rule.lane == traffic.lane
        && rule.each == traffic.each
        && rule.while_interactive == traffic.while_interactive
}

fn lines(found: &Bandwidth) -> Vec<Line> {
    let rate = |bits: Option<u64>| bits.map(|_| said(bits));
    let granted = &found.granted;
    let granted = Line {
        by: "granted",
        traffic: "everything".to_owned(),
        cap: rate(granted.cap_bits_per_second),
        reserved: rate(granted.reserved_bits_per_second),
    };
    let rules = found.rules.iter().map(|rule| Line {
        by: "rule",
        traffic: describe(rule),
        cap: rate(rule.cap_bits_per_second),
        reserved: rate(rule.reserved_bits_per_second),
    });
    std::iter::once(granted).chain(rules).collect()
}

fn said(bits: Option<u64>) -> String {
    let rate = bits.and_then(BitRate::new);
    rate.map_or_else(|| "none".to_owned(), |rate| rate.to_string())
}

/// In the words of the options.
fn describe(rule: &BandwidthRule) -> String {
    fn named(name: Option<&Name>, id: impl ToString) -> String {
        name.map_or_else(|| id.to_string(), ToString::to_string)
    }
    let words = [
        rule.connection.as_ref().map(|c| format!("connection {}", named(c.name.as_ref(), c.id))),
        rule.resource.as_ref().map(|r| format!("resource {}", named(r.name.as_ref(), r.id))),
        rule.kind.map(|kind| format!("kind {kind}")),
        rule.user.as_ref().map(|u| format!("user {}", named(u.name.as_ref(), u.id))),
        rule.lane.map(|lane| format!("lane {lane}")),
        rule.each.map(|each| format!("each {each}")),
        rule.while_interactive.then(|| "while interactive".to_owned()),
    ];
    let words: Vec<String> = words.into_iter().flatten().collect();
    if words.is_empty() { "everything".to_owned() } else { words.join(", ") }
}
