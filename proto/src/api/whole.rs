//! Whole numbers as JSON has them: `7` and `7.0` are the same number, and both are integers to
//! JSON Schema.

use serde::{Deserialize, Deserializer, de};

/// The greatest number up to which every integer is exact in a JSON number.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Whole(u64),
    Point(f64),
}

/// Reads an unsigned number; a fraction, a sign or too many digits is an error.
pub(super) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    Number::deserialize(deserializer)?.whole()
}

/// The same of a number that may be left out; `null` says as little.
pub(super) fn deserialize_option<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    Option::<Number>::deserialize(deserializer)?.map(Number::whole).transpose()
}

impl Number {
    fn whole<T: TryFrom<u64>, E: de::Error>(self) -> Result<T, E> {
        let exact = |number: f64| number.fract() == 0.0 && (0.0..=MAX_EXACT).contains(&number);
        let whole = match self {
            Self::Whole(number) => Some(number),
            Self::Point(number) => exact(number).then_some(number as u64),
        };
        whole
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| E::custom("not a whole number of this size"))
    }
}
