//! `rap carriers`.

use rap_proto::{
    Lane,
    api::{Carriers, Changed, PlatformCarriers, SetCarriers},
    carriers::{CarrierRule, CarrierRules, CarrierRuling},
};
use reqwest::Method;
use serde::Serialize;

use super::Context;
use crate::{args::CarriersCommand, failure::Failure, output::Row};

const PLATFORM: &str = "/platform/carriers";
const LANES: [Lane; 3] = [Lane::Interactive, Lane::Media, Lane::Bulk];

/// A lane of an organization.
#[derive(Debug, Serialize)]
struct Line {
    lane: Lane,
    /// What the organization says; absent where that is nothing.
    carrier: Option<CarrierRule>,
    platform: Option<CarrierRule>,
    /// What both come to. A control plane of the release before knows of no platform's rule.
    taken: CarrierRuling,
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &["LANE", "CARRIER", "PLATFORM", "TAKEN"];

    fn cells(&self) -> Vec<String> {
        let Self { lane, carrier, platform, taken } = self;
        vec![lane.to_string(), word(*carrier), word(*platform), taken.to_string()]
    }
}

/// The same of everybody.
#[derive(Debug, Serialize)]
struct PlatformLine {
    lane: Lane,
    carrier: Option<CarrierRule>,
}

impl Row for PlatformLine {
    const COLUMNS: &'static [&'static str] = &["LANE", "CARRIER"];

    fn cells(&self) -> Vec<String> {
        vec![self.lane.to_string(), word(self.carrier)]
    }
}

fn word(rule: Option<CarrierRule>) -> String {
    rule.map_or("auto", CarrierRule::as_str).to_owned()
}

pub(super) async fn run(context: &Context, command: CarriersCommand) -> Result<(), Failure> {
    let (of, change) = match command {
        CarriersCommand::Ls { of } => (of, None),
        CarriersCommand::Set { lane, rule, of } => (of, Some((lane, Some(rule)))),
        CarriersCommand::Rm { lane, of } => (of, Some((lane, None))),
    };
    if of.platform { of_platform(context, change).await } else { of_one(context, change).await }
}

/// What is to be said of a lane from now on.
type Change = (Lane, Option<CarrierRule>);

async fn of_one(context: &Context, change: Option<Change>) -> Result<(), Failure> {
    let api = context.api()?;
    let path = format!("{}/carriers", context.organization_path(&api).await?);
    let found: Carriers = api.get(&path).await?;
    let Some(change) = change else { return context.list(&lines(&found)) };
    let Carriers { interactive, media, bulk, revision, .. } = found;
    let body = changed(SetCarriers { interactive, media, bulk }, change);
    let _: Changed = api.change(Method::PUT, &path, Some(revision), Some(&body)).await?;
    context.list(&lines(&api.get(&path).await?))
}

async fn of_platform(context: &Context, change: Option<Change>) -> Result<(), Failure> {
    let api = context.api()?;
    let found: PlatformCarriers = api.get(PLATFORM).await?;
    let Some(change) = change else { return context.list(&platform_lines(&found)) };
    let PlatformCarriers { interactive, media, bulk, revision } = found;
    let body = changed(SetCarriers { interactive, media, bulk }, change);
    let _: Changed = api.change(Method::PUT, PLATFORM, Some(revision), Some(&body)).await?;
    context.list(&platform_lines(&api.get(PLATFORM).await?))
}

/// The same rules but for one lane.
fn changed(mut said: SetCarriers, (lane, rule): Change) -> SetCarriers {
    match lane {
        Lane::Interactive => said.interactive = rule,
        Lane::Media => said.media = rule,
        Lane::Bulk => said.bulk = rule,
    }
    said
}

fn lines(found: &Carriers) -> Vec<Line> {
    let Carriers { interactive, media, bulk, .. } = *found;
    let own = CarrierRules { interactive, media, bulk };
    let line = |lane| {
        let carrier = own.of(lane);
        let platform = found.platform.and_then(|rules| rules.of(lane));
        let taken = found.taken.as_ref().map(|taken| match lane {
            Lane::Interactive => taken.interactive,
            Lane::Media => taken.media,
            Lane::Bulk => taken.bulk,
        });
        let taken = taken.unwrap_or(CarrierRuling::of(platform, carrier));
        Line { lane, carrier, platform, taken }
    };
    LANES.map(line).into()
}

fn platform_lines(found: &PlatformCarriers) -> Vec<PlatformLine> {
    let PlatformCarriers { interactive, media, bulk, .. } = *found;
    let rules = CarrierRules { interactive, media, bulk };
    LANES.map(|lane| PlatformLine { lane, carrier: rules.of(lane) }).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn cells(found: serde_json::Value) -> Vec<String> {
        let found: Carriers = serde_json::from_value(found).unwrap();
        lines(&found).iter().map(|line| line.cells().join(" ")).collect()
    }

    #[test]
    fn a_list_says_what_each_says_and_what_is_taken() {
        let organization = "01890a5d-ac96-774b-bcce-b302099a8057";
        let before = json!({"organization": organization, "media": "quic-only", "revision": 3});
        let said =
            ["interactive auto auto auto", "media quic-only auto quic-only", "bulk auto auto auto"];
        assert_eq!(cells(before), said, "by a control plane of the release before");
        let now = json!({
            "organization": organization, "media": "quic-only", "revision": 3,
            "platform": {"media": "tcp-only", "bulk": "tcp"},
            "taken": {"interactive": "auto", "media": "none", "bulk": "tcp"},
        });
        let said =
            ["interactive auto auto auto", "media quic-only tcp-only none", "bulk auto tcp tcp"];
        assert_eq!(cells(now), said);
    }

    #[test]
    fn one_lane_changes_and_the_others_stay() {
        let found: PlatformCarriers =
            serde_json::from_value(json!({"media": "quic-only", "revision": 3})).unwrap();
        let shown: Vec<_> = platform_lines(&found).iter().map(Row::cells).collect();
        assert_eq!(shown, [["interactive", "auto"], ["media", "quic-only"], ["bulk", "auto"]]);
        let said = || SetCarriers { interactive: None, media: found.media, bulk: None };
        let body = changed(said(), (Lane::Bulk, Some(CarrierRule::Tcp)));
        assert_eq!(
            serde_json::to_value(body).unwrap(),
            json!({"media": "quic-only", "bulk": "tcp"})
        );
        let body = changed(said(), (Lane::Media, None));
        assert_eq!(serde_json::to_value(body).unwrap(), json!({}));
    }
}
