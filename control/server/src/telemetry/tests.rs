#![allow(clippy::unwrap_used)]

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use opentelemetry::Key;
use serde_json::Value;
use tracing_subscriber::Registry;

use super::*;

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn cluster() -> ClusterId {
    ClusterId::from_u128(0xc1)
}

/// What two events become, of which one is in a span.
fn written(form: Form) -> String {
    let sink = Sink::default();
    let writer = sink.clone();
    let layer = lines_of(cluster(), form, move || writer.clone());
    tracing::subscriber::with_default(Registry::default().with(layer), || {
        tracing::info!("started");
        tracing::info_span!("request", number = 1).in_scope(|| tracing::warn!(code = 7, "late"));
    });
    let bytes = sink.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn each_line_names_the_cluster() {
    let end = format!(" cluster={}", cluster());
    let text = written(Form::Text);
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.lines().all(|line| line.ends_with(&end)), "{text}");
    let text = written(Form::Json);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines.iter().all(|line| line["cluster"] == cluster().to_string()), "{text}");
    assert_eq!((&lines[1]["fields"]["code"], &lines[1]["span"]["number"]), (&7.into(), &1.into()));
}

#[test]
fn what_traces_come_from_names_the_cluster() {
    let resource = resource("rap-control", cluster());
    let value = resource.get(&Key::from_static_str("rap.cluster.id"));
    assert_eq!(value.map(|value| value.to_string()), Some(cluster().to_string()));
}
