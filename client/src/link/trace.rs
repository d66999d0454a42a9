//! W3C Trace Context: every channel is a trace of its own, unless the caller is in one already.

use std::env;

use crate::random;

/// Set by a program that traces its children.
const VARIABLE: &str = "TRACEPARENT";

/// The `traceparent` of one channel's opening.
pub(super) fn context() -> String {
    let inherited = env::var(VARIABLE).ok().filter(|text| is_well_formed(text));
    let context = inherited.unwrap_or_else(|| {
        let span: String = random::hex().chars().take(16).collect();
        format!("00-{}-{span}-01", random::hex())
    });
    tracing::debug!(traceparent = %context, "a channel is opened");
    context
}

/// Version 00: trace, parent and flags in lower-case hexadecimal digits, neither id all zeros.
fn is_well_formed(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, parent, flags] = parts.as_slice() else { return false };
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    };
    *version == "00"
        && hex(trace, 32)
        && hex(parent, 16)
        && hex(flags, 2)
        && trace.bytes().any(|c| c != b'0')
        && parent.bytes().any(|c| c != b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_well_formed_and_differ() {
        let (one, other) = (context(), context());
        assert!(is_well_formed(&one) && is_well_formed(&other));
        assert_ne!(one, other);
        for bad in [
            "",
            "00",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319C-b7ad6b7169203331-01",
        ] {
            assert!(!is_well_formed(bad), "{bad}");
        }
    }
}
