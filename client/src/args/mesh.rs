//! `rap mesh`: how nodes keep peers, and what makes a path the better one.

use std::str::FromStr;

use clap::{Args, Subcommand};
use rap_proto::mesh::{ChannelClass, Part, PeerKind};

use super::OfPlatform;

#[derive(Debug, Subcommand)]
pub(crate) enum MeshCommand {
    /// Show how nodes keep peers and weigh paths. For the platform's roles.
    Get {
        #[command(flatten)]
        of: OfPlatform,
    },
    /// Say how many peers nodes of a kind keep near, or what the parts of a score count.
    ///
    /// What is not named stays as it is. Nodes do so from their next snapshot on, and no connection
    /// ends by it that is in use: only peers that are too many are let go.
    #[command(after_help = "\
Parts of a score:
  latency, packet_loss, reliability, region_distance, node_load, bandwidth,
  role_suitability, policy, trust, recent_failures

Examples:
  rap mesh set --platform --kind normal --active 4..8 --warm 12
  rap mesh set --platform --class bulk bandwidth=40 latency=2")]
    Set {
        /// Of this kind: thin, normal or relay.
        #[arg(long, requires = "counts", required_unless_present = "class")]
        kind: Option<PeerKind>,
        #[command(flatten)]
        counts: Counts,
        /// Of this class: interactive, media, clipboard, bulk, vpn_packets or telemetry. Paths are chosen for
        /// interactive, media and bulk: the weights of the others are kept, and change nothing.
        #[arg(long, requires = "weights", conflicts_with = "kind")]
        class: Option<ChannelClass>,
        /// What a part counts, from 0 to 1000. Only the proportions of all of them matter.
        #[arg(value_name = "PART=WEIGHT", requires = "class")]
        weights: Vec<WeightArgument>,
        #[command(flatten)]
        of: OfPlatform,
    },
    /// Let nodes do again as their release does.
    Rm {
        /// Of this kind: thin, normal or relay.
        #[arg(long, conflicts_with = "class", required_unless_present = "class")]
        kind: Option<PeerKind>,
        /// Of this class.
        #[arg(long)]
        class: Option<ChannelClass>,
        #[command(flatten)]
        of: OfPlatform,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Args)]
#[group(id = "counts", multiple = true)]
pub(crate) struct Counts {
    /// The fewest and the most active peers, such as 4..8.
    #[arg(long, value_name = "LEAST..MOST", requires = "kind")]
    pub(crate) active: Option<Active>,
    /// The most warm peers.
    #[arg(long, value_name = "COUNT", requires = "kind")]
    pub(crate) warm: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Active {
    pub(crate) least: u16,
    pub(crate) most: u16,
}

impl FromStr for Active {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || "it is two numbers, as in 4..8".to_owned();
        let (least, most) = text.split_once("..").ok_or_else(wrong)?;
        Ok(Self {
            least: least.parse().map_err(|_| wrong())?,
            most: most.parse().map_err(|_| wrong())?,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WeightArgument {
    pub(crate) part: Part,
    pub(crate) weight: u16,
}

impl FromStr for WeightArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || "it is a part and a number, as in latency=10".to_owned();
        let (part, weight) = text.split_once('=').ok_or_else(wrong)?;
        Ok(Self {
            part: part.parse().map_err(|error: rap_proto::term::UnknownTerm| error.to_string())?,
            weight: weight.parse().map_err(|_| wrong())?,
        })
    }
}
