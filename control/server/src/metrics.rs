//! What `/metrics` says, in Prometheus' text format. Labels are route templates and closed lists
//! of words: no organization, user, node or resource has a name here. The cluster has its id.

use std::{collections::BTreeMap, fmt::Write as _, sync::Mutex, time::Duration};

use actix_web::http::Method;

/// The most label sets of one counter; there are fewer routes than that.
const MAX_SERIES: usize = 2_048;

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(String, &'static str, u16), Requests>>,
    words: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Requests {
    count: u64,
    seconds: f64,
}

/// A number that is read when it is asked for.
pub(crate) struct Gauge {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    /// `name="value"` pairs of closed lists, or nothing.
    pub(crate) labels: String,
    pub(crate) value: u64,
}

impl Metrics {
    pub(crate) fn request(
        &self,
        method: &Method,
        route: &'static str,
        status: u16,
        elapsed: Duration,
    ) {
        let mut requests = self.requests.lock().expect("no holder of the lock panics");
        let key = (method.to_string(), route, status);
        if requests.len() >= MAX_SERIES && !requests.contains_key(&key) {
            return;
        }
        let entry = requests.entry(key).or_default();
        entry.count += 1;
        entry.seconds += elapsed.as_secs_f64();
    }

    /// Counts `outcome` of `counter`, both from closed lists.
    pub(crate) fn count(&self, counter: &'static str, outcome: &'static str) {
        let mut words = self.words.lock().expect("no holder of the lock panics");
        *words.entry((counter, outcome)).or_default() += 1;
    }

    pub(crate) fn render(&self, gauges: &[Gauge]) -> String {
        let mut text = String::new();
        self.render_requests(&mut text);
        self.render_words(&mut text);
        let mut last = "";
        for gauge in gauges {
            if gauge.name != last {
                let _ = writeln!(text, "# HELP {} {}", gauge.name, gauge.help);
                let _ = writeln!(text, "# TYPE {} gauge", gauge.name);
                last = gauge.name;
            }
            let labels = match gauge.labels.as_str() {
                "" => String::new(),
                labels => format!("{{{labels}}}"),
            };
            let _ = writeln!(text, "{}{labels} {}", gauge.name, gauge.value);
        }
        text
    }

    fn render_requests(&self, text: &mut String) {
        let requests = self.requests.lock().expect("no holder of the lock panics").clone();
        text.push_str("# HELP rap_control_requests_total Answered requests.\n");
        text.push_str("# TYPE rap_control_requests_total counter\n");
        for ((method, route, status), Requests { count, .. }) in &requests {
            let _ = writeln!(
                text,
                "rap_control_requests_total{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}} {count}"
            );
        }
        text.push_str("# HELP rap_control_request_seconds_total Time spent on requests.\n");
        text.push_str("# TYPE rap_control_request_seconds_total counter\n");
        for ((method, route, status), Requests { seconds, .. }) in &requests {
            let _ = writeln!(
                text,
                "rap_control_request_seconds_total{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}} {seconds:.6}"
            );
        }
    }

    fn render_words(&self, text: &mut String) {
        let words = self.words.lock().expect("no holder of the lock panics").clone();
        let mut last = "";
        for ((counter, outcome), count) in &words {
            if *counter != last {
                let _ = writeln!(text, "# TYPE rap_control_{counter}_total counter");
                last = counter;
            }
            let _ = writeln!(text, "rap_control_{counter}_total{{outcome=\"{outcome}\"}} {count}");
        }
    }
}
