//! The user's guide does what it says: its blocks of commands run as they stand.

use std::{env, net::TcpListener, path::Path};

use crate::{
    dev::Fabric,
    program::{RAP, run},
};

const GUIDE: &str = include_str!("../../../docs/guide.md");
/// The port that the guide listens on; a test takes one that is free.
const PORT: &str = "8088";

#[test]
fn every_command_of_the_guide_works() {
    let fabric = Fabric::start(&[]);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let script = script(GUIDE, fabric.has_ssh()).replace(PORT, &free);
    assert!(script.contains("rap connect"), "the guide has blocks to run:\n{script}");
    let folder = Path::new(RAP).parent().unwrap();
    let path = format!("{}:{}", folder.display(), env::var("PATH").unwrap());
    let mut bash = fabric.alice().command("bash");
    let outcome = run(bash.env("PATH", path).args(["-euxo", "pipefail", "-c", &script]));
    assert_eq!(outcome.code, 0, "{}\n{}", outcome.stderr, outcome.stdout);
    assert!(outcome.stdout.contains("demo-web"), "{}", outcome.stdout);
}

/// The blocks marked `sh`, one behind the other. Those about SSH need a demo target for it.
fn script(guide: &str, with_ssh: bool) -> String {
    let mut script = String::from("trap 'kill $(jobs -p)' EXIT\n");
    for section in guide.split("\n## ") {
        if section.starts_with("Reach a machine by SSH") && !with_ssh {
            rap_skips::skip("a section of the guide", "no sshd is installed");
            continue;
        }
        let blocks = section.split("```sh\n").skip(1);
        let bodies = blocks.filter_map(|block| block.split_once("```").map(|(body, _)| body));
        bodies.for_each(|body| script.push_str(body));
    }
    script
}
