//! Commands of administrators: one noun each, with the verbs ls, get, create and rm.

use std::path::PathBuf;

use clap::Subcommand;
use rap_proto::{
    ApiScope, ApiTokenId, JoinTokenId, Lane, Name, OrganizationRole, PlatformRole, Preference,
    ResourceKind, api::Reference,
};

use rap_tlog::{VerifierKey, cosignature::MAX_COSIGNATURES};

use super::{RoleArgument, Span, When};

#[derive(Debug, Subcommand)]
pub(crate) enum OrgCommand {
    /// List the organizations that you may see.
    Ls,
    /// Show one organization.
    Get {
        #[arg(value_name = "ORGANIZATION")]
        org: Reference,
    },
    /// Create an organization; without --owner it is yours.
    ///
    /// What is in an organization is its owners' and administrators' affair: a role on the
    /// platform alone does not let anybody see to its members, resources and policies.
    #[command(after_help = "\
Example:
  rap org create acme --owner alice")]
    Create {
        name: Name,
        /// Its first owner, instead of you.
        #[arg(long)]
        owner: Option<Reference>,
    },
    /// Give an organization another name.
    Rename {
        #[arg(value_name = "ORGANIZATION")]
        org: Reference,
        name: Name,
    },
    /// Stop everything of an organization, until it is resumed.
    Suspend {
        #[arg(value_name = "ORGANIZATION")]
        org: Reference,
        /// Why, for the auditor.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Take a suspension back.
    Resume {
        #[arg(value_name = "ORGANIZATION")]
        org: Reference,
    },
    /// Remove an organization.
    Rm {
        #[arg(value_name = "ORGANIZATION")]
        org: Reference,
    },
    /// List an organization's members.
    Members {
        #[arg(value_name = "ORGANIZATION")]
        org: Reference,
    },
    /// Make a user a member, or give a member another role.
    #[command(after_help = "\
Example:
  rap org set-member acme alice organization_admin")]
    SetMember {
        #[arg(value_name = "ORGANIZATION")]
        org: Reference,
        user: Reference,
        role: OrganizationRole,
    },
    /// Show how much an organization may take of what all share, or set it as the platform's owner.
    #[command(after_help = "\
Examples:
  rap org quota acme
  rap org quota acme --nodes 50 --sessions 500 --events-per-second 20")]
    Quota {
        #[arg(value_name = "ORGANIZATION")]
        org: Reference,
        /// Nodes of its own.
        #[arg(long)]
        nodes: Option<u32>,
        /// Sessions open at once.
        #[arg(long)]
        sessions: Option<u32>,
        /// Events that its members' commands may add to the log in a second.
        #[arg(long)]
        events_per_second: Option<u32>,
    },
    /// End a membership.
    RmMember {
        #[arg(value_name = "ORGANIZATION")]
        org: Reference,
        user: Reference,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// List the users that you may see.
    Ls,
    /// Show one user.
    Get { user: Reference },
    /// Create a user.
    ///
    /// Prints an invitation, with which the user chooses a password: rap login --invitation.
    /// With --organization the user is a member of it from the start.
    #[command(after_help = "\
Examples:
  rap user create alice
  rap user create bob --organization acme --role organization_admin
  rap user create alice --password-stdin < secret-file")]
    Create {
        name: Name,
        /// What others see.
        #[arg(long, default_value = "")]
        display_name: String,
        /// The role in the organization that --organization names.
        #[arg(long, requires = "organization")]
        role: Option<OrganizationRole>,
        /// Read a first password from standard input, instead of an invitation.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Issue a new invitation; the one before it is worthless from now.
    Invite { user: Reference },
    /// Let a user do nothing any more; every login and session ends.
    Disable {
        user: Reference,
        /// Why, for the auditor.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Take a disabling back.
    Enable { user: Reference },
    /// Make what the log holds about a person unreadable, for good, and disable the account.
    ///
    /// Every login and session ends. The account's name stays in the log, and stays taken.
    #[command(after_help = "\
Examples:
  rap user erase alice
  rap user erase alice --yes          asks nothing")]
    Erase {
        user: Reference,
        /// Ask nothing.
        #[arg(long)]
        yes: bool,
    },
    /// Give a user a role on the platform.
    Grant { user: Reference, role: PlatformRole },
    /// Take a role on the platform away.
    Ungrant { user: Reference, role: PlatformRole },
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// List the nodes that you may see.
    Ls,
    /// Show one node.
    Get { node: Reference },
    /// Approve a node that waits.
    ///
    /// Compare the fingerprint with the one that the host printed: that is what proves that it
    /// is the host you mean.
    #[command(after_help = "\
Example:
  rap node approve edge-1 --fingerprint 4f0c…")]
    Approve {
        node: Reference,
        /// What the host shows, 64 hexadecimal digits.
        #[arg(long)]
        fingerprint: rap_proto::Digest,
    },
    /// Turn a waiting node away.
    Reject {
        node: Reference,
        /// Why, for the auditor.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Assign roles: they replace those that the node had.
    #[command(after_help = "\
Examples:
  rap node roles edge-1 entry-node relay-node
  rap node roles office-1 stream-worker@acme,beta
  rap node roles edge-1 --none")]
    Roles {
        node: Reference,
        /// A role, with the organizations that it is for; without any it is for all.
        #[arg(value_name = "ROLE[@ORG,…]", required_unless_present = "none")]
        roles: Vec<RoleArgument>,
        /// Take every role away.
        #[arg(long, conflicts_with = "roles")]
        none: bool,
    },
    /// Assign egress pools of the organization: they replace those that the node had.
    #[command(after_help = "\
Example:
  rap node pools office-1 office --organization acme")]
    Pools {
        node: Reference,
        #[arg(required_unless_present = "none")]
        pools: Vec<Reference>,
        /// Take every pool away.
        #[arg(long, conflicts_with = "pools")]
        none: bool,
    },
    /// Say where a node is, how gladly paths are led through it, and which lanes it relays; what is not
    /// named stays.
    #[command(after_help = "\
Regions with the same part before the first dash are near each other. A relay refuses flows of the lanes
that it is not to relay, and paths of theirs are led elsewhere; --lanes interactive,media,bulk is every lane.

Examples:
  rap node place relay-1 --region eu-west --preference preferred
  rap node place relay-2 --lanes interactive,media")]
    Place {
        node: Reference,
        #[arg(long, required_unless_present_any = ["no_region", "preference", "lanes"])]
        region: Option<Name>,
        /// Nobody knows where it is.
        #[arg(long, conflicts_with = "region")]
        no_region: bool,
        /// avoided, neutral or preferred.
        #[arg(long)]
        preference: Option<Preference>,
        /// The lanes that it relays: any of interactive, media and bulk, one at least.
        #[arg(long, value_delimiter = ',')]
        lanes: Option<Vec<Lane>>,
    },
    /// Give every node a newer snapshot that says the same.
    ///
    /// For the platform's roles, after a log was lost in part: `rap node ls` shows below SNAPSHOT what
    /// each node acts on, and what it should.
    Renew,
    /// Let a node take on nothing new.
    Drain { node: Reference },
    /// End the draining.
    Undrain { node: Reference },
    /// Trust a node no longer; its connections are closed everywhere. There is no way back.
    #[command(visible_alias = "rm")]
    Revoke {
        node: Reference,
        /// Why, for the auditor.
        #[arg(long, default_value = "")]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// List the organization's egress pools.
    Ls,
    /// Show one egress pool.
    Get { pool: Reference },
    /// Create an egress pool.
    Create { name: Name },
    /// Remove an egress pool.
    Rm { pool: Reference },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ResourceCommand {
    /// List the organization's resources and where they are.
    Ls,
    /// Show one resource.
    Get { resource: Reference },
    /// Create a resource.
    #[command(after_help = "\
Examples:
  rap resource create build-1 --kind ssh --target build-1.corp:22 --pool office
  rap resource create wiki --kind web --target 10.1.2.3:80 --pool office")]
    Create {
        name: Name,
        #[arg(long)]
        kind: ResourceKind,
        /// Its address as the pool's nodes see it.
        #[arg(long, value_name = "HOST:PORT")]
        target: TargetArgument,
        /// The egress pool that it is reached from.
        #[arg(long)]
        pool: Reference,
        /// Let the address be loopback or link-local. Metadata services stay refused.
        #[arg(long)]
        allow_local: bool,
        /// A word by which policies speak of it, as in env=prod; can be repeated.
        #[arg(long = "label", value_name = "KEY=VALUE")]
        labels: Vec<LabelArgument>,
    },
    /// Change a resource; what is not said stays.
    Set {
        resource: Reference,
        #[arg(long)]
        kind: Option<ResourceKind>,
        /// Its address as the pool's nodes see it.
        #[arg(long, value_name = "HOST:PORT")]
        target: Option<TargetArgument>,
        #[arg(long)]
        pool: Option<Reference>,
        /// Whether the address may be loopback or link-local.
        #[arg(long, requires = "target", value_name = "true|false", num_args = 0..=1,
            default_missing_value = "true")]
        allow_local: Option<bool>,
        /// Replaces all labels; can be repeated.
        #[arg(long = "label", value_name = "KEY=VALUE", conflicts_with = "no_labels")]
        labels: Vec<LabelArgument>,
        /// Take every label away.
        #[arg(long)]
        no_labels: bool,
    },
    /// Let a connection carry a resource: it is reached from the node that holds the connection's
    /// lease and from no other. Its sessions end.
    #[command(after_help = "\
Examples:
  rap resource carry wiki --connection branch
  rap resource carry wiki --none")]
    Carry {
        resource: Reference,
        #[arg(long, required_unless_present = "none", conflicts_with = "none")]
        connection: Option<Reference>,
        /// Let its egress pool's nodes reach it again.
        #[arg(long)]
        none: bool,
    },
    /// Remove a resource; its sessions end.
    Rm { resource: Reference },
}

/// `KEY=VALUE`, both with the characters of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LabelArgument(pub(crate) Name, pub(crate) Name);

impl std::str::FromStr for LabelArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || "it is written KEY=VALUE, in the characters a to z, 0 to 9 and hyphens";
        let (key, value) = text.split_once('=').ok_or_else(wrong)?;
        let name = |text: &str| text.parse::<Name>().map_err(|_| wrong());
        Ok(Self(name(key)?, name(value)?))
    }
}

/// `HOST:PORT`, with brackets around an IPv6 address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetArgument {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl std::str::FromStr for TargetArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || "it is written HOST:PORT, as in db.corp:5432 or [fd00::5]:22".to_owned();
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if bare.is_none() && host.contains(':') {
            return Err(wrong());
        }
        let host = bare.unwrap_or(host);
        let port = port.parse().map_err(|_| wrong())?;
        if host.is_empty() || port == 0 {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Join tokens: each lets one host ask for enrollment, once.
    #[command(subcommand)]
    Join(JoinTokenCommand),
    /// API tokens: each lets a program act as you, within scopes.
    #[command(subcommand)]
    Api(ApiTokenCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum JoinTokenCommand {
    /// List join tokens.
    Ls,
    /// Create a join token and print the line to type on the host.
    #[command(after_help = "\
Examples:
  rap token join create --role entry-node --role relay-node --host edge-1
  rap token join create --role stream-worker --organization acme --pool office")]
    Create {
        /// A role that the node is given when it is approved; can be repeated.
        #[arg(long = "role", value_name = "ROLE[@ORG,…]", required = true)]
        roles: Vec<RoleArgument>,
        /// An egress pool of the organization that the node will serve; can be repeated.
        #[arg(long = "pool", value_name = "NAME")]
        pools: Vec<Reference>,
        /// The only host name that may use it.
        #[arg(long)]
        host: Option<Name>,
        /// How long it can be used; at most 1h.
        #[arg(long, default_value = "1h")]
        ttl: Span,
        /// Approve the node as soon as it asks.
        #[arg(long)]
        auto_approve: bool,
    },
    /// Revoke a join token.
    Rm { token: JoinTokenId },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ApiTokenCommand {
    /// List API tokens.
    Ls,
    /// Create an API token; it is shown once. Programs give it to rap as RAP_TOKEN.
    #[command(after_help = "\
Example:
  rap token api create 'nightly backup' --scope connect --ttl 30d")]
    Create {
        /// What it is for.
        label: String,
        /// What it may do; can be repeated.
        #[arg(long = "scope", required = true)]
        scopes: Vec<ApiScope>,
        /// How long it can be used; at most 366d.
        #[arg(long, default_value = "30d")]
        ttl: Span,
    },
    /// Revoke an API token.
    Rm { token: ApiTokenId },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Print the log's events.
    #[command(after_help = "\
Examples:
  rap audit log --since 1h
  rap audit log --since 2026-11-23T08:00:00Z --until 2026-11-23T09:00:00Z -o json
  rap audit log --follow                new ones as they happen")]
    Log {
        /// Only events at or after this time, or not older than this.
        #[arg(long, value_name = "TIME|AGE")]
        since: Option<When>,
        /// Only events before this time.
        #[arg(long, value_name = "TIME|AGE", conflicts_with = "follow")]
        until: Option<When>,
        /// Go on with new events as they happen. In JSON: one object a line.
        #[arg(long, short)]
        follow: bool,
    },
    /// Rebuild every projection from the log's beginning, and compare it with the live ones and
    /// every event with the log's tree.
    #[command(after_help = "\
Examples:
  rap audit replay
  rap audit replay --as-of 120                    the state of that moment
  rap audit replay --as-of 120 --node egress-1    and what the node was to know then

It exits with 10 when a node's snapshot could be compiled again but compared with nothing.")]
    Replay {
        /// Only events up to this position.
        #[arg(long, value_name = "POSITION")]
        as_of: Option<u64>,
        /// Compile this node's snapshot of that moment again.
        #[arg(long, value_name = "NAME|ID")]
        node: Option<Reference>,
    },
    /// Fold every projection anew while the control server answers, and exchange it for the live
    /// one.
    #[command(after_help = "\
It is for the replica that answers, and changes nothing that anybody may. It fails when the live
projections were not what the log says; they are then.

Examples:
  rap audit rebuild
  rap audit rebuild --status            how far it is, or how the last one ended")]
    Rebuild {
        /// Only look at the one that goes on, or was the last.
        #[arg(long)]
        status: bool,
    },
    /// Copy the whole log into a folder that can be verified offline.
    #[command(after_help = "\
The folder has the layout of C2SP tlog-tiles, which other programs verify as well. Exporting into
it again fetches what is new. Payloads that hold password verifiers or digests of secrets are
withheld; their hashes are there.")]
    Export {
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Verify an exported log, or one proof, without asking anybody.
    #[command(after_help = "\
Examples:
  rap audit verify ./log
  rap audit verify ./log --known ./log-of-last-month       it is the same log, grown
  rap audit verify ./log --witnesses 2                     at least two nodes saw this very log
  rap audit verify 41.tlog-proof --key rap.cluster/…+…")]
    Verify {
        /// What `rap audit export` or `rap audit prove` wrote.
        #[arg(value_name = "DIR|FILE")]
        path: PathBuf,
        /// A key of the log that you know from elsewhere; by default the export's own.
        #[arg(long, value_name = "KEY")]
        key: Vec<VerifierKey>,
        /// A checkpoint, or another export, that this log must begin with.
        #[arg(long, value_name = "DIR|FILE")]
        known: Option<PathBuf>,
        /// At least so many nodes must have co-signed this log.
        #[arg(long, value_name = "COUNT", value_parser = witness_count)]
        witnesses: Option<usize>,
    },
    /// Print the proof that one event is in the log.
    #[command(after_help = "\
Example:
  rap audit prove 41 > 41.tlog-proof")]
    Prove {
        #[arg(value_name = "POSITION")]
        position: u64,
    },
}

/// From one to as many as go with one tree head.
fn witness_count(text: &str) -> Result<usize, String> {
    let count = text.parse::<usize>().ok().filter(|count| (1..=MAX_COSIGNATURES).contains(count));
    count.ok_or_else(|| format!("a number from 1 to {MAX_COSIGNATURES}"))
}
