//! The fabric's two clocks: calendar time and monotonic time.

use std::{fmt, ops, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Calendar time in milliseconds since 1970-01-01T00:00:00Z: what is stored, signed and shown.
///
/// RFC 3339 text in JSON (`2026-11-23T08:30:00.250Z`), an integer in MessagePack.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String, format = "date-time"))]
pub struct Timestamp(i64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a time is written as in RFC 3339, between the years 1970 and 9999")]
pub struct ParseTimestampError;

/// The last millisecond of the year 9999: the greatest time that RFC 3339 can write.
const GREATEST_MS: i64 = 253_402_300_799_999;

impl Timestamp {
    /// Times outside 1970 to 9999 are clamped, so that every value has a text form.
    pub const fn from_unix_millis(millis: i64) -> Self {
        Self(if millis < 0 {
            0
        } else if millis > GREATEST_MS {
            GREATEST_MS
        } else {
            millis
        })
    }

    pub const fn unix_millis(self) -> i64 {
        self.0
    }

    /// The time of a text in RFC 3339; one outside 1970 to 9999 is clamped.
    pub fn parse_clamped(text: &str) -> Result<Self, ParseTimestampError> {
        parse_millis(text).map(Self::from_unix_millis)
    }

    /// How long after `earlier` this is; zero when it is not later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }
}

impl ops::Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_unix_millis(self.0.saturating_add(millis))
    }
}

impl ops::Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_unix_millis(self.0.saturating_sub(millis))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = i128::from(self.0) * 1_000_000;
        let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| fmt::Error)?;
        f.write_str(&time.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let millis = parse_millis(text)?;
        if (0..=GREATEST_MS).contains(&millis) {
            Ok(Self(millis))
        } else {
            Err(ParseTimestampError)
        }
    }
}

/// May be before 1970 and, by its offset, after 9999.
fn parse_millis(text: &str) -> Result<i64, ParseTimestampError> {
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| ParseTimestampError)?;
    // Not by way of UTC: a day of the year 9999 with an offset has none that could be written.
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).map_err(|_| ParseTimestampError)
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_i64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return String::deserialize(deserializer)?.parse().map_err(de::Error::custom);
        }
        let millis = i64::deserialize(deserializer)?;
        if (0..=GREATEST_MS).contains(&millis) {
            Ok(Self(millis))
        } else {
            Err(de::Error::custom(ParseTimestampError))
        }
    }
}

/// Monotonic time in microseconds since an origin that only the local machine knows: what
/// timers run on. Never stored and never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    pub const fn micros(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl ops::Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}
