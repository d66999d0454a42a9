//! `rap audit`: the log as an auditor reads it.

mod export;
mod folder;
mod prove;
mod rebuild;
mod verify;

use rap_proto::api::{AuditActor, AuditEvent, Cluster, EventId, MAX_PAGE_SIZE, Page, Replay};
use tokio::signal::unix::{SignalKind, signal};

use self::verify::Demands;
use super::{Context, now};
use crate::{
    api::Api,
    args::{AuditCommand, Format, When},
    failure::{Exit, Failure},
    output::{self, Row},
};

impl Row for AuditEvent {
    const COLUMNS: &'static [&'static str] =
        &["POSITION", "TIME", "EVENT", "ACTOR", "RULES", "STREAM"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.position.to_string(),
            self.at.to_string(),
            self.event_type.clone(),
            actor(&self.actor),
            rules(self),
            format!("{}#{}", self.stream, self.revision),
        ]
    }
}

pub(super) async fn run(context: &Context, command: AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::Log { since, until, follow } => {
            log(context, &context.api()?, since, until, follow).await
        }
        AuditCommand::Replay { as_of, node } => {
            let mut query = Vec::new();
            query.extend(as_of.map(|position| ("as_of", position.to_string())));
            query.extend(node.map(|node| ("node", node.to_string())));
            replay(context, &context.api()?, &query).await
        }
        AuditCommand::Rebuild { status } => rebuild::run(context, &context.api()?, status).await,
        AuditCommand::Export { folder } => export::run(context, &context.api()?, &folder).await,
        AuditCommand::Prove { position } => prove::run(&context.api()?, position).await,
        AuditCommand::Verify { path, key, known, witnesses } => {
            let demands = Demands { keys: &key, known: known.as_deref(), witnesses };
            verify::run(context, &path, &demands)
        }
    }
}

async fn replay(
    context: &Context,
    api: &Api,
    query: &[(&'static str, String)],
) -> Result<(), Failure> {
    let replay: Replay = api.get_with("/audit/replay", query).await?;
    context.one(&replay)?;
    verdict(&replay)
}

/// Only what was compared and found to be the same is a success.
fn verdict(replay: &Replay) -> Result<(), Failure> {
    match replay.altered {
        _ if replay.equal == Some(true) && !is_uncompared(replay) => Ok(()),
        _ if replay.equal != Some(false) => Err(Failure::new(
            Exit::NotCompared,
            "the node's snapshot was compiled again, and compared with nothing: this replica \
             neither served it lately nor heard the node say that it applied it",
        )
        .hint(
            "compare its digest with the node's own (rap-node-agent status), or ask another \
             replica with --control",
        )),
        Some(position) => Err(Failure::new(
            Exit::Failed,
            format!("from position {position} on, the log is not what its tree commits to"),
        )
        .hint("keep the database as it is, and compare it with exports and with what nodes saw")),
        None if differs(replay) => Err(Failure::new(
            Exit::Failed,
            "the node has, or was served, another snapshot than the one that the log gives",
        )
        .hint("keep the node's state and the log: one of the two was changed")),
        None => Err(Failure::new(Exit::Failed, "the live projections are not what the log says")
            .hint("keep the server's log, and let it fold anew: rap audit rebuild")),
    }
}

/// Whether a snapshot was compiled again and there is nothing to compare it with. A server of the release
/// before says all the same that it is equal.
fn is_uncompared(replay: &Replay) -> bool {
    replay.snapshot.as_ref().is_some_and(|snapshot| {
        snapshot.served_digest.is_none() && snapshot.applied_digest.is_none()
    })
}

/// Whether a node has or was served something else.
fn differs(replay: &Replay) -> bool {
    replay.snapshot.as_ref().is_some_and(|snapshot| {
        let known = [snapshot.served_digest, snapshot.applied_digest];
        known.into_iter().flatten().any(|digest| digest != snapshot.digest)
    })
}

async fn log(
    context: &Context,
    api: &Api,
    since: Option<When>,
    until: Option<When>,
    follow: bool,
) -> Result<(), Failure> {
    let mut query = Vec::new();
    if let Some(organization) = context.config.asked_organization() {
        query.push(("organization", organization.to_string()));
    }
    let filter = query.clone();
    query.extend(since.map(|since| ("since", since.resolve(now()).to_string())));
    query.extend(until.map(|until| ("until", until.resolve(now()).to_string())));
    if !follow {
        return context.list(&api.list::<AuditEvent>("/audit", &query).await?);
    }
    // Made once: a signal that comes while an event is printed would be lost on a later one.
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|error| Failure::io("signals cannot be awaited", &error))?;
    let cluster: Cluster = api.get("/cluster").await?;
    // Without a start, only what happens from now on is shown.
    let mut last = cluster.position;
    if since.is_some() {
        let printed = tokio::select! {
            printed = past(context, api, &query) => printed?,
            _ = interrupt.recv() => return Ok(()),
        };
        last = printed.unwrap_or(last);
    }
    let mut events = api.events(&EventId::at(cluster.id, last), filter);
    loop {
        let event = tokio::select! {
            event = events.next() => event?,
            _ = interrupt.recv() => return Ok(()),
        };
        print_line(context.format(), &event)?;
    }
}

/// Prints what the log holds already, page by page; the position of the last event.
async fn past(
    context: &Context,
    api: &Api,
    query: &[(&'static str, String)],
) -> Result<Option<u64>, Failure> {
    let mut last = None;
    let mut after: Option<String> = None;
    loop {
        let mut page_query = query.to_vec();
        page_query.push(("limit", MAX_PAGE_SIZE.to_string()));
        page_query.extend(after.take().map(|after| ("after", after)));
        let page: Page<AuditEvent> = api.page("/audit", &page_query).await?;
        for event in &page.items {
            print_line(context.format(), event)?;
            last = Some(event.position);
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(last),
        }
    }
}

/// One event as one line, so that a reader can follow.
fn print_line(format: Format, event: &AuditEvent) -> Result<(), Failure> {
    let text = match format {
        Format::Table => {
            let subject = serde_json::to_string(&event.payload).unwrap_or_default();
            format!(
                "{:>6}  {}  {:<32}  {}  {}  {subject}\n",
                event.position,
                event.at,
                event.event_type,
                actor(&event.actor),
                rules(event),
            )
        }
        Format::Json => serde_json::to_string(event).unwrap_or_default() + "\n",
        Format::Yaml => {
            format!("---\n{}", serde_yaml_ng::to_string(event).unwrap_or_default())
        }
    };
    output::print(&text)
}

/// By which rules a person did it, if that is in the log.
fn rules(event: &AuditEvent) -> String {
    match (&event.allowed, &event.actor) {
        (Some(allowed), _) => allowed.rules.join(","),
        (None, AuditActor::User { .. } | AuditActor::ApiToken { .. }) => {
            "(not recorded)".to_owned()
        }
        (None, _) => "-".to_owned(),
    }
}

fn actor(actor: &AuditActor) -> String {
    match actor {
        AuditActor::Setup => "setup".to_owned(),
        AuditActor::User { user, .. } => format!("user {user}"),
        AuditActor::ApiToken { user, .. } => format!("token of {user}"),
        AuditActor::Node { node } => format!("node {node}"),
        AuditActor::System { process } => format!("system {process}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event(actor: &Value, allowed: Option<Value>) -> AuditEvent {
        let id = "00000000-0000-0000-0000-000000000001";
        let mut event = json!({
            "position": 1, "category": "resource", "stream": id, "revision": 1, "schema": 1,
            "type": "resource.created", "organization": id, "actor": actor, "command": id,
            "at": "2026-01-01T00:00:00Z", "payload": {},
        });
        if let Some(allowed) = allowed {
            event["allowed"] = allowed;
        }
        serde_json::from_value(event).expect("an event")
    }

    #[test]
    fn rules_are_named_where_they_are_recorded_and_else_it_is_said_that_they_are_not() {
        let id = "00000000-0000-0000-0000-000000000001";
        let user = json!({"kind": "user", "user": id, "login": id});
        let allowed = json!({
            "actions": ["resource.create"], "rules": ["builtin/organization_admin", "p/r"],
            "policyHash": null, "entityVersion": 3,
        });
        assert_eq!(rules(&event(&user, Some(allowed))), "builtin/organization_admin,p/r");
        // Of an older event, and of an older server.
        assert_eq!(rules(&event(&user, Some(Value::Null))), "(not recorded)");
        assert_eq!(rules(&event(&user, None)), "(not recorded)");
        assert_eq!(rules(&event(&json!({"kind": "system", "process": "p"}), None)), "-");
    }

    #[test]
    fn only_a_replay_that_was_compared_and_found_equal_succeeds() {
        let digest = |of: &[u8]| json!(rap_proto::Digest::of(of));
        let exit = |equal: Value, applied: Value| {
            let replay = json!({
                "equal": equal, "position": 1, "digest": digest(b"state"), "events": 1,
                "root": digest(b"root"),
                "snapshot": {
                    "node": "00000000-0000-0000-0000-000000000001", "version": 1,
                    "issuedAt": "2026-01-01T00:00:00Z", "digest": digest(b"one"),
                    "appliedDigest": applied, "sections": {},
                },
            });
            let replay: Replay = serde_json::from_value(replay).expect("a replay");
            verdict(&replay).map_err(|failure| failure.exit)
        };
        assert_eq!(exit(json!(true), digest(b"one")), Ok(()));
        assert_eq!(exit(json!(false), digest(b"two")), Err(Exit::Failed));
        assert_eq!(exit(Value::Null, Value::Null), Err(Exit::NotCompared));
    }
}
