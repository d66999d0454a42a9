//! Results on standard output: aligned columns for people, JSON and YAML for programs.

use std::io::{self, Write};

use serde::Serialize;
use serde_yaml_ng::Value;

use crate::{args::Format, failure::Failure};

/// Something that is listed as one row.
pub(crate) trait Row: Serialize {
    const COLUMNS: &'static [&'static str];

    fn cells(&self) -> Vec<String>;
}

/// Prints a list: a table, or an array.
pub(crate) fn list<T: Row>(format: Format, items: &[T]) -> Result<(), Failure> {
    print(&match format {
        Format::Table => table(items),
        Format::Json | Format::Yaml => structured(format, &items)?,
    })
}

/// Prints one thing: its fields one a line, or an object.
pub(crate) fn one<T: Serialize>(format: Format, item: &T) -> Result<(), Failure> {
    print(&match format {
        Format::Table => fields(item)?,
        Format::Json | Format::Yaml => structured(format, item)?,
    })
}

/// Prints what a command did: a sentence for people, the object for programs.
pub(crate) fn done<T: Serialize>(format: Format, sentence: &str, item: &T) -> Result<(), Failure> {
    match format {
        Format::Table => print(&format!("{sentence}\n")),
        Format::Json | Format::Yaml => one(format, item),
    }
}

/// Writes to standard output. A reader that went away, as `head` does, is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::io("standard output cannot be written", &error))
        }
        _ => Ok(()),
    }
}

fn structured<T: Serialize>(format: Format, value: &T) -> Result<String, Failure> {
    let failed = || Failure::usage("the result cannot be written in that format");
    match format {
        Format::Yaml => serde_yaml_ng::to_string(value).map_err(|_| failed()),
        Format::Json | Format::Table => {
            serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|_| failed())
        }
    }
}

fn table<T: Row>(items: &[T]) -> String {
    let header = T::COLUMNS.iter().map(|&column| column.to_owned()).collect();
    let rows: Vec<Vec<String>> =
        std::iter::once(header).chain(items.iter().map(Row::cells)).collect();
    align(&rows)
}

/// Columns as wide as their widest cell, two spaces between them, none at a line's end.
fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{:<width$}  ", plain(cell)));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Text of others cannot move the cursor or colour the terminal.
fn plain(cell: &str) -> String {
    let shown = if cell.is_empty() { "-" } else { cell };
    shown.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn fields<T: Serialize>(item: &T) -> Result<String, Failure> {
    let value = serde_yaml_ng::to_value(item)
        .map_err(|_| Failure::usage("the result cannot be written as fields"))?;
    let Value::Mapping(mapping) = &value else { return Ok(short(&value) + "\n") };
    let rows: Vec<Vec<String>> =
        mapping.iter().map(|(name, value)| vec![words(&short(name)), short(value)]).collect();
    Ok(align(&rows))
}

/// `expiresAt` as `expires at`.
fn words(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_uppercase() {
            text.push(' ');
        }
        text.extend(c.to_lowercase());
    }
    text
}

/// A value on one line.
fn short(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim_end().to_owned(),
        Value::Sequence(items) if items.is_empty() => "-".to_owned(),
        Value::Sequence(items) => items.iter().map(short).collect::<Vec<_>>().join(", "),
        Value::Mapping(mapping) => {
            let part = |(name, value): (&Value, &Value)| {
                format!("{} {}", words(&short(name)), short(value))
            };
            mapping.iter().map(part).collect::<Vec<_>>().join(" ")
        }
        Value::Tagged(tagged) => short(&tagged.value),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Thing {
        name: &'static str,
        open_sessions: u32,
        tags: Vec<&'static str>,
        owner: Option<&'static str>,
    }

    impl Row for Thing {
        const COLUMNS: &'static [&'static str] = &["NAME", "OPEN", "OWNER"];

        fn cells(&self) -> Vec<String> {
            vec![
                self.name.to_owned(),
                self.open_sessions.to_string(),
                self.owner.unwrap_or_default().to_owned(),
            ]
        }
    }

    fn things() -> [Thing; 2] {
        [
            Thing { name: "a", open_sessions: 12, tags: vec![], owner: Some("alice") },
            Thing { name: "long-name", open_sessions: 3, tags: vec!["x", "y"], owner: None },
        ]
    }

    #[test]
    fn tables_are_aligned() {
        let expected = "\
NAME       OPEN  OWNER
a          12    alice
long-name  3     -
";
        assert_eq!(table(&things()), expected);
    }

    #[test]
    fn one_thing_is_a_list_of_its_fields_in_their_order() {
        let expected = "\
name           long-name
open sessions  3
tags           x, y
owner          -
";
        assert_eq!(fields(&things()[1]).unwrap(), expected);
    }

    #[test]
    fn programs_get_camel_case() {
        let json = structured(Format::Json, &things()[0]).unwrap();
        assert!(json.contains("\"openSessions\": 12"), "{json}");
        let yaml = structured(Format::Yaml, &things()[0]).unwrap();
        assert!(yaml.contains("openSessions: 12"), "{yaml}");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(align(&[vec!["a\x1b[31mb".to_owned()]]), "a\u{fffd}[31mb\n");
    }
}
