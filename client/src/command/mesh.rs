//! `rap mesh`.

use std::collections::BTreeMap;

use rap_proto::{
    api::Changed,
    mesh::{ChannelClass, Part, PeerCounts, PeerKind, weights_of},
};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Context;
use crate::{
    args::{Counts, MeshCommand, WeightArgument},
    failure::Failure,
    output::Row,
};

const PATH: &str = "/platform/mesh";

/// Numbers by words. Among them may be words of a later release.
type Numbers = BTreeMap<String, Value>;

/// `GET /platform/mesh`. What this release does not know of it is shown and kept as it is.
#[derive(Debug, Clone, Deserialize)]
struct Found {
    #[serde(flatten)]
    rule: Rule,
    revision: u64,
    #[serde(flatten)]
    unknown: BTreeMap<String, Value>,
}

/// `PUT /platform/mesh`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Rule {
    peers: BTreeMap<String, Numbers>,
    weights: BTreeMap<String, Numbers>,
}

/// What nodes of a kind keep, or what counts for a class.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Line {
    Peers {
        kind: String,
        /// Whether the platform says it; otherwise it is what the release of this program has.
        said: bool,
        #[serde(flatten)]
        counts: Numbers,
    },
    Weights {
        class: String,
        said: bool,
        weights: Numbers,
    },
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &["OF", "SAID BY", "WHAT"];

    fn cells(&self) -> Vec<String> {
        let by = |said: &bool| if *said { "platform" } else { "release" }.to_owned();
        match self {
            Self::Peers { kind, said, counts } => {
                vec![format!("kind {kind}"), by(said), peers_in_words(counts)]
            }
            Self::Weights { class, said, weights } => {
                let known = Part::ALL.iter().map(|part| part.as_str());
                vec![format!("class {class}"), by(said), in_words(weights, known)]
            }
        }
    }
}

fn peers_in_words(counts: &Numbers) -> String {
    let mut rest = counts.clone();
    let [least, most, warm] = ["least", "most", "warm"].map(|word| rest.remove(word));
    let (Some(least), Some(most), Some(warm)) = (least, most, warm) else {
        return in_words(counts, []);
    };
    let known = format!("{least} to {most} active peers, {warm} warm");
    if rest.is_empty() { known } else { format!("{known}, {}", in_words(&rest, [])) }
}

/// The words that are known first, in their order.
fn in_words<'a>(numbers: &Numbers, known: impl IntoIterator<Item = &'a str>) -> String {
    let mut rest = numbers.clone();
    let known = known.into_iter().filter_map(|word| Some((word.to_owned(), rest.remove(word)?)));
    let known: Vec<_> = known.collect();
    let said = known.into_iter().chain(rest).map(|(word, number)| format!("{word}={number}"));
    said.collect::<Vec<_>>().join(" ")
}

fn counts_of(kind: PeerKind) -> Numbers {
    let PeerCounts { least, most, warm } = PeerCounts::of(kind);
    let numbers = [("least", least), ("most", most), ("warm", warm)];
    numbers.map(|(word, number)| (word.to_owned(), number.into())).into()
}

fn numbers_of(class: ChannelClass) -> Numbers {
    let weights = weights_of(class).into_iter();
    weights.map(|(part, weight)| (part.to_string(), weight.into())).collect()
}

pub(super) async fn run(context: &Context, command: MeshCommand) -> Result<(), Failure> {
    let api = context.api()?;
    let found: Found = api.get(PATH).await?;
    let without_effect = without_effect(&command);
    let Some(rule) = changed(&found.rule, command) else {
        return context.list(&lines(found.rule));
    };
    if let Some(word) = found.unknown.keys().next() {
        // A rule is replaced as a whole.
        return Err(Failure::usage(format!(
            "the platform's rule has `{word}`, which this release of rap would take away; use a newer one"
        )));
    }
    let _: Changed = api.change(Method::PUT, PATH, Some(found.revision), Some(&rule)).await?;
    if let Some(class) = without_effect {
        eprintln!("no path is chosen for {class}: its weights are kept, and change nothing");
    }
    let found: Found = api.get(PATH).await?;
    context.list(&lines(found.rule))
}

/// The class whose weights are set and that nothing asks for.
fn without_effect(command: &MeshCommand) -> Option<ChannelClass> {
    match command {
        MeshCommand::Set { class, .. } => class.filter(|class| !class.is_asked_for()),
        MeshCommand::Get { .. } | MeshCommand::Rm { .. } => None,
    }
}

/// What is to be said instead; `None` where it is only looked at.
fn changed(rule: &Rule, command: MeshCommand) -> Option<Rule> {
    let Rule { mut peers, mut weights } = rule.clone();
    match command {
        MeshCommand::Get { .. } => return None,
        MeshCommand::Set {
            kind, counts: Counts { active, warm }, class, weights: said, ..
        } => {
            if let Some(kind) = kind {
                let counts = peers.entry(kind.to_string()).or_insert_with(|| counts_of(kind));
                let active = active.map(|active| [("least", active.least), ("most", active.most)]);
                let said = active.into_iter().flatten().chain(warm.map(|warm| ("warm", warm)));
                counts.extend(said.map(|(word, number)| (word.to_owned(), number.into())));
            }
            if let Some(class) = class {
                let weights = weights.entry(class.to_string()).or_insert_with(|| numbers_of(class));
                let said = said.into_iter();
                weights.extend(said.map(|WeightArgument { part, weight }| {
                    (part.to_string(), Value::from(weight))
                }));
            }
        }
        MeshCommand::Rm { kind, class, .. } => {
            if let Some(kind) = kind {
                peers.remove(kind.as_str());
            }
            if let Some(class) = class {
                weights.remove(class.as_str());
            }
        }
    }
    Some(Rule { peers, weights })
}

/// What is known in its order, with what the release says where the platform says nothing, and then what
/// is of a later release.
fn lines(Rule { mut peers, mut weights }: Rule) -> Vec<Line> {
    let mut lines = Vec::new();
    for kind in PeerKind::ALL {
        let said = peers.remove(kind.as_str());
        let (kind, counts) = (kind.to_string(), said.clone().unwrap_or_else(|| counts_of(*kind)));
        lines.push(Line::Peers { kind, said: said.is_some(), counts });
    }
    let later = |(kind, counts)| Line::Peers { kind, said: true, counts };
    lines.extend(peers.into_iter().map(later));
    for class in ChannelClass::ALL {
        let said = weights.remove(class.as_str());
        let weights = said.clone().unwrap_or_else(|| numbers_of(*class));
        lines.push(Line::Weights { class: class.to_string(), said: said.is_some(), weights });
    }
    let later = |(class, weights)| Line::Weights { class, said: true, weights };
    lines.extend(weights.into_iter().map(later));
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::args::{Active, OfPlatform};

    const OF: OfPlatform = OfPlatform { platform: true };

    fn found() -> Found {
        let found = json!({
            "peers": {"thin": {"least": 1, "most": 2, "warm": 2}},
            "weights": {"bulk": {"bandwidth": 40, "latency": 2}},
            "revision": 3,
        });
        serde_json::from_value(found).unwrap()
    }

    /// What a later release may say.
    fn later() -> Found {
        let found = json!({
            "peers": {
                "thin": {"least": 1, "most": 2, "warm": 2, "hot": 1},
                "vast": {"least": 1, "most": 2, "warm": 3},
                "odd": {"any": "few"},
            },
            "weights": {"bulk": {"colour": 5, "latency": 2}, "smell": {"latency": 1}},
            "revision": 3,
        });
        serde_json::from_value(found).unwrap()
    }

    fn cells(found: Found) -> Vec<String> {
        lines(found.rule).iter().map(|line| line.cells().join(" | ")).collect()
    }

    fn set_active(found: &Found, kind: PeerKind, active: Active) -> Rule {
        let counts = Counts { active: Some(active), warm: None };
        let (kind, class, weights) = (Some(kind), None, Vec::new());
        changed(&found.rule, MeshCommand::Set { kind, counts, class, weights, of: OF }).unwrap()
    }

    fn weigh(found: &Found, class: ChannelClass, said: &str) -> Rule {
        let (kind, counts, class) = (None, Counts::default(), Some(class));
        let weights = vec![said.parse().unwrap()];
        changed(&found.rule, MeshCommand::Set { kind, counts, class, weights, of: OF }).unwrap()
    }

    #[test]
    fn a_list_says_of_everything_who_says_it() {
        let cells = cells(found());
        assert_eq!(cells.len(), PeerKind::ALL.len() + ChannelClass::ALL.len());
        assert_eq!(cells[0], "kind thin | platform | 1 to 2 active peers, 2 warm");
        assert_eq!(cells[1], "kind normal | release | 3 to 5 active peers, 8 warm");
        let bulk = "class bulk | platform | latency=2 bandwidth=40";
        assert!(cells.iter().any(|line| line == bulk), "{cells:?}");
        let of_release =
            cells.iter().find(|line| line.starts_with("class media | release")).unwrap();
        assert!(of_release.contains("latency=13 packet_loss=11"), "{of_release}");
    }

    #[test]
    fn words_of_a_later_release_are_shown_as_they_are() {
        let cells = cells(later());
        assert_eq!(cells.len(), PeerKind::ALL.len() + ChannelClass::ALL.len() + 3);
        for line in [
            "kind thin | platform | 1 to 2 active peers, 2 warm, hot=1",
            "kind vast | platform | 1 to 2 active peers, 3 warm",
            "kind odd | platform | any=\"few\"",
            "class bulk | platform | latency=2 colour=5",
            "class smell | platform | latency=1",
        ] {
            assert!(cells.iter().any(|said| said == line), "{line} is not in {cells:?}");
        }
        let shown = serde_json::to_value(lines(later().rule)).unwrap();
        let vast = json!({"kind": "vast", "said": true, "least": 1, "most": 2, "warm": 3});
        assert!(shown.as_array().unwrap().contains(&vast), "{shown}");
    }

    #[test]
    fn words_of_a_later_release_stay_where_others_are_changed() {
        let rule = set_active(&later(), PeerKind::Thin, Active { least: 1, most: 3 });
        let mut expected = later().rule;
        expected.peers.get_mut("thin").unwrap().insert("most".to_owned(), 3.into());
        assert_eq!(rule, expected);
        let rule = weigh(&later(), ChannelClass::Bulk, "latency=9");
        let mut expected = later().rule;
        expected.weights.get_mut("bulk").unwrap().insert("latency".to_owned(), 9.into());
        assert_eq!(rule, expected);
        assert!(later().unknown.is_empty());
        let more = json!({"peers": {}, "weights": {}, "moods": [], "revision": 3});
        let more: Found = serde_json::from_value(more).unwrap();
        assert_eq!(more.unknown.keys().collect::<Vec<_>>(), ["moods"]);
        assert_eq!(cells(more).len(), PeerKind::ALL.len() + ChannelClass::ALL.len());
    }

    #[test]
    fn what_is_not_named_stays_as_it_is() {
        let rule = set_active(&found(), PeerKind::Normal, Active { least: 4, most: 8 });
        let normal = json!({"least": 4, "most": 8, "warm": 8});
        assert_eq!(json!(rule.peers["normal"]), normal);
        assert_eq!(rule.peers["thin"], found().rule.peers["thin"]);
        assert_eq!(rule.weights, found().rule.weights);

        let rule = weigh(&found(), ChannelClass::Bulk, "latency=9");
        assert_eq!(json!(rule.weights["bulk"]), json!({"latency": 9, "bandwidth": 40}));
        let rule = weigh(&found(), ChannelClass::Media, "latency=9");
        let mut media = weights_of(ChannelClass::Media);
        media.insert(Part::Latency, 9);
        assert_eq!(
            json!(rule.weights["media"]),
            json!(media),
            "the others as the release has them"
        );
    }

    #[test]
    fn who_weighs_what_nothing_asks_for_is_told_so() {
        let told = |class| {
            let (kind, counts, class) = (None, Counts::default(), Some(class));
            let weights = vec!["latency=9".parse().unwrap()];
            without_effect(&MeshCommand::Set { kind, counts, class, weights, of: OF })
        };
        let all = ChannelClass::ALL.iter().copied();
        let without: Vec<_> = all.filter_map(told).collect();
        use ChannelClass::{Clipboard, Telemetry, VpnPackets};
        assert_eq!(without, [Clipboard, VpnPackets, Telemetry]);
    }

    #[test]
    fn what_is_taken_back_is_the_releases_again() {
        let rm =
            |kind, class| changed(&found().rule, MeshCommand::Rm { kind, class, of: OF }).unwrap();
        let rule = rm(Some(PeerKind::Thin), None);
        assert_eq!((rule.peers.len(), &rule.weights), (0, &found().rule.weights));
        let rule = rm(None, Some(ChannelClass::Bulk));
        assert_eq!((&rule.peers, rule.weights.len()), (&found().rule.peers, 0));
        assert_eq!(changed(&found().rule, MeshCommand::Get { of: OF }), None);
    }

    #[test]
    fn what_is_to_be_said_is_what_the_server_reads() {
        let rule = serde_json::to_value(found().rule).unwrap();
        let read: rap_proto::api::SetPlatformMesh = serde_json::from_value(rule).unwrap();
        assert_eq!(read.peers[&PeerKind::Thin], PeerCounts { least: 1, most: 2, warm: 2 });
        assert_eq!(read.weights[&ChannelClass::Bulk][&Part::Bandwidth], 40);
    }
}
