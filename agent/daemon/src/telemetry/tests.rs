#![allow(clippy::unwrap_used)]

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use opentelemetry::Key;
use serde_json::Value;
use tracing_subscriber::Registry;

use super::*;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

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
fn written(form: LogFormat) -> String {
    let sink = Sink::default();
    let writer = sink.clone();
    let layer = lines_of(Some(cluster()), form, move || writer.clone());
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
    let text = written(LogFormat::Text);
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.lines().all(|line| line.ends_with(&end)), "{text}");
    let text = written(LogFormat::Json);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines.iter().all(|line| line["cluster"] == cluster().to_string()), "{text}");
    assert_eq!((&lines[1]["fields"]["code"], &lines[1]["span"]["number"]), (&7.into(), &1.into()));
}

#[test]
fn what_traces_come_from_names_the_cluster() {
    let resource = resource(Some(cluster()));
    let value = resource.get(&Key::from_static_str("rap.cluster.id"));
    assert_eq!(value.map(|value| value.to_string()), Some(cluster().to_string()));
}

/// A host that joins does not know its cluster yet.
#[test]
fn without_a_cluster_none_is_named() {
    let key = Key::from_static_str("rap.cluster.id");
    assert_eq!(resource(None).get(&key), None);
}

#[test]
fn a_trace_goes_on_where_nobody_traces_and_nonsense_ends_here() {
    let span = tracing::info_span!("dial");
    assert_eq!(continue_trace(&span, Some(PARENT)).as_deref(), Some(PARENT));
    assert_eq!(continue_trace(&span, None), None);
    assert_eq!(continue_trace(&span, Some("00-zz-11-01")), None);
    assert_eq!(continue_trace(&span, Some(&"0".repeat(500))), None);
}
