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
    let whole = match Number::deserialize(deserializer)? {
        Number::Whole(number) => Some(number),
        Number::Point(number) if number.fract() == 0.0 && (0.0..=MAX_EXACT).contains(&number) => {
            Some(number as u64)
        }
        Number::Point(_) => None,
    };
    whole
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| de::Error::custom("not a whole number of this size"))
}
