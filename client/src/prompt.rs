//! Secrets from a person: asked for on the terminal without echo, or read from a pipe.

use std::{
    env,
    fs::{File, OpenOptions},
    io::{self, BufRead as _, Read as _, Write as _},
};

use rap_proto::api::{MAX_PASSWORD_BYTES, SecretText};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use zeroize::Zeroizing;

use crate::failure::{Exit, Failure};

/// The variable that stands in for the prompt.
const PASSWORD_VARIABLE: &str = "RAP_PASSWORD";

/// Where a password comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Stdin,
    /// The environment, else the terminal.
    Ask,
}

impl Source {
    pub(crate) fn from_flag(stdin: bool) -> Self {
        if stdin { Self::Stdin } else { Self::Ask }
    }
}

/// A password that exists already.
pub(crate) fn password(source: Source, question: &str) -> Result<SecretText, Failure> {
    match given(source)? {
        Some(password) => Ok(password),
        None => Terminal::open(question)?.ask(question),
    }
}

/// A password that is chosen now; the terminal asks twice.
pub(crate) fn new_password(source: Source, question: &str) -> Result<SecretText, Failure> {
    if let Some(password) = given(source)? {
        return Ok(password);
    }
    let mut terminal = Terminal::open(question)?;
    let first = terminal.ask(question)?;
    if terminal.ask("The same again: ")? == first {
        Ok(first)
    } else {
        Err(Failure::usage("the two passwords are not the same").hint("try again"))
    }
}

/// A line that is no secret.
pub(crate) fn line(question: &str) -> Result<String, Failure> {
    let terminal = Terminal::open(question)?;
    let mut answer = String::new();
    let mut ask = || {
        (&terminal.tty).write_all(question.as_bytes())?;
        let limit = u64::try_from(MAX_PASSWORD_BYTES).unwrap_or(u64::MAX);
        io::BufReader::new((&terminal.tty).take(limit)).read_line(&mut answer)
    };
    ask().map_err(|error| Failure::io("the terminal cannot be read", &error))?;
    Ok(answer.trim().to_owned())
}

/// Has a person type `expected` before something that cannot be taken back.
pub(crate) fn confirm(warning: &str, expected: &str) -> Result<(), Failure> {
    let typed = line(&format!("{warning}\nType {expected} to go on: "))
        .map_err(|failure| failure.hint("say --yes where nobody can be asked"))?;
    if typed == expected { Ok(()) } else { Err(Failure::new(Exit::Failed, "nothing was changed")) }
}

/// The next line of standard input.
pub(crate) fn stdin_line() -> Result<SecretText, Failure> {
    let mut line = Zeroizing::new(String::new());
    let limit = u64::try_from(MAX_PASSWORD_BYTES + 2).unwrap_or(u64::MAX);
    io::stdin()
        .lock()
        .take(limit)
        .read_line(&mut line)
        .map_err(|error| Failure::io("standard input cannot be read", &error))?;
    let text = line.trim_end_matches(['\n', '\r']);
    if text.is_empty() || text.len() > MAX_PASSWORD_BYTES {
        return Err(Failure::usage(format!(
            "a password of 1 to {MAX_PASSWORD_BYTES} bytes is expected on standard input"
        )));
    }
    Ok(SecretText::new(text))
}

fn given(source: Source) -> Result<Option<SecretText>, Failure> {
    match source {
        Source::Stdin => stdin_line().map(Some),
        Source::Ask => Ok(env::var(PASSWORD_VARIABLE)
            .ok()
            .filter(|text| !text.is_empty())
            .map(SecretText::new)),
    }
}

/// The controlling terminal, whatever standard input is.
struct Terminal {
    tty: File,
}

impl Terminal {
    fn open(question: &str) -> Result<Self, Failure> {
        match OpenOptions::new().read(true).write(true).open("/dev/tty") {
            Ok(tty) => Ok(Self { tty }),
            Err(_) => Err(Failure::usage(format!(
                "there is no terminal to ask on: {}",
                question.trim_end_matches([':', ' '])
            ))
            .hint("give it with --password-stdin or in RAP_PASSWORD")),
        }
    }

    /// Reads a line with echo off. The keys are read one by one, so that Ctrl-C leaves the
    /// terminal as it was.
    fn ask(&mut self, question: &str) -> Result<SecretText, Failure> {
        let failed = |error: io::Error| Failure::io("the terminal cannot be used", &error);
        self.tty.write_all(question.as_bytes()).map_err(failed)?;
        let typed = {
            let _silent = Silent::start(&self.tty).map_err(failed)?;
            read_keys(&mut &self.tty).map_err(failed)?
        };
        self.tty.write_all(b"\n").map_err(failed)?;
        let cancelled = || Failure::new(Exit::Failed, "cancelled");
        let text = Zeroizing::new(typed.ok_or_else(cancelled)?);
        if text.is_empty() {
            return Err(Failure::usage("nothing was typed"));
        }
        Ok(SecretText::new(text.as_str()))
    }
}

/// Echo and line editing are off for as long as this lives.
struct Silent<'a> {
    tty: &'a File,
    before: Termios,
}

impl<'a> Silent<'a> {
    fn start(tty: &'a File) -> io::Result<Self> {
        let before = tcgetattr(tty)?;
        let mut silent = before.clone();
        silent.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        silent.special_codes[SpecialCodeIndex::VMIN] = 1;
        silent.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(tty, OptionalActions::Flush, &silent)?;
        Ok(Self { tty, before })
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.tty, OptionalActions::Flush, &self.before);
    }
}

/// A line's text, or `None` when Ctrl-C or Ctrl-D was pressed.
fn read_keys(keys: &mut impl io::Read) -> io::Result<Option<String>> {
    const CTRL_C: u8 = 0x03;
    const CTRL_D: u8 = 0x04;
    const CTRL_U: u8 = 0x15;
    let mut typed = Zeroizing::new(Vec::with_capacity(MAX_PASSWORD_BYTES + 4));
    let mut key = [0];
    while keys.read(&mut key)? == 1 {
        match key[0] {
            b'\r' | b'\n' => {
                return Ok(Some(String::from_utf8_lossy(&typed).into_owned()));
            }
            CTRL_C | CTRL_D => return Ok(None),
            CTRL_U => typed.clear(),
            0x08 | 0x7f => {
                // A character of several bytes goes as one.
                while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            byte if typed.len() < MAX_PASSWORD_BYTES => typed.push(byte),
            _ => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(keys: &[u8], expected: Option<&str>) {
        let got = read_keys(&mut &*keys).unwrap();
        assert_eq!(got.as_deref(), expected, "{keys:?}");
    }

    #[test]
    fn keys_become_a_line() {
        check(b"secret\r", Some("secret"));
        check(b"secrex\x7ft\n", Some("secret"));
        check("aü\x7fb\n".as_bytes(), Some("ab"));
        check(b"wrong\x15right\n", Some("right"));
        check(b"sec\x03", None);
        check(b"sec", None);
        let long = [vec![b'a'; MAX_PASSWORD_BYTES + 10], vec![b'\n']].concat();
        check(&long, Some(&"a".repeat(MAX_PASSWORD_BYTES)));
    }
}
