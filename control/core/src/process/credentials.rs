use rap_events::login::{LoginCloseReason, LoginCommand};

use super::{ProcessCommand, Step, command_id};
use crate::state::{Login, State};

const NAME: &str = "login-closing";

/// Closes the logins of disabled users, and those that were opened with a password that is no
/// longer the user's; the login that changed the password stays open.
pub(super) fn close_logins(state: &State) -> impl Iterator<Item = Step> {
    state.logins().iter().filter_map(|login| {
        let (reason, causation) = reason(state, login)?;
        Some(Step {
            process: NAME,
            id: command_id(NAME, login.id.uuid(), login.stamp.revision),
            causation,
            command: ProcessCommand::Login(login.id, LoginCommand::Close { reason }),
        })
    })
}

fn reason(state: &State, login: &Login) -> Option<(LoginCloseReason, Option<u64>)> {
    let user = state.users().get(login.user)?;
    if user.disabled {
        return Some((LoginCloseReason::UserDisabled, Some(user.stamp.changed)));
    }
    let change = user.password_change?;
    let is_older = login.stamp.created < change.position && change.by != Some(login.id);
    is_older.then_some((LoginCloseReason::PasswordChanged, Some(change.position)))
}
