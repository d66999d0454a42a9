//! `rap mesh`.

use rap_proto::{
    api::{Changed, PlatformMesh, SetPlatformMesh},
    mesh::{ChannelClass, PartWeights, PeerCounts, PeerKind, weights_of},
};
use reqwest::Method;
use serde::Serialize;

use super::Context;
use crate::{
    args::{Counts, MeshCommand, WeightArgument},
    failure::Failure,
    output::Row,
};

const PATH: &str = "/platform/mesh";

/// What nodes of a kind keep, or what counts for a class.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Line {
    Peers {
        kind: PeerKind,
        /// Whether the platform says it; otherwise it is what the release of this program has.
        said: bool,
        #[serde(flatten)]
        counts: PeerCounts,
    },
    Weights {
        class: ChannelClass,
        said: bool,
        weights: PartWeights,
    },
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &["OF", "SAID BY", "WHAT"];

    fn cells(&self) -> Vec<String> {
        let by = |said: &bool| if *said { "platform" } else { "release" }.to_owned();
        match self {
            Self::Peers { kind, said, counts: PeerCounts { least, most, warm } } => {
                let counts = format!("{least} to {most} active peers, {warm} warm");
                vec![format!("kind {kind}"), by(said), counts]
            }
            Self::Weights { class, said, weights } => {
                vec![format!("class {class}"), by(said), in_words(weights)]
            }
        }
    }
}

fn in_words(weights: &PartWeights) -> String {
    let parts = weights.iter().map(|(part, weight)| format!("{part}={weight}"));
    parts.collect::<Vec<_>>().join(" ")
}

pub(super) async fn run(context: &Context, command: MeshCommand) -> Result<(), Failure> {
    let api = context.api()?;
    let found: PlatformMesh = api.get(PATH).await?;
    let revision = found.revision;
    let Some(body) = changed(&found, command) else { return context.list(&lines(&found)) };
    let _: Changed = api.change(Method::PUT, PATH, Some(revision), Some(&body)).await?;
    context.list(&lines(&api.get(PATH).await?))
}

/// What is to be said instead; `None` where it is only looked at.
fn changed(found: &PlatformMesh, command: MeshCommand) -> Option<SetPlatformMesh> {
    let PlatformMesh { mut peers, mut weights, .. } = found.clone();
    match command {
        MeshCommand::Get { .. } => return None,
        MeshCommand::Set {
            kind, counts: Counts { active, warm }, class, weights: said, ..
        } => {
            if let Some(kind) = kind {
                let counts = peers.entry(kind).or_insert(PeerCounts::of(kind));
                if let Some(active) = active {
                    (counts.least, counts.most) = (active.least, active.most);
                }
                counts.warm = warm.unwrap_or(counts.warm);
            }
            if let Some(class) = class {
                let weights = weights.entry(class).or_insert_with(|| weights_of(class));
                let said = said.into_iter().map(|WeightArgument { part, weight }| (part, weight));
                weights.extend(said);
            }
        }
        MeshCommand::Rm { kind, class, .. } => {
            if let Some(kind) = kind {
                peers.remove(&kind);
            }
            if let Some(class) = class {
                weights.remove(&class);
            }
        }
    }
    Some(SetPlatformMesh { peers, weights })
}

fn lines(found: &PlatformMesh) -> Vec<Line> {
    let peers = PeerKind::ALL.iter().map(|kind| {
        let said = found.peers.get(kind).copied();
        let counts = said.unwrap_or(PeerCounts::of(*kind));
        Line::Peers { kind: *kind, said: said.is_some(), counts }
    });
    let weights = ChannelClass::ALL.iter().map(|class| {
        let said = found.weights.get(class).cloned();
        let is_said = said.is_some();
        let weights = said.unwrap_or_else(|| weights_of(*class));
        Line::Weights { class: *class, said: is_said, weights }
    });
    peers.chain(weights).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rap_proto::mesh::Part;
    use serde_json::json;

    use super::*;
    use crate::args::{Active, OfPlatform};

    const OF: OfPlatform = OfPlatform { platform: true };

    fn found() -> PlatformMesh {
        let found = json!({
            "peers": {"thin": {"least": 1, "most": 2, "warm": 2}},
            "weights": {"bulk": {"bandwidth": 40, "latency": 2}},
            "revision": 3,
        });
        serde_json::from_value(found).unwrap()
    }

    fn set_active(kind: PeerKind, active: Active) -> SetPlatformMesh {
        let counts = Counts { active: Some(active), warm: None };
        let (kind, class, weights) = (Some(kind), None, Vec::new());
        changed(&found(), MeshCommand::Set { kind, counts, class, weights, of: OF }).unwrap()
    }

    fn weigh(class: ChannelClass, said: &str) -> SetPlatformMesh {
        let (kind, counts, class) = (None, Counts::default(), Some(class));
        let weights = vec![said.parse().unwrap()];
        changed(&found(), MeshCommand::Set { kind, counts, class, weights, of: OF }).unwrap()
    }

    #[test]
    fn a_list_says_of_everything_who_says_it() {
        let cells: Vec<_> = lines(&found()).iter().map(|line| line.cells().join(" | ")).collect();
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
    fn what_is_not_named_stays_as_it_is() {
        let body = set_active(PeerKind::Normal, Active { least: 4, most: 8 });
        assert_eq!(body.peers[&PeerKind::Normal], PeerCounts { least: 4, most: 8, warm: 8 });
        assert_eq!(body.peers[&PeerKind::Thin], found().peers[&PeerKind::Thin]);
        assert_eq!(body.weights, found().weights);

        let body = weigh(ChannelClass::Bulk, "latency=9");
        let bulk = [(Part::Latency, 9), (Part::Bandwidth, 40)];
        assert_eq!(body.weights[&ChannelClass::Bulk], bulk.into());
        let body = weigh(ChannelClass::Media, "latency=9");
        let mut media = weights_of(ChannelClass::Media);
        media.insert(Part::Latency, 9);
        assert_eq!(body.weights[&ChannelClass::Media], media, "the others as the release has them");
    }

    #[test]
    fn what_is_taken_back_is_the_releases_again() {
        let rm = |kind, class| changed(&found(), MeshCommand::Rm { kind, class, of: OF }).unwrap();
        let body = rm(Some(PeerKind::Thin), None);
        assert_eq!((body.peers.len(), &body.weights), (0, &found().weights));
        let body = rm(None, Some(ChannelClass::Bulk));
        assert_eq!((&body.peers, body.weights.len()), (&found().peers, 0));
        assert_eq!(changed(&found(), MeshCommand::Get { of: OF }), None);
    }
}
