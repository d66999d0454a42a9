//! One file per command, and what they share.

mod access;
mod audit;
mod bandwidth;
mod can;
mod carriers;
mod connect;
mod login;
mod mesh;
mod node;
mod organization;
mod paths;
mod policy;
mod resource;
mod sessions;
mod ssh;
mod stale;
mod status;
mod token;
mod user;
mod vpn;
mod why;

use std::{
    env, io,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::CommandFactory as _;
use rap_proto::{
    Timestamp,
    api::{Reference, SecretText},
    key::LocalKey,
};

use crate::{
    api::{Api, KnownServers},
    args::{CaFingerprint, Cli, Command, Format},
    config::Config,
    failure::{Exit, Failure},
    link, output,
    profile::Profile,
    random,
};

/// An API token in this variable takes the place of a login.
const TOKEN_VARIABLE: &str = "RAP_TOKEN";

/// Runs what was typed.
pub(crate) fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let config = Config::load(&cli.global)?;
    let context = Context { config };
    match cli.command {
        Command::Completions(arguments) => {
            let mut command = Cli::command();
            clap_complete::generate(arguments.shell, &mut command, "rap", &mut io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Ssh(arguments) => Err(ssh::run(&context, &arguments)),
        #[cfg(feature = "dev")]
        Command::Dev(arguments) => crate::dev::run(&context, &arguments),
        command => start(context, command),
    }
}

fn start(context: Context, command: Command) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::io("the program cannot start its threads", &error))?;
    let result = runtime.block_on(dispatch(&context, command));
    // A thread may still be blocked in a read of standard input.
    runtime.shutdown_background();
    result
}

async fn dispatch(context: &Context, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Login(arguments) => login::login(context, &arguments).await,
        Command::Logout => login::logout(context).await,
        Command::Setup(arguments) => login::setup(context, &arguments).await,
        Command::Passwd(arguments) => login::passwd(context, &arguments).await,
        Command::Ls => access::ls(context).await,
        Command::Proxy(arguments) => access::proxy(context, &arguments).await,
        Command::Connect(arguments) => connect::run(context, &arguments).await,
        Command::SshConfig(arguments) => ssh::config(context, &arguments).await,
        Command::Status(arguments) => return status::run(context, &arguments).await,
        Command::Sessions(command) => sessions::run(context, command).await,
        Command::Org(command) => organization::run(context, command).await,
        Command::User(command) => user::run(context, command).await,
        Command::Node(command) => node::run(context, command).await,
        Command::Pool(command) => resource::pool(context, command).await,
        Command::Resource(command) => resource::run(context, command).await,
        Command::Policy(command) => policy::run(context, command).await,
        Command::Can(arguments) => can::run(context, arguments).await,
        Command::Vpn(command) => vpn::run(context, command).await,
        Command::Bandwidth(command) => bandwidth::run(context, command).await,
        Command::Carriers(command) => carriers::run(context, command).await,
        Command::Paths(command) => paths::run(context, command).await,
        Command::Stale(command) => stale::run(context, command).await,
        Command::Mesh(command) => mesh::run(context, command).await,
        Command::Why(arguments) => why::run(context, &arguments).await,
        Command::Token(command) => token::run(context, command).await,
        Command::Audit(command) => audit::run(context, command).await,
        Command::Ssh(_) | Command::Completions(_) => Ok(()),
        #[cfg(feature = "dev")]
        Command::Dev(_) => Ok(()),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// This machine's calendar time.
pub(crate) fn now() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_millis(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
}

/// What a command works with.
pub(crate) struct Context {
    pub(crate) config: Config,
}

/// Where the control plane is, and whose CA it must show.
pub(crate) struct ControlPlane {
    pub(crate) servers: KnownServers,
    pub(crate) ca: CaFingerprint,
}

/// Who speaks to which control plane.
pub(crate) struct Caller {
    pub(crate) control: ControlPlane,
    pub(crate) bearer: SecretText,
    /// The key that access tokens are bound to.
    pub(crate) key: LocalKey,
}

impl ControlPlane {
    pub(crate) fn api(self, bearer: Option<SecretText>) -> Result<Api, Failure> {
        Api::new(self.servers, self.ca, bearer)
    }
}

impl Context {
    pub(crate) fn format(&self) -> Format {
        self.config.format()
    }

    /// Prints a list.
    pub(crate) fn list<T: output::Row>(&self, items: &[T]) -> Result<(), Failure> {
        output::list(self.format(), items)
    }

    /// Prints one thing.
    pub(crate) fn one<T: serde::Serialize>(&self, item: &T) -> Result<(), Failure> {
        output::one(self.format(), item)
    }

    /// Says on standard error what a command did that has nothing to show.
    pub(crate) fn did(&self, sentence: &str) -> Result<(), Failure> {
        eprintln!("{sentence}");
        Ok(())
    }

    /// The login, or the API token, that commands act with.
    pub(crate) fn caller(&self) -> Result<Caller, Failure> {
        let profile = Profile::load(&self.config.home, &self.config.profile)?;
        if let Ok(token) = env::var(TOKEN_VARIABLE)
            && !token.is_empty()
        {
            let control = self.control(profile.as_ref())?;
            let (key, _) = random::key();
            return Ok(Caller { control, bearer: SecretText::new(token), key });
        }
        let profile = profile.ok_or_else(Failure::not_logged_in)?;
        if let Some(asked) = &self.config.asked_control
            && !profile.knows(asked)
        {
            let what = format!("you are logged in at {}, not at {asked}", profile.control);
            return Err(Failure::new(Exit::Unauthenticated, what)
                .hint("log in there under another name: rap login --profile NAME"));
        }
        if profile.expires_at <= now() {
            return Err(Failure::new(Exit::Unauthenticated, "the login has expired")
                .hint(format!("log in again: rap login --user {}", profile.user)));
        }
        let servers = profile.servers(self.config.asked_control.as_ref());
        Ok(Caller {
            control: ControlPlane { servers, ca: profile.ca },
            bearer: profile.secret.clone(),
            key: profile.key()?,
        })
    }

    /// The API, as whoever is logged in.
    pub(crate) fn api(&self) -> Result<Api, Failure> {
        let Caller { control, bearer, .. } = self.caller()?;
        control.api(Some(bearer))
    }

    /// Where the control plane is and whose CA it must show, when nobody is logged in.
    pub(crate) fn control(&self, profile: Option<&Profile>) -> Result<ControlPlane, Failure> {
        let config = &self.config;
        let asked = config.asked_control.as_ref();
        let known = profile.filter(|profile| asked.is_none_or(|asked| profile.knows(asked)));
        let servers = match (known, asked.or(config.files.control.as_ref())) {
            (Some(profile), _) => profile.servers(asked),
            (None, Some(control)) => KnownServers::one(control.clone()),
            (None, None) => {
                return Err(Failure::usage("no control plane is configured")
                    .hint("give its address: --control https://HOST:8443"));
            }
        };
        let ca = config
            .asked_ca
            .or_else(|| known.map(|profile| profile.ca))
            .or(config.files.ca)
            .ok_or_else(|| {
                Failure::usage(format!("the CA of {} is not known", servers.present()))
                    .hint("give its fingerprint: --ca sha256:…")
            })?;
        Ok(ControlPlane { servers, ca })
    }

    /// The organization's path in the API: the one that was named, else the caller's only one.
    pub(crate) async fn organization_path(&self, api: &Api) -> Result<String, Failure> {
        if let Some(organization) = self.config.organization() {
            return Ok(format!("/organizations/{organization}"));
        }
        let me: rap_proto::api::Me = api.get("/me").await?;
        match me.organizations.as_slice() {
            [one] => Ok(format!("/organizations/{}", one.id)),
            [] => Err(Failure::usage("you are a member of no organization")
                .hint("name one: --organization NAME")),
            _ => Err(Failure::usage("you are a member of several organizations")
                .hint("name one: --organization NAME, or organization = \"NAME\" in config.toml")),
        }
    }

    /// Opens a session to a resource.
    pub(crate) async fn link(&self, resource: &Reference) -> Result<link::Link, Failure> {
        let Caller { control, bearer, key } = self.caller()?;
        let request = link::Request {
            api: control.api(Some(bearer))?,
            organization: self.config.organization(),
            resource: resource.clone(),
            key,
            carrier: self.config.carrier(),
        };
        link::Link::open(request).await
    }
}
