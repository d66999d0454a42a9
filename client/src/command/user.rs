//! `rap user`.

use rap_proto::api::{Because, Changed, Invited, NewUser, SecretText, User, UserCreated};
use reqwest::Method;

use super::{Context, ControlPlane};
use crate::{
    api::Api,
    args::{Format, UserCommand},
    failure::Failure,
    output::{self, Row},
    prompt,
};

impl Row for User {
    const COLUMNS: &'static [&'static str] = &["NAME", "STATE", "PLATFORM", "DISPLAY NAME", "ID"];

    fn cells(&self) -> Vec<String> {
        let state = match (self.erased, self.disabled, self.active) {
            (true, ..) => "erased",
            (false, true, _) => "disabled",
            (false, false, true) => "active",
            (false, false, false) => "invited",
        };
        let roles: Vec<&str> = self.platform_roles.iter().map(|role| role.as_str()).collect();
        vec![
            self.name.to_string(),
            state.to_owned(),
            roles.join(","),
            self.display_name.clone(),
            self.id.to_string(),
        ]
    }
}

pub(super) async fn run(context: &Context, command: UserCommand) -> Result<(), Failure> {
    let api = context.api()?;
    let revision =
        async |path: &str| -> Result<u64, Failure> { Ok(api.get::<User>(path).await?.revision) };
    match command {
        UserCommand::Ls => context.list(&api.list::<User>("/users", &[]).await?),
        UserCommand::Get { user } => {
            context.one(&api.get::<User>(&format!("/users/{user}")).await?)
        }
        UserCommand::Create { name, display_name, role, password_stdin } => {
            let password = if password_stdin { Some(prompt::stdin_line()?) } else { None };
            let body = NewUser {
                name,
                display_name,
                password,
                organization: context.config.asked_organization(),
                role,
            };
            created(context, &api.post("/users", &body).await?)
        }
        UserCommand::Invite { user } => {
            let path = format!("/users/{user}");
            let revision = revision(&path).await?;
            let path = format!("{path}/invite");
            let invited: Invited =
                api.change(Method::POST, &path, Some(revision), None::<&Because>).await?;
            let sentence =
                invitation(context, &invited.invitation, &invited.expires_at.to_string());
            output::done(context.format(), &sentence, &invited)
        }
        UserCommand::Disable { user, reason } => {
            let path = format!("/users/{user}");
            let revision = revision(&path).await?;
            let (path, body) = (format!("{path}/disable"), Because { reason });
            let _: Changed = api.change(Method::POST, &path, Some(revision), Some(&body)).await?;
            context.did(&format!("{user} is disabled"))
        }
        UserCommand::Erase { user, yes } => {
            erase(&api, &format!("/users/{user}"), yes).await?;
            context.did(&format!("{user} is erased"))
        }
        UserCommand::Enable { user } => {
            let path = format!("/users/{user}");
            let revision = revision(&path).await?;
            let path = format!("{path}/enable");
            let _: Changed =
                api.change(Method::POST, &path, Some(revision), None::<&Because>).await?;
            context.did(&format!("{user} is enabled"))
        }
        UserCommand::Grant { user, role } => {
            let revision = revision(&format!("/users/{user}")).await?;
            let path = format!("/users/{user}/platform-roles/{role}");
            api.put(&path, Some(revision), None::<&Because>).await?;
            context.did(&format!("{user} is {role}"))
        }
        UserCommand::Ungrant { user, role } => {
            let revision = revision(&format!("/users/{user}")).await?;
            api.delete(&format!("/users/{user}/platform-roles/{role}"), Some(revision)).await?;
            context.did(&format!("{user} is no {role} any more"))
        }
    }
}

async fn erase(api: &Api, path: &str, yes: bool) -> Result<(), Failure> {
    let found: User = api.get(path).await?;
    if !yes {
        let (name, warning) = (found.name.to_string(), erasing(&found));
        prompt::confirm(&warning, &name)?;
    }
    let path = format!("{path}/erase");
    let _: Changed =
        api.change(Method::POST, &path, Some(found.revision), None::<&Because>).await?;
    Ok(())
}

/// What a person reads before somebody is erased.
fn erasing(user: &User) -> String {
    let who = match (user.sealed, user.display_name.as_str()) {
        (true, _) => format!("{}, whose display name is sealed,", user.name),
        (false, "") => user.name.to_string(),
        (false, called) => format!("{} ({called})", user.name),
    };
    format!("What is known of {who} will be unreadable for good, and the account disabled.")
}

fn created(context: &Context, created: &UserCreated) -> Result<(), Failure> {
    let name = &created.user.name;
    let sentence = match (&created.invitation, created.invitation_expires_at) {
        (Some(secret), Some(expires_at)) => {
            format!("{name} is created; {}", invitation(context, secret, &expires_at.to_string()))
        }
        _ => format!("{name} is created"),
    };
    match context.format() {
        Format::Table => output::print(&format!("{sentence}\n")),
        Format::Json | Format::Yaml => context.one(created),
    }
}

/// The line that the new user types.
fn invitation(context: &Context, secret: &SecretText, expires_at: &str) -> String {
    let place = context.caller().map_or_else(
        |_| String::new(),
        |caller| {
            let ControlPlane { servers, ca } = caller.control;
            format!(" --control {} --ca {ca}", servers.present())
        },
    );
    format!(
        "until {expires_at} they choose a password with\n  rap login{place} --invitation {}",
        secret.reveal()
    )
}
