//! A payload's MessagePack as JSON: ids in their hyphenated form, other bytes in hexadecimal,
//! times as RFC 3339.

use std::fmt;

use rap_proto::{
    Timestamp,
    codec::{self, DecodeError},
};
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};
use uuid::Uuid;

/// The fields of 16 bytes that are no ids.
const NO_IDS: &[&str] = &["serial"];

pub(super) fn to_json(payload: &[u8]) -> Result<Value, DecodeError> {
    let any: Any = codec::decode(payload, rap_events::log::MAX_PAYLOAD_BYTES)?;
    Ok(any.named(""))
}

/// Any MessagePack value.
enum Any {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Any>),
    Fields(Vec<(Any, Any)>),
}

impl Any {
    fn named(self, name: &str) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Signed(value) if is_time(name) => time(value),
            Self::Signed(value) => Value::from(value),
            Self::Unsigned(value) if is_time(name) => time(i64::try_from(value).unwrap_or(0)),
            Self::Unsigned(value) => Value::from(value),
            Self::Float(value) => Value::from(value),
            Self::Text(value) => Value::String(value),
            Self::Bytes(value) => Value::String(bytes(&value, name)),
            Self::List(items) => {
                Value::Array(items.into_iter().map(|item| item.named(name)).collect())
            }
            Self::Fields(fields) => {
                Value::Object(fields.into_iter().map(field).collect::<Map<_, _>>())
            }
        }
    }
}

fn field((name, value): (Any, Any)) -> (String, Value) {
    let name = match name {
        Any::Text(name) => name,
        Any::Bytes(value) => bytes(&value, ""),
        other => other.named("").to_string(),
    };
    let value = value.named(&name);
    (name, value)
}

fn is_time(name: &str) -> bool {
    name == "at" || name == "connect_by" || name == "valid_until" || name.ends_with("_at")
}

fn time(millis: i64) -> Value {
    Value::String(Timestamp::from_unix_millis(millis).to_string())
}

fn bytes(value: &[u8], name: &str) -> String {
    match Uuid::from_slice(value) {
        Ok(id) if !NO_IDS.contains(&name) => id.to_string(),
        _ => value.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor)
    }
}

struct AnyVisitor;

impl<'de> de::Visitor<'de> for AnyVisitor {
    type Value = Any;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a MessagePack value")
    }

    fn visit_unit<E>(self) -> Result<Any, E> {
        Ok(Any::Null)
    }

    fn visit_none<E>(self) -> Result<Any, E> {
        Ok(Any::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Any, D::Error> {
        Any::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Any, E> {
        Ok(Any::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Any, E> {
        Ok(Any::Signed(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Any, E> {
        Ok(Any::Unsigned(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Any, E> {
        Ok(Any::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Any, E> {
        Ok(Any::Text(value.to_owned()))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Any, E> {
        Ok(Any::Bytes(value.to_vec()))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Any, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Any::List(list))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<Any, A::Error> {
        let mut fields = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            fields.push(entry);
        }
        Ok(Any::Fields(fields))
    }
}
