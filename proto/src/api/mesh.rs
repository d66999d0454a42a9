use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::bodies;
use crate::mesh::{ChannelClass, Part, PeerCounts, PeerKind};

bodies! {
    /// `PUT /platform/mesh`: how many peers nodes keep near, by their kind, and what each part of a
    /// score counts, by what a path is for, in place of all that was said before. Of what nothing is said, nodes take what their release
    /// has.
    #[serde(deny_unknown_fields)]
    pub struct SetPlatformMesh {
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "peers")]
        pub peers: BTreeMap<PeerKind, PeerCounts>,
        /// A part that is not named counts nothing. Paths are chosen for `interactive`, `media` and `bulk`: what is said of another
        /// class is kept, and changes nothing.
        #[cfg_attr(
            feature = "openapi",
            schema(value_type = BTreeMap<ChannelClass, BTreeMap<Part, Number>>)
        )]
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "weights")]
        pub weights: BTreeMap<ChannelClass, BTreeMap<Part, u16>>,
    }

    /// `GET /platform/mesh`: what is said.
    pub struct PlatformMesh {
        pub peers: BTreeMap<PeerKind, PeerCounts>,
        pub weights: BTreeMap<ChannelClass, BTreeMap<Part, u16>>,
        /// The cluster's.
        pub revision: u64,
    }
}

/// A whole number, with a point or without.
#[derive(Deserialize)]
struct Number(#[serde(deserialize_with = "super::whole::deserialize")] u16);

/// [`PeerCounts`] in such numbers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Counts {
    least: Number,
    most: Number,
    warm: Number,
}

fn peers<'de, D>(deserializer: D) -> Result<BTreeMap<PeerKind, PeerCounts>, D::Error>
where
    D: Deserializer<'de>,
{
    let peers = BTreeMap::<PeerKind, Counts>::deserialize(deserializer)?;
    let counts =
        |Counts { least, most, warm }| PeerCounts { least: least.0, most: most.0, warm: warm.0 };
    Ok(peers.into_iter().map(|(kind, said)| (kind, counts(said))).collect())
}

type Weights<T> = BTreeMap<ChannelClass, BTreeMap<Part, T>>;

fn weights<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Weights<u16>, D::Error> {
    let said = Weights::<Number>::deserialize(deserializer)?;
    let numbers = |parts: BTreeMap<Part, Number>| {
        parts.into_iter().map(|(part, Number(weight))| (part, weight)).collect()
    };
    Ok(said.into_iter().map(|(class, parts)| (class, numbers(parts))).collect())
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for Number {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, Type};

        let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
        number.maximum(Some(u16::MAX)).build().into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Number {
    fn name() -> std::borrow::Cow<'static, str> {
        "Weight".into()
    }
}
