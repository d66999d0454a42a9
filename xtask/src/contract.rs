//! `cargo xtask test contract`: the API against its own OpenAPI document, with schemathesis.
//!
//! Schemathesis makes requests from the document, good ones and bad ones, and compares every
//! answer with it: status, content type, headers, schema, and that bad requests are refused. The
//! server counts which operations were reached, and one that was not fails the step.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use crate::shell::{self, Outcome};

/// The release of schemathesis that is installed, from PyPI into a folder below the target folder.
const SCHEMATHESIS_VERSION: &str = "4.32.5";
/// The same requests each time.
const SEED: &str = "4711";
/// How many requests are made for each operation at least.
const MAX_EXAMPLES: &str = "30";
/// How long the run of all operations but one takes at most, and that of the one.
const MAX_SECONDS: &str = "160";
const MAX_SECONDS_OF_LOG_OUT: &str = "15";
/// The one command that ends the login that it is called with: it has a run and a login of its own.
const LOG_OUT: &str = "delete_logins_current";
/// Operations that no run asks, each with the reason. Nothing is: whoever adds one says why here.
const LEFT_OUT: &[(&str, &str)] = &[];
/// So many others may be unreached: the runs end by the clock, and on a slow machine sooner.
const MOST_UNREACHED: usize = 5;
/// Operations that may be unreached at the end, each with the reason.
const UNREACHED: &[(&str, &str)] = &[
    ("post_logins", "nobody guesses a password; the server's example logs in before the runs"),
    ("post_invitations_accept", "nobody guesses the secret of an invitation"),
    ("get_log_tile_by_tile", "the slashes of a tile's path are sent encoded: no such tile"),
    ("get_log_payloads_by_tile", "as for tiles"),
    ("get_nodes_by_node_why_by_other", "no agent runs that could answer (503)"),
];
/// The rules of the runs. What stands in `@` is an id that the server gives.
const RULES: &str = include_str!("../../control/server/contract/schemathesis.toml");

pub(crate) fn run() -> Outcome {
    let program = installed()?;
    let folder = shell::target_dir().join("contract");
    // What an earlier run left is of another cluster.
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut server = Server::start(&folder)?;
    let rules = folder.join("schemathesis.toml");
    fs::write(&rules, with_ids(RULES, &server.ids))
        .map_err(|error| format!("{}: {error}", rules.display()))?;
    let (first, second) = chosen();
    check(&program, &server, &server.token, &first)?;
    check(&program, &server, &server.spare, &second)?;
    let unreached = server.unreached()?;
    let missed = missed(&unreached);
    let said = format!("no request reached {}", missed.join(", "));
    match missed.len() {
        0 => Ok(()),
        1..=MOST_UNREACHED => {
            eprintln!("{said}");
            Ok(())
        }
        _ => Err(said),
    }
}

/// Those of the operations that were not reached and should have been.
fn missed(unreached: &str) -> Vec<&str> {
    let is_excepted = |operation: &str| UNREACHED.iter().any(|(name, _)| *name == operation);
    unreached.split_whitespace().filter(|operation| !is_excepted(operation)).collect()
}

/// The operations of each of the two runs, as options.
fn chosen() -> (Vec<&'static str>, Vec<&'static str>) {
    let mut first = vec!["--max-time", MAX_SECONDS, "--exclude-operation-id", LOG_OUT];
    first.extend(LEFT_OUT.iter().flat_map(|(operation, _)| ["--exclude-operation-id", operation]));
    (first, vec!["--max-time", MAX_SECONDS_OF_LOG_OUT, "--include-operation-id", LOG_OUT])
}

/// The rules with the ids of things that have no name.
fn with_ids(rules: &str, ids: &[(&str, String)]) -> String {
    ids.iter().fold(rules.to_owned(), |rules, (name, id)| rules.replace(&format!("@{name}@"), id))
}

fn check(program: &Path, server: &Server, token: &str, chosen: &[&str]) -> Outcome {
    let rules = server.folder.join("schemathesis.toml");
    let mut command = Command::new(program);
    command.current_dir(&server.folder).env("RAP_CONTRACT_TOKEN", token);
    command.arg(format!("--config-file={}", rules.display()));
    command.args(["run", &format!("{}/api/v1/openapi.json", server.url)]);
    command.arg(format!("--tls-verify={}", server.ca));
    command.args(["--checks=all", "--workers=1", "--no-color", "--generation-database=none"]);
    // How fast data is made says nothing of the API.
    command.arg("--suppress-health-check=all");
    command.args(["--seed", SEED, "--max-examples", MAX_EXAMPLES]);
    shell::run(command.args(chosen))
        .map_err(|error| format!("the API breaks its contract: {error}"))
}

/// The program, installed when it is not there.
fn installed() -> Result<PathBuf, String> {
    let folder =
        shell::target_dir().join("tools").join(format!("schemathesis-{SCHEMATHESIS_VERSION}"));
    let program = folder.join("bin/schemathesis");
    if shell::answers(&program.to_string_lossy(), "--version") {
        return Ok(program);
    }
    println!("installing schemathesis {SCHEMATHESIS_VERSION}");
    let hint = |error: String| {
        format!("schemathesis cannot be installed, which needs python3-venv and PyPI: {error}")
    };
    shell::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
        .map_err(hint)?;
    let mut install = Command::new(folder.join("bin/pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check"]);
    shell::run(install.arg(format!("schemathesis=={SCHEMATHESIS_VERSION}"))).map_err(hint)?;
    Ok(program)
}

/// The example program `contract` of the server. It ends with its standard input.
struct Server {
    child: Child,
    said: BufReader<ChildStdout>,
    folder: PathBuf,
    url: String,
    ca: String,
    token: String,
    spare: String,
    /// Of what has no name.
    ids: Vec<(&'static str, String)>,
}

/// What the server calls the ids that it gives.
const IDS: [&str; 3] = ["session", "apiToken", "joinToken"];

impl Server {
    fn start(folder: &Path) -> Result<Self, String> {
        // As the build step builds it: alone it would get other features and be compiled again.
        let mut build = shell::cargo(["build", "--quiet", "--locked", "--workspace"]);
        shell::run(build.arg("--all-targets"))?;
        let program = shell::target_dir().join("debug/examples/contract");
        let mut child = Command::new(&program)
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let mut line = String::new();
        let mut said = child.stdout.take().map(BufReader::new);
        let told = said.as_mut().map(|said| said.read_line(&mut line));
        let field = |name: &str| text_field(&line, name);
        let fields = (field("url"), field("ca"), field("token"), field("spare"));
        let ids = IDS.into_iter().map(|name| Some((name, field(name)?)));
        let ids = ids.collect::<Option<Vec<_>>>();
        let (Some(said), Some(Ok(_)), (Some(url), Some(ca), Some(token), Some(spare)), Some(ids)) =
            (said, told, fields, ids)
        else {
            // It has said on standard error why.
            let _ = child.wait();
            return Err("the server to be checked does not start".to_owned());
        };
        Ok(Self { child, said, folder: folder.to_owned(), url, ca, token, spare, ids })
    }

    /// Ends the server, which then says which operations no request reached.
    fn unreached(&mut self) -> Result<String, String> {
        drop(self.child.stdin.take());
        let mut line = String::new();
        let read = self.said.read_line(&mut line);
        read.map_err(|error| format!("the server that was checked: {error}"))?;
        text_field(&line, "unreached")
            .ok_or_else(|| "the server does not say what was reached".to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // Whatever it says at its end, the checks are done.
        let _ = self.child.wait();
    }
}

/// The value of a field of flat JSON whose texts need no escapes.
fn text_field(json: &str, name: &str) -> Option<String> {
    let (_, rest) = json.split_once(&format!("\"{name}\":\""))?;
    rest.split_once('"').map(|(value, _)| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that is left out, or held to less, is added to this test too.
    #[test]
    fn every_operation_is_asked_and_one_alone_is_held_to_less() {
        assert_eq!(LEFT_OUT, &[] as &[(&str, &str)]);
        let (first, second) = chosen();
        assert_eq!(first, ["--max-time", "160", "--exclude-operation-id", LOG_OUT]);
        assert_eq!(second, ["--max-time", "15", "--include-operation-id", LOG_OUT]);
        let rules: Vec<&str> = RULES.lines().filter(|line| !line.starts_with('#')).collect();
        let about = |word: &str| rules.iter().filter(|line| line.contains(word)).count();
        assert_eq!(about("[[operations]]"), 1);
        assert_eq!(about("include-operation-id = \"post_sessions\""), 1);
        for word in ["exclude-", "enabled", "include-path", "include-tag", "include-method"] {
            assert_eq!(about(word), 0, "{word}");
        }
    }

    #[test]
    fn what_no_request_reached_is_missed_unless_it_is_excepted() {
        assert_eq!(missed("get_nodes"), ["get_nodes"]);
        let excepted = UNREACHED.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
        assert_eq!(missed(&excepted), [] as [&str; 0]);
        assert_eq!(missed(&format!("{excepted} post_pools")), ["post_pools"]);
    }

    #[test]
    fn every_id_that_the_rules_ask_for_is_given() {
        let ids = IDS.map(|name| (name, "1".to_owned()));
        let given = with_ids(RULES, &ids);
        assert!(RULES.contains('@') && !given.contains('@'), "{given}");
    }
}
