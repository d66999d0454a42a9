//! `rap carriers`.

use rap_proto::{
    Lane,
    api::{Carriers, Changed, SetCarriers},
    carriers::CarrierRule,
};
use reqwest::Method;
use serde::Serialize;

use super::Context;
use crate::{args::CarriersCommand, failure::Failure, output::Row};

#[derive(Debug, Serialize)]
struct Line {
    lane: Lane,
    /// Absent where entries choose.
    carrier: Option<CarrierRule>,
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &["LANE", "CARRIER"];

    fn cells(&self) -> Vec<String> {
        let carrier = self.carrier.map_or("auto", CarrierRule::as_str);
        vec![self.lane.to_string(), carrier.to_owned()]
    }
}

pub(super) async fn run(context: &Context, command: CarriersCommand) -> Result<(), Failure> {
    let api = context.api()?;
    let path = format!("{}/carriers", context.organization_path(&api).await?);
    let found: Carriers = api.get(&path).await?;
    let (lane, rule) = match command {
        CarriersCommand::Ls => return context.list(&lines(&found)),
        CarriersCommand::Set { lane, rule } => (lane, Some(rule)),
        CarriersCommand::Rm { lane } => (lane, None),
    };
    let body = changed(&found, lane, rule);
    let _: Changed = api.change(Method::PUT, &path, Some(found.revision), Some(&body)).await?;
    context.list(&lines(&api.get(&path).await?))
}

/// The same rules but for one lane.
fn changed(found: &Carriers, lane: Lane, rule: Option<CarrierRule>) -> SetCarriers {
    let Carriers { interactive, media, bulk, .. } = *found;
    let mut body = SetCarriers { interactive, media, bulk };
    match lane {
        Lane::Interactive => body.interactive = rule,
        Lane::Media => body.media = rule,
        Lane::Bulk => body.bulk = rule,
    }
    body
}

fn lines(found: &Carriers) -> Vec<Line> {
    let said = [
        (Lane::Interactive, found.interactive),
        (Lane::Media, found.media),
        (Lane::Bulk, found.bulk),
    ];
    said.map(|(lane, carrier)| Line { lane, carrier }).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn one_lane_changes_and_the_others_stay() {
        let found: Carriers = serde_json::from_value(serde_json::json!({
            "organization": "01890a5d-ac96-774b-bcce-b302099a8057",
            "media": "quic-only",
            "revision": 3,
        }))
        .unwrap();
        let cells: Vec<_> = lines(&found).iter().map(Row::cells).collect();
        assert_eq!(cells, [["interactive", "auto"], ["media", "quic-only"], ["bulk", "auto"]]);
        let body = changed(&found, Lane::Bulk, Some(CarrierRule::Tcp));
        let said = serde_json::json!({"media": "quic-only", "bulk": "tcp"});
        assert_eq!(serde_json::to_value(body).unwrap(), said);
        let body = changed(&found, Lane::Media, None);
        assert_eq!(serde_json::to_value(body).unwrap(), serde_json::json!({}));
    }
}
