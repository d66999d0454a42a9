//! Commands about who may do what.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use rap_proto::{Name, OrganizationRole, ResourceKind, WeekHour, api::Reference};

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// List the organization's access policies.
    Ls,
    /// Show one access policy.
    Get { policy: Reference },
    /// Create an access policy: who may reach what.
    #[command(after_help = POLICY_EXAMPLES)]
    Create {
        name: Name,
        #[command(flatten)]
        rules: Rules,
    },
    /// Replace the rules of an access policy.
    #[command(after_help = POLICY_EXAMPLES)]
    Set {
        policy: Reference,
        #[command(flatten)]
        rules: Rules,
    },
    /// Write an access policy as a document of rules in the Cedar language, with its tests.
    ///
    /// The file is YAML or JSON with the rules in `text` and the `tests` that must pass; a file that
    /// ends in .cedar holds rules alone. What any rule forbids is denied. A policy of that name is
    /// replaced.
    #[command(after_help = DOCUMENT_EXAMPLE)]
    Write { name: Name, file: PathBuf },
    /// Remove an access policy; sessions that only it allowed end.
    Rm { policy: Reference },
}

const POLICY_EXAMPLES: &str = "\
Examples:
  rap policy create builders --user alice --user bob --resource build-1
  rap policy create everyone-web --role organization_user --kind web";

const DOCUMENT_EXAMPLE: &str = "\
Example:
  rap policy write office-hours office-hours.yaml

with office-hours.yaml:
  text: |
    @id(\"closed-at-night\")
    forbid (principal, action == Action::\"reach\", resource)
    when {
      resource.hasTag(\"env\") && resource.getTag(\"env\") == \"prod\"
      && (context.hour < 8 || context.hour >= 18)
    };
  tests:
    - {name: nobody at night, user: alice, action: reach, resource: build-1, at: mon-23, expect: forbid}";

/// (a user listed, or a member with a listed role) and (a resource listed, or of a listed kind).
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("who").args(["users", "roles"]).required(true).multiple(true),
    group = ArgGroup::new("what").args(["resources", "kinds"]).required(true).multiple(true))]
pub(crate) struct Rules {
    /// A user; can be repeated.
    #[arg(long = "user", value_name = "NAME")]
    pub(crate) users: Vec<Reference>,
    /// Every member with this role; can be repeated.
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<OrganizationRole>,
    /// A resource; can be repeated.
    #[arg(long = "resource", value_name = "NAME")]
    pub(crate) resources: Vec<Reference>,
    /// Every resource of this kind; can be repeated.
    #[arg(long = "kind", value_name = "KIND")]
    pub(crate) kinds: Vec<ResourceKind>,
}

/// Say whether a member may reach a resource or do something, and which rules decide.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rap can alice reach build-1
  rap can alice reach build-1 --at sun-03          at an hour of the week, in UTC
  rap can alice reach build-1 --as-of 120          as the log stood at that position
  rap can alice do resource.change --on build-1
  rap can alice reach build-1 && echo yes          exits 4 when it is forbidden")]
pub(crate) struct Can {
    /// The member.
    pub(crate) user: Reference,
    #[command(subcommand)]
    pub(crate) question: Question,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Question {
    /// Connect to a resource.
    Reach {
        resource: Reference,
        /// The hour of the week to ask for, in UTC, as in mon-09; without this: now.
        #[arg(long, value_name = "HOUR")]
        at: Option<WeekHour>,
        /// As the log stood at this position.
        #[arg(long, value_name = "POSITION")]
        as_of: Option<u64>,
    },
    /// Do something that the API names, such as resource.create or member.list.
    Do {
        action: String,
        /// The resource that it would be done to; without this: the organization.
        #[arg(long, value_name = "RESOURCE")]
        on: Option<Reference>,
        /// As the log stood at this position.
        #[arg(long, value_name = "POSITION")]
        as_of: Option<u64>,
    },
}
