//! `rap paths`: what the platform says of the paths between its nodes.

use clap::{Args, Subcommand};
use rap_proto::paths::DirectPaths;

#[derive(Debug, Subcommand)]
pub(crate) enum PathsCommand {
    /// Show what is said of paths. For the platform's roles.
    Get {
        #[command(flatten)]
        of: OfPlatform,
    },
    /// Say whether lanes may take direct paths, and whether it is recorded when they do.
    ///
    /// Where direct paths are forbidden every lane leads over a relay: those that run leave theirs,
    /// and without a relay nothing is reached. With when_better a direct path takes the place of a relay
    /// only where its round trip is not longer. What is not said is as it was in the beginning:
    /// without --audit nothing is recorded.
    #[command(after_help = "\
Examples:
  rap paths set --platform --direct forbidden
  rap paths set --platform --direct when_better
  rap paths set --platform --direct allowed --audit")]
    Set {
        /// allowed, forbidden or when_better.
        #[arg(long)]
        direct: DirectPaths,
        /// Record each lane that takes a direct path or leaves it.
        #[arg(long)]
        audit: bool,
        #[command(flatten)]
        of: OfPlatform,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(crate) struct OfPlatform {
    /// For every organization, as the platform's owner. No organization says anything of paths.
    #[arg(long, required = true)]
    pub(crate) platform: bool,
}
