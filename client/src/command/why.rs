//! `rap why`.

use std::collections::BTreeMap;

use rap_proto::{
    Name, NodeId, NodeRole,
    api::{
        Explained, ExplainedHole, ExplainedLane, ExplainedPeer, Node, NodeState, Reference,
        Resource, RuledOut,
    },
    hole::{self, failure_in_words},
};
use serde::Serialize;

use super::Context;
use crate::{
    api::Api,
    args::{Format, Why},
    failure::{Exit, Failure},
    output::{self, Row},
};

/// The most nodes that are asked when nobody names them, and the most targets of one resource.
const MAX_ASKED: usize = 8;

/// One node's answer about one other.
#[derive(Debug, Serialize)]
struct Answer {
    from: Name,
    to: Name,
    #[serde(flatten)]
    explained: Explained,
    /// For tables, which name the relays.
    #[serde(skip)]
    names: BTreeMap<NodeId, Name>,
}

impl Row for Answer {
    const COLUMNS: &'static [&'static str] = &["FROM", "TO", "CLASS", "SCORE", "RTT", "PATH"];

    fn cells(&self) -> Vec<String> {
        let peer = self.explained.peer.as_ref();
        vec![
            self.from.to_string(),
            self.to.to_string(),
            peer.map_or_else(|| "no peer".to_owned(), class),
            peer.map(score).filter(|said| !said.is_empty()).unwrap_or_else(|| self.excluded()),
            peer.and_then(|peer| peer.rtt_us).map(milliseconds).unwrap_or_default(),
            self.explained.lanes.iter().map(|lane| self.path(lane)).collect::<Vec<_>>().join("; "),
        ]
    }
}

impl Answer {
    /// The first constraint that rules the target out, as control knows it.
    fn excluded(&self) -> String {
        let first = self.ruled_out().find(|one| one.node == self.explained.other);
        first.map_or_else(String::new, |one| format!("excluded: {}", spaced(one)))
    }

    fn ruled_out(&self) -> impl Iterator<Item = &RuledOut> {
        self.explained.ruled_out.iter()
    }

    fn path(&self, lane: &ExplainedLane) -> String {
        let name = |relay: &NodeId| {
            self.names.get(relay).map_or_else(|| relay.to_string(), Name::to_string)
        };
        let behind = lane.onward.iter().map(|relay| format!(", then {}", name(relay)));
        let through_hole = lane.hole.as_ref().is_some_and(|hole| hole.step == "open");
        let way = match &lane.relay {
            None if through_hole => "direct, through a hole".to_owned(),
            None => "direct".to_owned(),
            Some(relay) => {
                let (behind, reason) = (behind.collect::<String>(), reason(lane));
                format!("through {}{behind}, as {reason}", name(relay))
            }
        };
        format!("{}: {way}, {} ms", lane.lane, lane.rtt_ms)
    }

    /// What became of the search for a direct path through NATs.
    fn hole(&self, lane: &ExplainedLane) -> Option<String> {
        let ExplainedHole { step, own_nat, far_nat, failure } = lane.hole.as_ref()?;
        let nats = format!("the NAT of {} is {own_nat}, that of {} {far_nat}", self.from, self.to);
        let not_better = failure.as_deref() == Some(hole::Failure::NotBetter.as_str());
        let failure = failure.as_deref().map(|word| failure_in_words(word, "the entry"));
        let said = match (step.as_str(), failure) {
            ("open", _) => format!("through a hole; {nats}"),
            ("forbidden", _) => "the platform forbids direct paths".to_owned(),
            (_, Some(why)) if not_better => why,
            ("given_up", Some(why)) => format!("no hole: {why}; {nats}"),
            (step, Some(why)) => format!("no hole yet ({step}): {why}; {nats}"),
            (step, None) => format!("no hole yet ({step})"),
        };
        Some(format!("  lane {}: {said}\n", lane.lane))
    }

    /// What became of holes, what rules nodes out, and what the scores are made of.
    fn reasons(&self) -> String {
        let mut text = format!("\n{} to {}:\n", self.from, self.to);
        text.extend(self.explained.lanes.iter().filter_map(|lane| self.hole(lane)));
        if let Some(peer) = &self.explained.peer {
            text += &line("itself", peer);
        }
        for one in self.ruled_out() {
            let itself = one.node == self.explained.other;
            let who = if itself { "itself".to_owned() } else { format!("relay {}", one.name) };
            text += &format!("  {who}: ruled out by {}: {}\n", spaced(one), one.reason);
        }
        for (class, weights) in &self.explained.weights {
            text += &format!("  weights for {class}: {}\n", words(weights));
        }
        for relay in &self.explained.relays {
            let name = relay.name.as_ref().map_or_else(|| relay.node.to_string(), Name::to_string);
            text += &line(&format!("relay {name}"), relay);
        }
        text
    }
}

pub(super) async fn run(context: &Context, arguments: &Why) -> Result<(), Failure> {
    let api = context.api()?;
    let nodes: Vec<Node> = api.list("/nodes", &[]).await?;
    let (targets, query) = targets(context, &api, &nodes, arguments).await?;
    let askers = askers(&nodes, &arguments.from)?;
    let names: BTreeMap<_, _> = nodes.iter().map(|node| (node.id, node.name.clone())).collect();
    let (mut answers, mut last) = (Vec::new(), None);
    for from in &askers {
        for to in targets.iter().filter(|to| to.id != from.id) {
            let path = format!("/nodes/{}/why/{}", from.id, to.id);
            match api.get_with::<Explained>(&path, &query).await {
                Ok(explained) => {
                    let (from, to, names) = (from.name.clone(), to.name.clone(), names.clone());
                    answers.push(Answer { from, to, explained, names });
                }
                Err(failure) if failure.exit == Exit::Unavailable => {
                    eprintln!("{} about {}: {failure}", from.name, to.name);
                    last = Some(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
    }
    if let (true, Some(failure)) = (answers.is_empty(), last) {
        return Err(failure);
    }
    context.list(&answers)?;
    match context.format() {
        Format::Table => output::print(&answers.iter().map(Answer::reasons).collect::<String>()),
        Format::Json | Format::Yaml => Ok(()),
    }
}

type Query = Vec<(&'static str, String)>;

/// The node of that name, or the nodes that a resource of that name is reached from; and for which
/// resource control is to judge them.
async fn targets<'a>(
    context: &Context,
    api: &Api,
    nodes: &'a [Node],
    Why { target, resource, .. }: &Why,
) -> Result<(Vec<&'a Node>, Query), Failure> {
    let of = async |named: &Reference| {
        let organization = context.organization_path(api).await?;
        let found: Resource = api.get(&format!("{organization}/resources/{named}")).await?;
        let query = Vec::from([
            ("organization", found.organization.to_string()),
            ("resource", found.id.to_string()),
        ]);
        Ok::<_, Failure>((found, query))
    };
    if let Some(node) = named(nodes, target) {
        let query = match resource {
            Some(resource) => of(resource).await?.1,
            None => Vec::new(),
        };
        return Ok((vec![node], query));
    }
    let (resource, query) = of(target).await?;
    let serve =
        |node: &&Node| node.state == NodeState::Approved && node.pools.contains(&resource.pool);
    let found: Vec<_> = nodes.iter().filter(serve).take(MAX_ASKED).collect();
    if found.is_empty() {
        return Err(Failure::new(Exit::NotFound, format!("no node serves {}", resource.pool_name)));
    }
    Ok((found, query))
}

fn askers<'a>(nodes: &'a [Node], from: &[Reference]) -> Result<Vec<&'a Node>, Failure> {
    let entry = |node: &&Node| {
        node.live.is_some() && node.roles.iter().any(|scope| scope.role == NodeRole::EntryNode)
    };
    let found: Vec<_> = if from.is_empty() {
        nodes.iter().filter(entry).take(MAX_ASKED).collect()
    } else {
        let find = |from| named(nodes, from).ok_or_else(|| unknown(from));
        from.iter().map(find).collect::<Result<_, _>>()?
    };
    if found.is_empty() {
        let what = "no entry node was heard lately";
        return Err(Failure::unavailable(what).hint("name a node: --from NODE"));
    }
    Ok(found)
}

fn named<'a>(nodes: &'a [Node], reference: &Reference) -> Option<&'a Node> {
    nodes.iter().find(|node| match reference {
        Reference::Id(id) => node.id.uuid() == *id,
        Reference::Name(name) => node.name == *name,
    })
}

fn unknown(node: &Reference) -> Failure {
    Failure::new(Exit::NotFound, format!("there is no node {node} that you may see"))
}

/// Why a lane goes over relays, as far as its entry says.
fn reason(lane: &ExplainedLane) -> &str {
    match lane.last_switch.as_deref() {
        None => "it answered first",
        Some("silent") => "nothing came back on the path before",
        Some("hollow") => "the path before answered and carried nothing",
        Some("gone") => "the relay before it ended the flow",
        Some("not_allowed") => "the path before is no longer allowed",
        Some("better") => "it is better than the path before",
        Some("unproven") => "what seemed better did not carry the lane",
        Some("draining") => "a relay of the path before drains",
        Some("slower") => "the direct path before became slower",
        Some(other) => other,
    }
}

fn spaced(one: &RuledOut) -> String {
    one.constraint.as_str().replace('_', " ")
}

fn class(peer: &ExplainedPeer) -> String {
    let answers = if peer.class == "active" && !peer.up { ", not answering" } else { "" };
    let resting = if peer.resting { ", resting" } else { "" };
    format!("{}{answers}{resting}", peer.class)
}

fn score(peer: &ExplainedPeer) -> String {
    match (&peer.excluded_by, peer.score) {
        (Some(constraint), _) => format!("excluded: {}", constraint.replace('_', " ")),
        (None, Some(score)) => score.to_string(),
        (None, None) => String::new(),
    }
}

fn milliseconds(rtt_us: u32) -> String {
    format!("{}.{:03} ms", rtt_us / 1_000, rtt_us % 1_000)
}

fn line(name: &str, peer: &ExplainedPeer) -> String {
    let forwards = match peer.forwards {
        Some(true) => ", forwards",
        Some(false) => ", does not forward",
        None => "",
    };
    let parts = words(&peer.parts);
    let of = if parts.is_empty() { String::new() } else { format!(" ({parts})") };
    format!("  {name}: {}, {}{forwards}{of}\n", class(peer), score(peer))
}

fn words(parts: &BTreeMap<String, u16>) -> String {
    let parts = parts.iter().map(|(part, value)| format!("{} {value}", part.replace('_', " ")));
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use rap_proto::Constraint;

    use super::*;

    #[test]
    fn an_answer_says_what_a_relayed_path_rests_on() {
        let peer = |number, excluded_by: Option<&str>, score| ExplainedPeer {
            node: NodeId::from_u128(number),
            name: "relay-1".parse().ok(),
            class: "active".to_owned(),
            up: true,
            resting: false,
            forwards: Some(true),
            score,
            excluded_by: excluded_by.map(str::to_owned),
            parts: [("packet_loss".to_owned(), 990)].into(),
            rtt_us: Some(2_050),
            failures: 0,
        };
        let relay = NodeId::from_u128(3);
        let lane = ExplainedLane {
            lane: rap_proto::Lane::Bulk,
            relay: Some(relay),
            onward: Vec::new(),
            rtt_ms: 4,
            last_switch: Some("hollow".to_owned()),
            hole: Some(hole("given_up", Some("both_symmetric"))),
        };
        let unnamed = NodeId::from_u128(9);
        let (onward, last_switch) = (vec![unnamed], None);
        let chain = ExplainedLane { onward, last_switch, hole: None, ..lane.clone() };
        let name = |text: &str| text.parse::<Name>().expect("a name");
        let answer = Answer {
            from: name("edge-1"),
            to: name("egress-1"),
            explained: Explained {
                node: NodeId::from_u128(1),
                other: NodeId::from_u128(2),
                peer: Some(peer(2, Some("authority_state"), None)),
                lanes: vec![lane, chain],
                relays: vec![peer(3, None, Some(941))],
                ruled_out: vec![ruled_out(2, "egress-1"), ruled_out(9, "relay-2")],
                weights: [("bulk".to_owned(), [("node_load".to_owned(), 16)].into())].into(),
            },
            names: [(relay, name("relay-1"))].into(),
        };
        let cells = answer.cells();
        assert_eq!(cells[2..5], ["active", "excluded: authority state", "2.050 ms"]);
        let single = "bulk: through relay-1, as the path before answered and carried nothing, 4 ms";
        let chain = format!("bulk: through relay-1, then {unnamed}, as it answered first, 4 ms");
        assert_eq!(cells[5], format!("{single}; {chain}"));
        let reasons = answer.reasons();
        let no_hole = "  lane bulk: no hole: the NATs on both sides are symmetric; \
            the NAT of edge-1 is symmetric, that of egress-1 symmetric\n";
        assert_eq!(reasons.matches("lane bulk").count(), 1, "one of the two wants a hole");
        assert!(reasons.contains(no_hole), "{reasons}");
        assert!(
            reasons.contains("relay relay-1: active, 941, forwards (packet loss 990)"),
            "{reasons}"
        );
        for line in [
            "  weights for bulk: node load 16\n",
            "  itself: ruled out by organization scope: for others\n",
            "  relay relay-2: ruled out by organization scope: for others\n",
        ] {
            assert!(reasons.contains(line), "{reasons}");
        }
        let mut not_better = answer.explained.lanes[0].clone();
        let hole = not_better.hole.as_mut().expect("it wants one");
        (hole.step, hole.failure) = ("resting".to_owned(), Some("not_better".to_owned()));
        let said = answer.hole(&not_better);
        assert_eq!(said.as_deref(), Some("  lane bulk: a direct path is not better\n"));
        let json = serde_json::to_value(&answer).expect("JSON");
        assert_eq!(json["from"], "edge-1");
        assert_eq!(json["relays"][0]["parts"]["packet_loss"], 990);
        assert_eq!(json["lanes"][0]["hole"]["failure"], "both_symmetric");
    }

    #[test]
    fn of_a_node_that_is_no_peer_control_says_why() {
        let name = |text: &str| text.parse::<Name>().expect("a name");
        let answer = Answer {
            from: name("edge-1"),
            to: name("egress-1"),
            explained: Explained {
                node: NodeId::from_u128(1),
                other: NodeId::from_u128(2),
                peer: None,
                lanes: Vec::new(),
                relays: Vec::new(),
                ruled_out: vec![ruled_out(9, "relay-2"), ruled_out(2, "egress-1")],
                weights: BTreeMap::new(),
            },
            names: BTreeMap::new(),
        };
        assert_eq!(answer.cells()[2..4], ["no peer", "excluded: organization scope"]);
    }

    fn ruled_out(node: u128, name: &str) -> RuledOut {
        RuledOut {
            node: NodeId::from_u128(node),
            name: name.parse().expect("a name"),
            constraint: Constraint::OrganizationScope,
            reason: "for others".to_owned(),
        }
    }

    fn hole(step: &str, failure: Option<&str>) -> ExplainedHole {
        ExplainedHole {
            step: step.to_owned(),
            own_nat: "symmetric".to_owned(),
            far_nat: "symmetric".to_owned(),
            failure: failure.map(str::to_owned),
        }
    }
}
