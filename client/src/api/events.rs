//! The stream of new events (server-sent events), resumed where it broke.

#[cfg(all(test, feature = "dev"))]
mod tests;

use std::time::Duration;

use futures_util::StreamExt as _;
use rap_proto::api::{AuditEvent, EventId, Problem, ProblemCode, UNREADABLE_EVENT_ID};
use reqwest::{Method, header};

use super::{Api, Attempt, Heard, Tried, Turn, decode, refused};
use crate::failure::{Exit, Failure};

/// The name of the messages that only say how far the log is.
const BOOKMARK: &str = "bookmark";
/// The longest line of the stream, in bytes.
const MAX_LINE_BYTES: usize = 1024 * 1024;
/// The pause before a broken stream is opened again.
const RESUME_PAUSE: Duration = Duration::from_secs(1);
/// How often in a row a stream is opened again without a single event having come.
const MAX_RESUMES: u32 = 30;

/// New events, from a position on, without end.
pub(crate) struct Events<'a> {
    api: &'a Api,
    tried: Tried,
    /// The id of the last event that was seen.
    last_id: String,
    query: Vec<(&'static str, String)>,
    response: Option<reqwest::Response>,
    buffer: Vec<u8>,
    /// Whether a message came since the stream was opened.
    heard: bool,
    failures: u32,
}

impl Api {
    /// Follows the log behind `last`; from the first message on, behind whatever id came with the last one.
    pub(crate) fn events(&self, last: &EventId, query: Vec<(&'static str, String)>) -> Events<'_> {
        Events {
            api: self,
            tried: Tried::default(),
            last_id: last.to_string(),
            query,
            response: None,
            buffer: Vec::new(),
            heard: false,
            failures: 0,
        }
    }
}

impl Events<'_> {
    /// The next event. Fails only when it cannot be had: the access was withdrawn, or the control
    /// plane stays away.
    pub(crate) async fn next(&mut self) -> Result<AuditEvent, Failure> {
        loop {
            match self.read().await {
                Ok(Some(event)) => {
                    self.failures = 0;
                    return Ok(event);
                }
                Ok(None) if self.heard => {}
                // What ends at once may go on doing so.
                Ok(None) => tokio::time::sleep(RESUME_PAUSE).await,
                Err(failure) if failure.exit == Exit::Unavailable => {
                    self.failures += 1;
                    if self.failures > MAX_RESUMES {
                        return Err(failure);
                    }
                    tracing::debug!(%failure, "the event stream is opened again");
                    tokio::time::sleep(RESUME_PAUSE).await;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// The next event of the open stream; `None` when the stream ended.
    async fn read(&mut self) -> Result<Option<AuditEvent>, Failure> {
        let mut data = String::new();
        let mut id = None;
        let mut name = String::new();
        while let Some(line) = self.line().await? {
            if let Some(value) = field(&line, "data") {
                data.push_str(value);
            } else if let Some(value) = field(&line, "id") {
                id = Some(value.to_owned());
            } else if let Some(value) = field(&line, "event") {
                value.clone_into(&mut name);
            } else if line.is_empty() {
                self.heard |= id.is_some() || !data.is_empty();
                self.last_id = id.take().unwrap_or_else(|| std::mem::take(&mut self.last_id));
                let data = std::mem::take(&mut data);
                // A bookmark moves the position and carries no event.
                if std::mem::take(&mut name) != BOOKMARK && !data.is_empty() {
                    return decode(data.as_bytes()).map(Some);
                }
            }
        }
        self.response = None;
        self.buffer.clear();
        Ok(None)
    }

    async fn line(&mut self) -> Result<Option<String>, Failure> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let text = String::from_utf8_lossy(&line);
                return Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()));
            }
            if self.buffer.len() > MAX_LINE_BYTES {
                return Err(Failure::new(Exit::Limit, "an event is too large"));
            }
            match self.chunk().await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }

    async fn chunk(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let open = match self.response.take() {
            Some(open) => open,
            None => {
                self.heard = false;
                self.open().await?
            }
        };
        let chunk = self.response.insert(open).chunk().await;
        if !matches!(chunk, Ok(Some(_))) {
            self.response = None;
            self.buffer.clear();
        }
        match chunk {
            Ok(chunk) => Ok(chunk.map(|bytes| bytes.to_vec())),
            Err(error) => Err(self.api.lost(&self.api.servers.present(), &error).failure),
        }
    }

    /// Opens the stream behind the last id; behind its position alone where the server says that it reads
    /// no more of it.
    async fn open(&mut self) -> Result<reqwest::Response, Failure> {
        let refused = match self.ask(&self.last_id.clone()).await? {
            Ok(open) => return Ok(open),
            Err(refused) => refused,
        };
        let Some(position) = position_alone(&self.last_id, &refused) else {
            return Err(explained(refused));
        };
        self.ask(&position).await?.map_err(explained)
    }

    async fn ask(&mut self, id: &str) -> Result<Result<reqwest::Response, Problem>, Failure> {
        let mut first = None;
        loop {
            let turn = self.api.servers.turn(&mut self.tried, true);
            let asked = self.attempt(&turn, id).await;
            let turn = (turn.server, &mut first);
            if let Some(outcome) = self.api.settled(&mut self.tried, turn, asked) {
                return outcome.map_err(|attempt| attempt.failure);
            }
        }
    }

    async fn attempt(
        &self,
        turn: &Turn,
        id: &str,
    ) -> Result<Result<reqwest::Response, Problem>, Attempt> {
        let request = self
            .api
            .request(turn, Method::GET, "/events")
            .query(&self.query)
            .header(header::ACCEPT, "text/event-stream")
            .header("last-event-id", id);
        let fresh = request.send().await.map_err(|error| self.api.lost(&turn.server, &error))?;
        if fresh.status().is_success() { Ok(Ok(fresh)) } else { problem(fresh).await.map(Err) }
    }
}

/// What an answer says; or what it means, where another server may answer, or where it is no problem.
async fn problem(response: reqwest::Response) -> Result<Problem, Attempt> {
    let status = response.status();
    let mut body = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(Ok(chunk)) = stream.next().await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_LINE_BYTES {
            break;
        }
    }
    let attempt = refused(status, &body);
    match serde_json::from_slice(&body) {
        Ok(problem) if attempt.heard == Heard::Answer => Ok(problem),
        _ => Err(attempt),
    }
}

/// The id without its imprint, for a replica of another release, which reads another one or none. A release
/// that has no rule for that says the same of an id that it cannot read and of an event that was lost: there
/// nothing is passed over.
fn position_alone(id: &str, refused: &Problem) -> Option<String> {
    let EventId { cluster, position, imprint } = id.parse().ok()?;
    imprint.filter(|_| is_gone(refused, UNREADABLE_EVENT_ID))?;
    Some(EventId::at(cluster, position).to_string())
}

fn is_gone(problem: &Problem, rule: &str) -> bool {
    problem.code() == Some(ProblemCode::PositionTooOld) && problem.rule.as_deref() == Some(rule)
}

fn explained(problem: Problem) -> Failure {
    if problem.code() != Some(ProblemCode::PositionTooOld) {
        return problem.into();
    }
    let hint = if is_gone(&problem, "last_event_id") {
        "perhaps the control plane's database lost events: read anew with --since, from before them"
    } else {
        "start again without --since, or from a later time"
    };
    Failure::from(problem).hint(hint)
}

/// The value of a line such as `data: …`, if it is that field's.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let value = line.strip_prefix(name)?.strip_prefix(':')?;
    Some(value.strip_prefix(' ').unwrap_or(value))
}
