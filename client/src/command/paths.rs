//! `rap paths`.

use rap_proto::{
    api::{Changed, PlatformPaths, SetPlatformPaths},
    paths::DirectPaths,
};
use reqwest::Method;
use serde::Serialize;

use super::Context;
use crate::{args::PathsCommand, failure::Failure, output::Row};

const PATH: &str = "/platform/paths";

#[derive(Debug, Serialize)]
struct Line {
    direct: DirectPaths,
    audited: bool,
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &["DIRECT", "AUDITED"];

    fn cells(&self) -> Vec<String> {
        vec![self.direct.to_string(), if self.audited { "yes" } else { "no" }.to_owned()]
    }
}

pub(super) async fn run(context: &Context, command: PathsCommand) -> Result<(), Failure> {
    let api = context.api()?;
    let found: PlatformPaths = api.get(PATH).await?;
    let PathsCommand::Set { direct, audit, .. } = command else {
        return context.list(&[line(&found)]);
    };
    let body = SetPlatformPaths { direct, audited: audit };
    let _: Changed = api.change(Method::PUT, PATH, Some(found.revision), Some(&body)).await?;
    context.list(&[line(&api.get(PATH).await?)])
}

const fn line(found: &PlatformPaths) -> Line {
    Line { direct: found.direct, audited: found.audited }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_said_is_shown_in_words() {
        let found = serde_json::json!({"direct": "forbidden", "audited": true, "revision": 3});
        let found: PlatformPaths = serde_json::from_value(found).unwrap();
        assert_eq!(line(&found).cells(), ["forbidden", "yes"]);
        let found = serde_json::json!({"direct": "when_better", "audited": false, "revision": 3});
        let found: PlatformPaths = serde_json::from_value(found).unwrap();
        assert_eq!(line(&found).cells(), ["when_better", "no"]);
    }
}
