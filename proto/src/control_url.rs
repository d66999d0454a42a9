//! Where a server of control is reached.

use std::{fmt, net::Ipv6Addr, str::FromStr};

/// Where a server of control is reached: `https://`, a DNS name or IP address, and optionally a port. However it
/// was spelled, one address is one value: names are in lower case, and IPv6 addresses in their shortest form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ControlUrl {
    host: String,
    port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a control server's address is written https://HOST[:PORT], without path, user or query")]
pub struct ParseControlUrlError;

impl ControlUrl {
    /// The port when none is written.
    pub const DEFAULT_PORT: u16 = 8443;

    /// A DNS name or an IP address; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for ControlUrl {
    type Err = ParseControlUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix("https://").ok_or(ParseControlUrlError)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(bracketed) => {
                let (host, after) = bracketed.split_once(']').ok_or(ParseControlUrlError)?;
                let host = host.parse::<Ipv6Addr>().map_err(|_| ParseControlUrlError)?;
                (host.to_string(), after.strip_prefix(':').or((after.is_empty()).then_some("")))
            }
            None => match rest.split_once(':') {
                Some((host, port)) => (check_host(host)?, Some(port)),
                None => (check_host(rest)?, Some("")),
            },
        };
        let port = match port.ok_or(ParseControlUrlError)? {
            "" if !rest.ends_with(':') => Self::DEFAULT_PORT,
            digits if digits.bytes().all(|c| c.is_ascii_digit()) => {
                digits.parse().ok().filter(|port| *port != 0).ok_or(ParseControlUrlError)?
            }
            _ => return Err(ParseControlUrlError),
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for ControlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "https://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "https://{}:{}", self.host, self.port)
        }
    }
}

crate::serialized_as_text!(ControlUrl);

/// Letters, digits, hyphens and dots only: nothing that a header, log or file must escape.
fn check_host(host: &str) -> Result<String, ParseControlUrlError> {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let well_formed = host.len() <= 253 && host.split('.').all(label);
    if well_formed { Ok(host.to_ascii_lowercase()) } else { Err(ParseControlUrlError) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn control_urls_have_one_shape() {
        let good = [
            ("https://control.example", "https://control.example:8443"),
            ("https://control.example:443/", "https://control.example:443"),
            ("https://10.0.0.1:8443", "https://10.0.0.1:8443"),
            ("https://[::1]:9000", "https://[::1]:9000"),
            ("https://[fd00::1]", "https://[fd00::1]:8443"),
            ("https://Control.EXAMPLE", "https://control.example:8443"),
            ("https://[FD00:0:0::01]", "https://[fd00::1]:8443"),
        ];
        for (text, shown) in good {
            assert_eq!(text.parse::<ControlUrl>().unwrap().to_string(), shown);
        }
        let bad = [
            "",
            "http://control.example",
            "https://",
            "https://user@host",
            "https://host/path",
            "https://host:0",
            "https://host:99999",
            "https://host:",
            "https://[::1",
            "https://[::1]x",
            "https://ho st",
            "https://host\r\nX: y",
            "https://host;rm",
            "https://-host",
            "https://a..b",
        ];
        for text in bad {
            assert_eq!(text.parse::<ControlUrl>(), Err(ParseControlUrlError), "{text:?}");
        }
    }
}
