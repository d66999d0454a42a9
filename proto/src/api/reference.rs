use std::{fmt, str::FromStr};

use uuid::Uuid;

use crate::Name;

/// A thing named by its id (a hyphenated UUID) or by its name. No name has the form of an id:
/// the server refuses to create one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    Id(Uuid),
    Name(Name),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither an id nor a name")]
pub struct ParseReferenceError;

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() == 36
            && let Ok(id) = Uuid::try_parse(text)
        {
            return Ok(Self::Id(id));
        }
        text.parse().map(Self::Name).map_err(|_| ParseReferenceError)
    }
}

impl From<Name> for Reference {
    fn from(name: Name) -> Self {
        Self::Name(name)
    }
}

impl From<Uuid> for Reference {
    fn from(id: Uuid) -> Self {
        Self::Id(id)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => fmt::Display::fmt(id, f),
            Self::Name(name) => fmt::Display::fmt(name, f),
        }
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

crate::serialized_as_text!(Reference);

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for Reference {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::schema::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some("An id (a hyphenated UUID) or a name."))
            .pattern(Some(crate::name::NAME_PATTERN))
            .build()
            .into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Reference {}
