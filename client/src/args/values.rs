//! Values that are more than text: parsed once, at the command line's edge.

use std::{fmt, str::FromStr, time::Duration};

use rap_proto::{Digest, NodeRole, Timestamp, api::Reference};

/// The SHA-256 of the cluster's CA certificate, written `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CaFingerprint(pub(crate) Digest);

/// A length of time such as `90s`, `15m`, `12h` or `30d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// A point in time: RFC 3339, or how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    At(Timestamp),
    Ago(Duration),
}

/// A node role and the organizations that it is for: `entry-node` or `stream-worker@acme,beta`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoleArgument {
    pub(crate) role: NodeRole,
    /// Empty means all of them, or the join token's one.
    pub(crate) organizations: Vec<Reference>,
}

impl FromStr for CaFingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        digits
            .parse()
            .map(Self)
            .map_err(|_| "it is written sha256: and 64 lower-case hexadecimal digits".to_owned())
    }
}

impl fmt::Display for CaFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || "it is a number and one of s, m, h, d, as in 15m".to_owned();
        let unit = text.chars().last().ok_or_else(wrong)?;
        let seconds: u64 = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        let count: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
        Ok(Self(Duration::from_secs(u64::from(count) * seconds)))
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(Span(duration)) = text.parse() {
            return Ok(Self::Ago(duration));
        }
        text.parse().map(Self::At).map_err(|_| {
            "it is a time such as 2026-11-23T08:30:00Z, or how long ago, such as 15m".to_owned()
        })
    }
}

impl When {
    pub(crate) fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(duration) => now - duration,
        }
    }
}

impl FromStr for RoleArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (role, organizations) = match text.split_once('@') {
            Some((role, list)) => (role, list.split(',').map(str::parse).collect()),
            None => (text, Ok(Vec::new())),
        };
        Ok(Self {
            role: role.parse().map_err(|error: rap_proto::term::UnknownTerm| error.to_string())?,
            organizations: organizations
                .map_err(|_| "organizations are names or ids, joined by commas".to_owned())?,
        })
    }
}

rap_proto::serialized_as_text!(CaFingerprint);
