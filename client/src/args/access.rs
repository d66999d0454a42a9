//! Commands of people who want to reach something.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Subcommand};
use clap_complete::Shell;
use rap_proto::{Lane, Name, SessionId, api::Reference};

pub(super) const LS_EXAMPLES: &str = "\
Examples:
  rap ls
  rap ls -o json | jq -r '.[].name'";

/// Log in to the control plane.
///
/// The login is kept in ~/.config/rap with mode 0600, together with a key of its own: an access
/// token is useless without that key. The CA's fingerprint comes from whoever runs the fabric; a
/// control plane with another CA is not spoken to.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rap login --control https://control.example --ca sha256:4f0c… --user alice
  pass show rap | rap login --user alice --password-stdin
  rap login --invitation rapi_…       choose your first password")]
pub(crate) struct Login {
    /// Who you are; asked for when it is not known.
    #[arg(long, short, env = "RAP_USER")]
    pub(crate) user: Option<Name>,
    /// Read the password from standard input. Without this it is RAP_PASSWORD, or asked for.
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Accept an invitation and choose a first password.
    #[arg(
        long,
        env = "RAP_INVITATION",
        value_name = "SECRET",
        hide_env_values = true,
        conflicts_with = "user"
    )]
    pub(crate) invitation: Option<String>,
}

/// Create the first platform owner of a fresh installation.
///
/// The control plane prints a setup code at its first start; it works once. The new owner is
/// logged in.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  rap setup --control https://control.example --ca sha256:4f0c… --user root-owner")]
pub(crate) struct Setup {
    /// The new owner's name.
    #[arg(long, short, env = "RAP_USER")]
    pub(crate) user: Name,
    /// The one-time code (rapsetup_…); asked for when it is not given.
    #[arg(long, env = "RAP_SETUP_CODE", hide_env_values = true)]
    pub(crate) code: Option<String>,
    /// Read the password from standard input. Without this it is RAP_PASSWORD, or asked for.
    #[arg(long)]
    pub(crate) password_stdin: bool,
}

/// Choose another password.
#[derive(Debug, Args)]
pub(crate) struct Passwd {
    /// Read the old and the new password from standard input, one a line.
    #[arg(long)]
    pub(crate) password_stdin: bool,
}

/// Run OpenSSH through the fabric.
///
/// Needs the program ssh. What stands behind `--` is the command on the resource. Host keys of
/// resources are kept apart from your other ones, in $RAP_HOME/known_hosts, and new ones are
/// accepted on first use.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rap ssh build-1
  rap ssh admin@build-1 -- uptime
  rap ssh -L 5432:localhost:5432 build-1
  rap ssh -O ForwardAgent=yes -t build-1 -- tmux attach")]
pub(crate) struct Ssh {
    /// The resource, as `rap ls` names it; with a user in front if need be.
    #[arg(value_name = "[USER@]NAME")]
    pub(crate) destination: Destination,
    /// The user to log in as.
    #[arg(short = 'l', long, value_name = "USER")]
    pub(crate) login_name: Option<String>,
    /// The private key to log in with.
    #[arg(short = 'i', long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// An option of ssh, as in ssh_config; can be repeated.
    #[arg(short = 'O', long = "option", value_name = "OPTION")]
    pub(crate) options: Vec<String>,
    /// Forward a local port, as ssh does; can be repeated.
    #[arg(short = 'L', value_name = "[BIND:]PORT:HOST:PORT")]
    pub(crate) local_forwards: Vec<String>,
    /// Ask for a terminal even when a command is given.
    #[arg(short = 't')]
    pub(crate) terminal: bool,
    /// The command on the resource.
    #[arg(last = true)]
    pub(crate) command: Vec<String>,
}

/// `[USER@]NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) user: Option<String>,
    pub(crate) resource: ResourceName,
}

impl std::str::FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (user, name) = match text.rsplit_once('@') {
            Some((user, name)) => (Some(user), name),
            None => (None, text),
        };
        if user.is_some_and(|user| user.is_empty() || user.starts_with('-')) {
            return Err("no user stands in front of the @".to_owned());
        }
        Ok(Self { user: user.map(str::to_owned), resource: name.parse()? })
    }
}

/// A resource's name or id; ssh may add the domain `.rap`, or `.bulk.rap`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResourceName(pub(crate) Reference);

impl std::str::FromStr for ResourceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.strip_suffix(SSH_BULK_DOMAIN).or(text.strip_suffix(SSH_DOMAIN));
        let name = name.unwrap_or(text);
        name.parse().map(Self).map_err(|_| {
            "a resource's name has the characters a to z, 0 to 9 and hyphens; see rap ls".to_owned()
        })
    }
}

/// The domain under which `rap ssh-config` makes every resource known to ssh.
pub(crate) const SSH_DOMAIN: &str = ".rap";
/// The same for what is copied, on the lane of bulk.
pub(crate) const SSH_BULK_DOMAIN: &str = ".bulk.rap";

/// Listen on a local port and lead every connection to a resource.
///
/// Each connection becomes one channel of one session. The session is kept up to date in the
/// background and opened anew when it is lost; Ctrl-C ends it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rap connect wiki --listen 127.0.0.1:8088    then: curl http://127.0.0.1:8088/
  rap connect db --listen 127.0.0.1:0         any free port; it is printed")]
pub(crate) struct Connect {
    /// The resource, as `rap ls` names it.
    pub(crate) name: ResourceName,
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS:PORT")]
    pub(crate) listen: SocketAddr,
    /// The traffic class: interactive, bulk, or media where a policy gives it. Without this:
    /// interactive for ssh, bulk for the others.
    #[arg(long)]
    pub(crate) lane: Option<Lane>,
}

/// Connect standard input and output to a resource; what ssh's ProxyCommand runs.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  ssh -o ProxyCommand='rap proxy %h' build-1.rap")]
pub(crate) struct Proxy {
    /// The resource, as `rap ls` names it; `.rap` or `.bulk.rap` may follow, and says nothing of the lane.
    pub(crate) name: ResourceName,
    /// The traffic class: interactive, bulk, or media where a policy gives it. Without this:
    /// interactive for ssh, bulk for the others.
    #[arg(long)]
    pub(crate) lane: Option<Lane>,
}

/// Print a block for ~/.ssh/config that leads ssh, scp, sftp, rsync and git through the fabric.
///
/// Every resource is then known to them as NAME.rap, and those that you may reach now also by
/// name alone. As NAME.bulk.rap it is the same resource on the lane bulk: for large copies, which
/// then do not share a connection with the keys of your other sessions.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rap ssh-config >> ~/.ssh/config
  scp build-1.rap:/var/log/syslog .
  rsync -a ./site/ web-1.bulk.rap:/srv/site/
  git clone git-server.bulk.rap:project.git")]
pub(crate) struct SshConfig {
    /// Only the blocks for NAME.rap and NAME.bulk.rap, without asking the control plane what there is.
    #[arg(long)]
    pub(crate) offline: bool,
}

/// Show who is logged in, where, and whether the fabric answers.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rap status
  rap status --check && echo ready      silent; exits 0 or 1")]
pub(crate) struct Status {
    /// Print nothing; exit 0 when the login works, else 1.
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// List sessions, the newest first.
    #[command(after_help = "\
Examples:
  rap sessions ls
  rap sessions ls --all                 those that are over, too")]
    Ls {
        /// Sessions that are over, too.
        #[arg(long)]
        all: bool,
    },
    /// Show one session.
    Get { session: SessionId },
    /// End a session now, wherever it is.
    End { session: SessionId },
}

/// Print completions for a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rap completions bash > ~/.local/share/bash-completion/completions/rap
  rap completions zsh > ~/.zfunc/_rap")]
pub(crate) struct Completions {
    pub(crate) shell: Shell,
}
