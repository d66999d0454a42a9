//! What can be typed: the command line's shape, and its texts.

mod access;
mod admin;
mod bandwidth;
mod carriers;
#[cfg(feature = "dev")]
mod dev;
mod mesh;
mod paths;
mod policy;
mod stale;
mod values;
mod vpn;
mod why;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rap_mesh::Carrier;
use rap_proto::{ControlUrl, api::Reference};
use serde::Deserialize;

pub(crate) use access::*;
pub(crate) use admin::*;
pub(crate) use bandwidth::*;
pub(crate) use carriers::*;
#[cfg(feature = "dev")]
pub(crate) use dev::*;
pub(crate) use mesh::*;
pub(crate) use paths::*;
pub(crate) use policy::*;
pub(crate) use stale::*;
pub(crate) use values::*;
pub(crate) use vpn::*;
pub(crate) use why::*;

/// What every `--help` ends with.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed for another reason than those below
  2  the command line or a configuration file is wrong
  3  not logged in, or the credentials are wrong
  4  denied: no policy allows it, or the access was withdrawn
  5  there is no such thing, or you may not see it
  6  rejected: a rule, a taken name or a change meanwhile stands against it
  7  unavailable: the control plane, an entry or the path cannot be reached
  8  the resource itself refused or did not answer
  9  a limit was reached
  10 what was to be compared was made, and there was nothing to compare it with
`rap ssh` exits with ssh's own code, which is 255 for a failed connection.

Configuration, from strongest to weakest: flags, RAP_* variables, the login,
$RAP_HOME/config.toml (RAP_HOME is ~/.config/rap unless set), /etc/rap/*.toml.
Keys: control, ca, organization, output, carrier, and [ssh.NAME] user, identity.";

const TOP_EXAMPLES: &str = "\
Examples:
  rap login --control https://control.example --ca sha256:4f0c… --user alice
  rap ls                                    what you may reach
  rap ssh build-1 -- uname -a               run a command over ssh
  rap connect wiki --listen 127.0.0.1:8088  a local port that leads to a resource
  rap ssh-config >> ~/.ssh/config           for scp, sftp, rsync and git";

/// Reach private machines through the fabric, and administer it.
///
/// Log in once, list what you may reach, connect. Administrators manage organizations, users,
/// nodes, resources and policies with the same program: each thing has the verbs ls, get, create
/// and rm.
#[derive(Debug, Parser)]
#[command(name = "rap", version, after_help = TOP_EXAMPLES,
    after_long_help = const_str(&[TOP_EXAMPLES, EXIT_CODES]), subcommand_required = true,
    arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// The control plane, as in https://control.example:8443; of its servers this one alone.
    #[arg(long, global = true, env = "RAP_CONTROL", value_name = "URL")]
    pub(crate) control: Option<ControlUrl>,
    /// The SHA-256 of the cluster's CA certificate, as in sha256:4f0c….
    #[arg(long, global = true, env = "RAP_CA", value_name = "FINGERPRINT")]
    pub(crate) ca: Option<CaFingerprint>,
    /// The cluster's CA certificate in PEM, instead of its fingerprint.
    #[arg(long, global = true, env = "RAP_CA_FILE", value_name = "FILE", conflicts_with = "ca")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The organization to work in; not needed by members of only one.
    #[arg(long, global = true, env = "RAP_ORGANIZATION", value_name = "NAME")]
    pub(crate) organization: Option<Reference>,
    /// How to print results.
    #[arg(short, long, global = true, env = "RAP_OUTPUT", value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
    /// What to reach nodes on; without this, whatever the network lets through.
    #[arg(long, global = true, env = "RAP_CARRIER", value_name = "CARRIER")]
    pub(crate) carrier: Option<CarrierName>,
    /// Which login to use: several can be kept side by side.
    #[arg(
        long,
        global = true,
        env = "RAP_PROFILE",
        value_name = "NAME",
        default_value = "default",
        hide_default_value = true
    )]
    pub(crate) profile: rap_proto::Name,
    /// What to log to standard error, as in debug or rap_mesh=trace.
    #[arg(
        long,
        global = true,
        env = "RAP_LOG",
        value_name = "FILTER",
        default_value = "error",
        hide_default_value = true
    )]
    pub(crate) log: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns, for people.
    Table,
    Json,
    Yaml,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CarrierName {
    /// QUIC, over UDP.
    Quic,
    /// TLS, over TCP.
    Tcp,
}

impl From<CarrierName> for Carrier {
    fn from(name: CarrierName) -> Self {
        match name {
            CarrierName::Quic => Self::Quic,
            CarrierName::Tcp => Self::Tcp,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Login(Login),
    /// Forget the login, here and at the control plane.
    Logout,
    Setup(Setup),
    /// List the resources that you may reach.
    #[command(visible_alias = "list", after_help = LS_EXAMPLES)]
    Ls,
    Ssh(Ssh),
    Connect(Connect),
    Proxy(Proxy),
    SshConfig(SshConfig),
    Status(Status),
    /// Sessions: your own, and those of your organization for its administrators.
    #[command(subcommand, visible_alias = "session")]
    Sessions(SessionsCommand),
    /// Choose another password; every other login of yours ends.
    Passwd(Passwd),
    /// Organizations and their members.
    #[command(subcommand, visible_alias = "organization")]
    Org(OrgCommand),
    /// Users and their roles on the platform.
    #[command(subcommand)]
    User(UserCommand),
    /// Nodes: enrolled hosts, what they are assigned, and whether they may go on.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Egress pools: the logical places that resources are reached from.
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Resources: what users may reach, and where it is.
    #[command(subcommand)]
    Resource(ResourceCommand),
    /// Access policies: who may reach what. What no policy allows is denied.
    #[command(subcommand)]
    Policy(PolicyCommand),
    Can(Can),
    /// Connections that one node at a time carries.
    #[command(subcommand)]
    Vpn(VpnCommand),
    /// Bandwidth: how fast which traffic may be, and how much is kept for it.
    #[command(subcommand)]
    Bandwidth(BandwidthCommand),
    /// Carriers: what the flows of each lane run on, QUIC or TCP.
    #[command(subcommand)]
    Carriers(CarriersCommand),
    /// Paths: whether lanes may lead from entry to egress over no other node, as the platform's owner.
    #[command(subcommand)]
    Paths(PathsCommand),
    /// Stale: what becomes of sessions at nodes that are cut off from control, as the platform's owner.
    #[command(subcommand)]
    Stale(StaleCommand),
    /// Mesh: how many peers nodes keep near and what makes a path the better one, as the platform's owner.
    #[command(subcommand)]
    Mesh(MeshCommand),
    Why(Why),
    /// Join tokens for nodes and API tokens for programs.
    #[command(subcommand)]
    Token(TokenCommand),
    /// What happened: every change of authority is an event.
    #[command(subcommand)]
    Audit(AuditCommand),
    Completions(Completions),
    #[cfg(feature = "dev")]
    Dev(Dev),
}

/// Joins texts at compile time of the command, with an empty line between.
fn const_str(parts: &[&str]) -> String {
    parts.join("\n\n")
}

#[cfg(test)]
mod tests;
