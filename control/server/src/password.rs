//! Argon2id, a few at a time: hashing is made expensive on purpose, so it must not be possible
//! to ask for much of it at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::{
    Argon2,
    password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString},
};
use rap_proto::api::{MAX_PASSWORD_BYTES, MIN_PASSWORD_CHARS, Problem, ProblemCode, SecretText};
use tokio::sync::Semaphore;

use crate::clock;

/// How many passwords are hashed at the same time.
pub(crate) const MAX_CONCURRENT_HASHES: usize = 2;
/// How many requests may wait for their turn; more are turned away.
pub(crate) const MAX_WAITING_HASHES: usize = 32;

/// Hashes and verifies passwords on blocking threads.
#[derive(Debug)]
pub(crate) struct Passwords {
    turns: Semaphore,
    waiting: AtomicUsize,
    /// Verified against when there is no such account, so that both answers take as long.
    decoy: String,
}

impl Passwords {
    pub(crate) fn new() -> Self {
        let decoy = hash(&SecretText::new("no account has this password"));
        Self { turns: Semaphore::new(MAX_CONCURRENT_HASHES), waiting: AtomicUsize::new(0), decoy }
    }

    /// The verifier to store: an Argon2id hash in the PHC string format.
    pub(crate) async fn hash(&self, password: SecretText) -> Result<String, Problem> {
        self.in_turn(move || hash(&password)).await
    }

    /// Whether `password` belongs to `verifier`; `None` stands for an account without one.
    pub(crate) async fn verify(
        &self,
        password: SecretText,
        verifier: Option<String>,
    ) -> Result<bool, Problem> {
        let known = verifier.is_some();
        let verifier = verifier.unwrap_or_else(|| self.decoy.clone());
        let matches = self
            .in_turn(move || {
                PasswordHash::new(&verifier).is_ok_and(|parsed| {
                    Argon2::default().verify_password(password.reveal().as_bytes(), &parsed).is_ok()
                })
            })
            .await?;
        Ok(matches && known)
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let waiting = Waiting::enter(&self.waiting)?;
        let turn = self.turns.acquire().await.expect("the semaphore is never closed");
        let done = tokio::task::spawn_blocking(work).await;
        drop((turn, waiting));
        done.map_err(|_| Problem::new(ProblemCode::Internal, "hashing failed"))
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Result<Self, Problem> {
        let before = count.fetch_add(1, Ordering::AcqRel);
        let entered = Self(count);
        if before >= MAX_WAITING_HASHES + MAX_CONCURRENT_HASHES {
            return Err(Problem::new(ProblemCode::LimitReached, "too many logins at once")
                .rule("max_waiting_hashes"));
        }
        Ok(entered)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Refuses passwords that are too short to be worth hashing or too long to be one.
pub(crate) fn check(password: &SecretText, field: &str) -> Result<(), Problem> {
    let text = password.reveal();
    let refused = |rule: &str, detail: String| {
        Err(Problem::new(ProblemCode::ValidationFailed, detail).rule(rule).field(field))
    };
    if text.chars().count() < MIN_PASSWORD_CHARS {
        return refused(
            "password_too_short",
            format!("a password has at least {MIN_PASSWORD_CHARS} characters"),
        );
    }
    if text.len() > MAX_PASSWORD_BYTES {
        return refused(
            "password_too_long",
            format!("a password has at most {MAX_PASSWORD_BYTES} bytes"),
        );
    }
    Ok(())
}

fn hash(password: &SecretText) -> String {
    let salt = SaltString::encode_b64(&clock::random::<16>()).expect("16 bytes make a salt");
    Argon2::default()
        .hash_password(password.reveal().as_bytes(), &salt)
        .expect("the default parameters are valid")
        .to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn a_password_verifies_against_its_own_hash_only() {
        let passwords = Passwords::new();
        let stored = passwords.hash(SecretText::new("correct horse battery")).await.unwrap();
        assert!(stored.starts_with("$argon2id$"));
        let verify =
            |text: &str, stored: Option<String>| passwords.verify(SecretText::new(text), stored);
        assert!(verify("correct horse battery", Some(stored.clone())).await.unwrap());
        assert!(!verify("correct horse batterie", Some(stored)).await.unwrap());
        assert!(!verify("no account has this password", None).await.unwrap());
    }

    /// The Argon2 authors' own example: hashes stand in the log, of every release that wrote one.
    #[tokio::test]
    async fn a_hash_with_other_measures_is_still_read() {
        let stored = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ\
                      $CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let passwords = Passwords::new();
        let verify = |text: &str| passwords.verify(SecretText::new(text), Some(stored.to_owned()));
        assert!(verify("password").await.unwrap());
        assert!(!verify("passwort").await.unwrap());
    }

    #[tokio::test]
    async fn more_than_the_limit_are_turned_away() {
        let passwords = Passwords::new();
        let all = (0..MAX_WAITING_HASHES + MAX_CONCURRENT_HASHES)
            .map(|_| Waiting::enter(&passwords.waiting).unwrap())
            .collect::<Vec<_>>();
        let refused = passwords.hash(SecretText::new("one too many")).await.unwrap_err();
        assert_eq!(refused.code(), Some(ProblemCode::LimitReached));
        drop(all);
        assert!(passwords.hash(SecretText::new("room again")).await.is_ok());
    }

    #[test]
    fn lengths_are_bounded_on_both_sides() {
        assert!(check(&SecretText::new("short"), "password").is_err());
        assert!(check(&SecretText::new("x".repeat(MAX_PASSWORD_BYTES + 1)), "password").is_err());
        assert!(check(&SecretText::new("x".repeat(MIN_PASSWORD_CHARS)), "password").is_ok());
    }
}
