//! `rap stale`: what becomes of sessions at nodes that are cut off from control.

use clap::{Args, Subcommand};
use rap_proto::snapshot::StalePolicy;

#[derive(Debug, Subcommand)]
pub(crate) enum StaleCommand {
    /// Show what becomes of sessions there. For the platform's roles.
    Get {
        #[command(flatten)]
        of: OfEverybody,
    },
    /// Say what becomes of sessions there. Nothing new begins at such a node either way.
    ///
    /// A node is cut off when its snapshot has expired, when it has not heard from a quorum of
    /// control for five minutes and a half, or when it found the log rewritten. With keep_sessions what is open stays open; with stop all
    /// of it ends, also at nodes that work, wherever they cannot hear control.
    #[command(after_help = "\
Examples:
  rap stale set --platform --policy stop")]
    Set {
        /// keep_sessions or stop.
        #[arg(long)]
        policy: StalePolicy,
        #[command(flatten)]
        of: OfEverybody,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(crate) struct OfEverybody {
    /// For every organization, as the platform's owner.
    #[arg(long, required = true)]
    pub(crate) platform: bool,
}
