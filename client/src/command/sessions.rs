//! `rap sessions`.

use rap_proto::api::{Session, SessionState};

use super::Context;
use crate::{args::SessionsCommand, failure::Failure, output::Row};

impl Row for Session {
    const COLUMNS: &'static [&'static str] =
        &["ID", "USER", "RESOURCE", "STATE", "REQUESTED", "UP", "DOWN", "REASON"];

    fn cells(&self) -> Vec<String> {
        let reason = self.end_reason.map(|reason| reason.to_string());
        let denial = self.denial.map(|code| code.to_string());
        vec![
            self.id.to_string(),
            self.user_name.as_ref().map_or_else(|| self.user.to_string(), ToString::to_string),
            self.resource_name.as_ref().map(ToString::to_string).unwrap_or_default(),
            self.state.to_string(),
            self.requested_at.to_string(),
            self.bytes_up.to_string(),
            self.bytes_down.to_string(),
            reason.or(denial).unwrap_or_default(),
        ]
    }
}

pub(super) async fn run(context: &Context, command: SessionsCommand) -> Result<(), Failure> {
    let api = context.api()?;
    match command {
        SessionsCommand::Ls { all } => {
            let query: Vec<(&str, String)> = context
                .config
                .asked_organization()
                .map(|organization| ("organization", organization.to_string()))
                .into_iter()
                .collect();
            let mut sessions: Vec<Session> = api.list("/sessions", &query).await?;
            sessions.retain(|session| all || is_open(session.state));
            sessions.sort_by_key(|session| std::cmp::Reverse(session.requested_at));
            context.list(&sessions)
        }
        SessionsCommand::Get { session } => {
            let session: Session = api.get(&format!("/sessions/{session}")).await?;
            context.one(&session)
        }
        SessionsCommand::End { session } => {
            let path = format!("/sessions/{session}");
            let found: Session = api.get(&path).await?;
            api.delete(&path, Some(found.revision)).await?;
            context.did(&format!("the session {session} is ended"))
        }
    }
}

fn is_open(state: SessionState) -> bool {
    match state {
        SessionState::Requested | SessionState::Started | SessionState::Terminated => true,
        SessionState::Denied | SessionState::Ended => false,
    }
}
