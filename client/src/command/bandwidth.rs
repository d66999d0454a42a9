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

/// One line of the list. Programs read what the API answers, in bits per second.
#[derive(Debug, Serialize)]
#[serde(tag = "by", rename_all = "camelCase")]
enum Line {
    Granted(GrantBandwidth),
    Rule(BandwidthRule),
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &["BY", "TRAFFIC", "CAP", "RESERVED"];

    fn cells(&self) -> Vec<String> {
        let (by, traffic, cap, reserved) = match self {
            Self::Granted(granted) => {
                let everything = "everything".to_owned();
                let GrantBandwidth { cap_bits_per_second, reserved_bits_per_second } = *granted;
                ("granted", everything, cap_bits_per_second, reserved_bits_per_second)
            }
            Self::Rule(rule) => {
                ("rule", describe(rule), rule.cap_bits_per_second, rule.reserved_bits_per_second)
            }
        };
        let rate = |bits: Option<u64>| bits.map_or_else(|| "-".to_owned(), |_| said(bits));
        vec![by.to_owned(), traffic, rate(cap), rate(reserved)]
    }
}

pub(super) async fn run(context: &Context, command: BandwidthCommand) -> Result<(), Failure> {
    let api = context.api()?;
    match command {
        BandwidthCommand::Ls => {
            let path = path(context, &api).await?;
            let found: Bandwidth = api.get(&path).await?;
            context.list(&lines(found))
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
    context.list(&lines(api.get(&path).await?))
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

fn lines(found: Bandwidth) -> Vec<Line> {
    let rules = found.rules.into_iter().map(Line::Rule);
    std::iter::once(Line::Granted(found.granted)).chain(rules).collect()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn people_read_rates_with_units_and_programs_bits() {
        let found = serde_json::json!({
            "organization": "01890a5d-ac96-774b-bcce-b302099a8057",
            "granted": {"capBitsPerSecond": 100_000_000},
            "rules": [{
                "kind": "web", "each": "user", "whileInteractive": false,
                "reservedBitsPerSecond": 1_500_000,
            }],
            "revision": 3,
        });
        let lines = lines(serde_json::from_value(found).unwrap());
        let cells: Vec<_> = lines.iter().map(Row::cells).collect();
        assert_eq!(cells[0], ["granted", "everything", "100mbit", "-"]);
        assert_eq!(cells[1], ["rule", "kind web, each user", "-", "1500kbit"]);
        let read = serde_json::to_value(&lines).unwrap();
        assert_eq!(read[0], serde_json::json!({"by": "granted", "capBitsPerSecond": 100_000_000}));
        assert_eq!(read[1]["by"], "rule");
        assert_eq!(read[1]["reservedBitsPerSecond"], 1_500_000);
    }
}
