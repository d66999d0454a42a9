//! `rap login`, `logout`, `setup`, `passwd`.

use rap_proto::{
    Name,
    api::{AcceptInvitation, ChangePassword, LoggedIn, NewLogin, SecretText, Setup as SetupBody},
};

use super::Context;
use crate::{
    api::Api,
    args::{Login, Passwd, Setup},
    failure::{Exit, Failure},
    profile::Profile,
    prompt::{self, Source},
    random,
};

/// The longest label of a login, in characters.
const MAX_DEVICE_CHARS: usize = rap_proto::api::MAX_LABEL_CHARS;

pub(super) async fn login(context: &Context, arguments: &Login) -> Result<(), Failure> {
    let stored = Profile::load(&context.config.home, &context.config.profile)?;
    let control = context.control(stored.as_ref())?;
    let first = control.servers.present();
    let api = control.api(None)?;
    let source = Source::from_flag(arguments.password_stdin);
    let logged_in: LoggedIn = match &arguments.invitation {
        Some(invitation) => {
            let password = prompt::new_password(source, "Choose a password: ")?;
            let body =
                AcceptInvitation { invitation: SecretText::new(invitation.as_str()), password };
            api.post("/invitations/accept", &body).await?
        }
        None => {
            let known = stored.filter(|stored| stored.knows(&first)).map(|stored| stored.user);
            let name = match arguments.user.clone().or(known) {
                Some(name) => name,
                None => ask_name()?,
            };
            let password = prompt::password(source, &format!("Password of {name}: "))?;
            api.post("/logins", &NewLogin { name, password, device: device() }).await?
        }
    };
    keep(context, &api, logged_in)
}

pub(super) async fn setup(context: &Context, arguments: &Setup) -> Result<(), Failure> {
    let api = context.control(None)?.api(None)?;
    let setup_code = match &arguments.code {
        Some(code) => SecretText::new(code.as_str()),
        None => SecretText::new(prompt::line("Setup code (rapsetup_…): ")?),
    };
    let source = Source::from_flag(arguments.password_stdin);
    let password = prompt::new_password(source, "Choose a password: ")?;
    let body = SetupBody { setup_code, name: arguments.user.clone(), password };
    let logged_in: LoggedIn = api.post("/setup", &body).await?;
    keep(context, &api, logged_in)
}

pub(super) async fn logout(context: &Context) -> Result<(), Failure> {
    let (home, profile) = (&context.config.home, &context.config.profile);
    let Some(stored) = Profile::load(home, profile)? else {
        return context.did("nobody was logged in");
    };
    let api = Api::new(stored.servers(None), stored.ca, Some(stored.secret.clone()))?;
    let ended = api.delete("/logins/current", None).await;
    // What is kept here goes in any case: that is what was asked for.
    Profile::remove(home, profile)?;
    match ended {
        Ok(()) => context.did("logged out"),
        Err(failure) if failure.exit == Exit::Unauthenticated => {
            context.did("logged out; the login had ended already")
        }
        Err(failure) => Err(failure.hint(format!(
            "it is forgotten here, and ends at the control plane at {}",
            stored.expires_at
        ))),
    }
}

pub(super) async fn passwd(context: &Context, arguments: &Passwd) -> Result<(), Failure> {
    let api = context.api()?;
    let (current, new) = if arguments.password_stdin {
        (prompt::stdin_line()?, prompt::stdin_line()?)
    } else {
        let current = prompt::password(Source::Ask, "Old password: ")?;
        (current, prompt::new_password(Source::Ask, "New password: ")?)
    };
    api.put("/me/password", None, Some(&ChangePassword { current, new })).await?;
    context.did("the password is changed; every other login of yours has ended")
}

/// Stores the login with a key of its own; the server that answered is the first to be asked.
fn keep(context: &Context, api: &Api, logged_in: LoggedIn) -> Result<(), Failure> {
    let (key, _) = random::key();
    let (control, name) = (api.servers().present(), &logged_in.name);
    let sentence = format!("logged in at {control} as {name} until {}", logged_in.expires_at);
    let profile = Profile::new(control, api.ca(), logged_in, &key);
    profile.save(&context.config.home, &context.config.profile)?;
    context.did(&sentence)
}

fn ask_name() -> Result<Name, Failure> {
    let typed = prompt::line("Name: ")?;
    typed.parse().map_err(|error| Failure::usage(format!("{typed:?} is no user: {error}")))
}

/// What this login is called in lists: the host's name.
fn device() -> Option<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let label: String = name.chars().filter(|c| !c.is_control()).take(MAX_DEVICE_CHARS).collect();
    (!label.is_empty()).then_some(label)
}
