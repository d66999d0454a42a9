//! `rap ssh` and `rap ssh-config`: OpenSSH with the fabric as its transport.

use std::{
    env,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use rap_proto::{
    Lane, Name, ResourceKind,
    api::{Reachable, Reference},
};

use super::{Context, access};
use crate::{
    args::{SSH_BULK_DOMAIN, SSH_DOMAIN, Ssh, SshConfig},
    config::SshDefaults,
    failure::{Exit, Failure},
    home, output,
};

/// Becomes ssh; returns only when that failed.
pub(super) fn run(context: &Context, arguments: &Ssh) -> Failure {
    let mut command = match prepare(context, arguments) {
        Ok(command) => command,
        Err(failure) => return failure,
    };
    let error = command.exec();
    if error.kind() == std::io::ErrorKind::NotFound {
        return Failure::new(Exit::Failed, "the program ssh is not installed")
            .hint("install it: apt-get install openssh-client");
    }
    Failure::io("ssh cannot be started", &error)
}

fn prepare(context: &Context, arguments: &Ssh) -> Result<Command, Failure> {
    // Says what is missing before ssh wraps it into a message of its own.
    context.caller()?;
    home::make_private(&context.config.home)?;
    let resource = &arguments.destination.resource.0;
    let defaults = defaults(context, resource);
    let mut command = Command::new("ssh");
    // ssh takes the first value of an option, so what was typed goes first.
    for option in &arguments.options {
        command.arg("-o").arg(option);
    }
    if let Some(identity) = &arguments.identity {
        command.arg("-i").arg(identity);
    }
    for (key, value) in options(context, &defaults)? {
        command.arg("-o").arg(format!("{key}={value}"));
    }
    let user = arguments.login_name.clone().or_else(|| arguments.destination.user.clone());
    if let Some(user) = user.or(defaults.user) {
        command.arg("-l").arg(user);
    }
    for forward in &arguments.local_forwards {
        command.arg("-L").arg(forward);
    }
    if arguments.terminal {
        command.arg("-t");
    }
    command.arg("--").arg(format!("{resource}{SSH_DOMAIN}")).args(&arguments.command);
    Ok(command)
}

pub(super) async fn config(context: &Context, arguments: &SshConfig) -> Result<(), Failure> {
    let reachable = if arguments.offline { Vec::new() } else { access::reachable(context).await? };
    output::print(&block(context, &reachable)?)
}

/// The text for `~/.ssh/config`: resources with defaults of their own first and the lane of bulk before the
/// rest, because ssh takes the first value that matches.
fn block(context: &Context, reachable: &[Reachable]) -> Result<String, Failure> {
    let mut text = String::from("# Resources behind the fabric, by `rap ssh-config`.\n");
    let ssh_names: Vec<&Name> = reachable
        .iter()
        .filter(|item| item.kind == ResourceKind::Ssh)
        .map(|item| &item.name)
        .collect();
    for (name, defaults) in &context.config.files.ssh {
        let known = alias(name, &ssh_names);
        text.push_str(&format!("Host {name}{SSH_DOMAIN} {name}{SSH_BULK_DOMAIN}{known}\n"));
        if let Some(user) = &defaults.user {
            text.push_str(&format!("    User {user}\n"));
        }
        if let Some(identity) = &defaults.identity {
            text.push_str(&format!("    IdentityFile {}\n", quoted(identity)));
            text.push_str("    IdentitiesOnly yes\n");
        }
    }
    text.push_str("# The same on the lane bulk: for scp, rsync and git with much to carry.\n");
    text.push_str(&format!("Host *{SSH_BULK_DOMAIN}\n"));
    text.push_str(&format!("    ProxyCommand {}\n", proxy_command(context, Some(Lane::Bulk))?));
    let names: Vec<String> = ssh_names.iter().map(|name| format!(" {name}")).collect();
    text.push_str(&format!("Host *{SSH_DOMAIN}{}\n", names.concat()));
    for (key, value) in options(context, &SshDefaults::default())? {
        text.push_str(&format!("    {key} {value}\n"));
    }
    Ok(text)
}

fn alias(name: &Name, known: &[&Name]) -> String {
    if known.contains(&name) { format!(" {name}") } else { String::new() }
}

/// The options that lead ssh through the fabric. The path up to the resource's network is
/// authenticated already, so a new host key is taken; a changed one is refused.
fn options(
    context: &Context,
    defaults: &SshDefaults,
) -> Result<Vec<(&'static str, String)>, Failure> {
    let known_hosts = context.config.home.join("known_hosts");
    let mut options = vec![
        ("ProxyCommand", proxy_command(context, None)?),
        ("UserKnownHostsFile", quoted(&known_hosts)),
        ("StrictHostKeyChecking", "accept-new".to_owned()),
        ("CheckHostIP", "no".to_owned()),
    ];
    if let Some(identity) = &defaults.identity {
        options.push(("IdentityFile", quoted(identity)));
        options.push(("IdentitiesOnly", "yes".to_owned()));
    }
    Ok(options)
}

fn defaults(context: &Context, resource: &Reference) -> SshDefaults {
    match resource {
        Reference::Name(name) => context.config.files.ssh.get(name).cloned().unwrap_or_default(),
        Reference::Id(_) => SshDefaults::default(),
    }
}

/// This very program, with what it needs to find the same login again from any shell.
fn proxy_command(context: &Context, lane: Option<Lane>) -> Result<String, Failure> {
    let program =
        env::current_exe().map_err(|error| Failure::io("this program is not found", &error))?;
    let mut words = Vec::new();
    if env::var_os("RAP_HOME").is_some() {
        let home = absolute(&context.config.home)?;
        words.push("env".to_owned());
        words.push(shell_word(&format!("RAP_HOME={}", home.display())));
    }
    words.push(shell_word(&program.display().to_string()));
    if context.config.profile.as_str() != "default" {
        words.push(format!("--profile {}", context.config.profile));
    }
    if let Some(organization) = context.config.organization() {
        words.push(format!("--organization {organization}"));
    }
    words.push(proxy_to_host(lane));
    Ok(words.join(" "))
}

fn proxy_to_host(lane: Option<Lane>) -> String {
    let lane = lane.map_or_else(String::new, |lane| format!(" --lane {lane}"));
    format!("proxy{lane} %h")
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::io("the folder is not found", &error))
}

/// A word for the shell that ssh hands the proxy command to; ssh expands percent signs before.
fn shell_word(text: &str) -> String {
    let text = text.replace('%', "%%");
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=+:%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// A file's name as ssh's configuration takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string().replace('%', "%%");
    if text.contains(' ') { format!("\"{text}\"") } else { text }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn shell_words_cannot_break_out() {
        assert_eq!(shell_word("/usr/bin/rap"), "/usr/bin/rap");
        assert_eq!(shell_word("/home/a b/rap"), "'/home/a b/rap'");
        assert_eq!(shell_word("/x/$(id)'"), r"'/x/$(id)'\'''");
        assert_eq!(shell_word("/100%/rap"), "/100%%/rap");
    }

    #[test]
    fn what_ssh_runs_is_a_command_that_leads_to_the_resource_on_its_lane() {
        for (lane, host) in [(None, "build-1.rap"), (Some(Lane::Bulk), "build-1.bulk.rap")] {
            let typed = format!("rap {}", proxy_to_host(lane).replace("%h", host));
            let cli = Cli::try_parse_from(typed.split(' ')).expect("a command");
            let Command::Proxy(proxy) = cli.command else { panic!("{typed}") };
            assert_eq!((proxy.lane, proxy.name.0.to_string()), (lane, "build-1".to_owned()));
        }
    }

    #[test]
    fn file_names_with_spaces_are_quoted() {
        assert_eq!(quoted(Path::new("/a b/known_hosts")), "\"/a b/known_hosts\"");
        assert_eq!(quoted(Path::new("/a/known_hosts")), "/a/known_hosts");
    }
}
