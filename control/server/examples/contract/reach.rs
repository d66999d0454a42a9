//! Which operations of the document the checks reached, by what the server itself counted.

use std::{collections::BTreeMap, net::SocketAddr};

use serde_json::Value;

use crate::Failed;

/// How often each method and route was answered with each status.
pub(crate) struct Answers(BTreeMap<(String, String, u16), u64>);

impl Answers {
    pub(crate) async fn of(http: &reqwest::Client, metrics: SocketAddr) -> Result<Self, Failed> {
        let page = http.get(format!("http://{metrics}/metrics")).send().await?.text().await?;
        Ok(Self(page.lines().filter_map(counted).collect()))
    }

    /// The ids of the document's operations that were not reached since `before`.
    pub(crate) fn unreached(&self, before: &Self, document: &Value) -> Vec<String> {
        let paths = document["paths"].as_object().into_iter().flatten();
        let operations = paths.flat_map(|(path, item)| {
            let methods = item.as_object().into_iter().flatten();
            methods.map(move |(method, operation)| (method.to_uppercase(), path, operation))
        });
        operations
            .filter(|(method, path, _)| !self.reached(before, method, path))
            .map(|(_, _, operation)| operation["operationId"].as_str().unwrap_or("").to_owned())
            .collect()
    }

    fn reached(&self, before: &Self, method: &str, path: &str) -> bool {
        self.0.iter().any(|(key, count)| {
            let (of, route, status) = key;
            (of.as_str(), route.as_str()) == (method, path)
                && is_reached(*status)
                && before.0.get(key).is_none_or(|earlier| earlier < count)
        })
    }
}

/// Whether an answer comes from the operation itself: it was done, or refused for what it asks. What
/// is answered before the operation looks says nothing of it: a request that is not understood (400),
/// nobody's (401), or without its condition (428). Nor does what is not there (404).
fn is_reached(status: u16) -> bool {
    matches!(status, 200..=299 | 403 | 409 | 410 | 412 | 422)
}

/// A line of the page that counts requests.
fn counted(line: &str) -> Option<((String, String, u16), u64)> {
    let line = line.strip_prefix("rap_control_requests_total{method=\"")?;
    let (method, line) = line.split_once("\",route=\"")?;
    let (route, line) = line.split_once("\",status=\"")?;
    let (status, count) = line.split_once("\"} ")?;
    Some(((method.to_owned(), route.to_owned(), status.parse().ok()?), count.parse().ok()?))
}
