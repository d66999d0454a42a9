use std::{fmt, str::FromStr};

use crate::Timestamp;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const HOURS_PER_DAY: u8 = 24;
const MS_PER_HOUR: i64 = 3_600_000;
/// 1970-01-01 was a Thursday: so many hours into its week it began.
const HOURS_BEFORE_EPOCH: i64 = 3 * 24;

/// The form of an hour of the week, as a regular expression.
pub const WEEK_HOUR_PATTERN: &str = "^(mon|tue|wed|thu|fri|sat|sun)-([01][0-9]|2[0-3])$";

/// One hour of the week in UTC, written `mon-09`: what a policy can ask of time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WeekHour {
    /// From 0, Monday.
    day: u8,
    hour: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an hour of the week is written as in mon-09, in UTC")]
pub struct ParseWeekHourError;

impl WeekHour {
    pub fn of(time: Timestamp) -> Self {
        let hours = time.unix_millis().div_euclid(MS_PER_HOUR) + HOURS_BEFORE_EPOCH;
        let in_week = hours.rem_euclid(i64::from(HOURS_PER_DAY) * 7);
        let part = |number: i64| u8::try_from(number).unwrap_or(0);
        Self {
            day: part(in_week / i64::from(HOURS_PER_DAY)),
            hour: part(in_week % i64::from(HOURS_PER_DAY)),
        }
    }

    /// All hours of a week, from Monday's first.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..7).flat_map(|day| (0..HOURS_PER_DAY).map(move |hour| Self { day, hour }))
    }

    /// From 1, Monday, to 7, Sunday.
    pub const fn weekday(self) -> u8 {
        self.day + 1
    }

    pub const fn hour(self) -> u8 {
        self.hour
    }
}

impl fmt::Display for WeekHour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = DAYS.get(usize::from(self.day)).copied().unwrap_or_default();
        write!(f, "{day}-{:02}", self.hour)
    }
}

impl fmt::Debug for WeekHour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for WeekHour {
    type Err = ParseWeekHourError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::all().find(|hour| hour.to_string() == text).ok_or(ParseWeekHourError)
    }
}

crate::serialized_as_text!(WeekHour);

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for WeekHour {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::schema::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some("An hour of the week in UTC, as in mon-09."))
            .pattern(Some(WEEK_HOUR_PATTERN))
            .build()
            .into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for WeekHour {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_hour_of_the_week_is_that_of_the_calendar_in_utc() {
        for (time, hour) in [
            ("1970-01-01T00:00:00Z", "thu-00"),
            ("2026-11-23T08:59:59.999Z", "mon-08"),
            ("2026-11-23T09:00:00Z", "mon-09"),
            ("2026-11-22T23:30:00Z", "sun-23"),
            ("2026-11-23T00:30:00+01:00", "sun-23"),
        ] {
            let found = WeekHour::of(time.parse().unwrap());
            assert_eq!(found.to_string(), hour, "{time}");
            assert_eq!(hour.parse(), Ok(found));
        }
        assert_eq!(WeekHour::all().count(), 168);
        for wrong in ["mon-24", "mon-9", "Mon-09", "", "mon"] {
            assert_eq!(wrong.parse::<WeekHour>(), Err(ParseWeekHourError), "{wrong}");
        }
    }
}
