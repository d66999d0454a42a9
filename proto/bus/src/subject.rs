//! The grammar of subjects, and which of them a pattern matches.

use crate::{BusError, MAX_PAYLOAD_BYTES};

/// The longest subject or pattern, in bytes.
const MAX_BYTES: usize = 255;

/// Whether one may publish to `subject` a payload of `size` bytes.
pub(crate) fn check_publish(subject: &str, size: usize) -> Result<(), BusError> {
    let valid = subject.len() <= MAX_BYTES && subject.split('.').enumerate().all(is_literal);
    if !valid {
        return Err(BusError::InvalidSubject(subject.to_owned()));
    }
    if size > MAX_PAYLOAD_BYTES {
        return Err(BusError::TooLarge { actual: size });
    }
    Ok(())
}

/// Whether one may subscribe to `pattern`.
pub(crate) fn check_pattern(pattern: &str) -> Result<(), BusError> {
    let last = pattern.split('.').count() - 1;
    let valid = pattern.len() <= MAX_BYTES
        && pattern.split('.').enumerate().all(|(at, token)| match token {
            "*" => true,
            ">" => at == last,
            _ => is_literal((at, token)),
        });
    if valid { Ok(()) } else { Err(BusError::InvalidSubject(pattern.to_owned())) }
}

pub(crate) fn matches(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (_, None) => return false,
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

fn is_literal((at, token): (usize, &str)) -> bool {
    let token = if at == 0 { token.strip_prefix('$').unwrap_or(token) } else { token };
    !token.is_empty()
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_token_by_token() {
        for (pattern, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.b.c", "a.b", false),
            ("a.*.c", "a.x.c", true),
            ("a.*.c", "a.x.y.c", false),
            ("*", "a", true),
            ("a.>", "a", false),
            ("a.>", "a.b.c", true),
            (">", "a.b", true),
        ] {
            assert_eq!(matches(pattern, subject), expected, "{pattern} {subject}");
        }
    }

    #[test]
    fn the_alphabet_is_strict() {
        for bad in
            ["", ".", "a.", ".a", "a..b", "a b", "a\r\nPUB x 1", "a.*", "a.>", "ä", "a.$b", "$"]
        {
            assert!(check_publish(bad, 0).is_err(), "{bad:?}");
        }
        for bad in ["", "a..b", "a.>.b", "a.b*", ">>", "a\n"] {
            assert!(check_pattern(bad).is_err(), "{bad:?}");
        }
        assert!(check_publish("$SYS.REQ.CLAIMS.UPDATE", 0).is_ok());
        assert!(check_publish(&"a".repeat(MAX_BYTES), 0).is_ok());
        assert!(check_publish(&"a".repeat(MAX_BYTES + 1), 0).is_err());
        assert!(check_pattern(&"a".repeat(MAX_BYTES + 1)).is_err());
        assert!(check_pattern("a.*.b.>").is_ok());
    }
}
