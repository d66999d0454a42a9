//! One target under libFuzzer: `RAP_FUZZ_TARGET=<name> rap-fuzz <libFuzzer's arguments>`.

#![no_main]

use std::{alloc::System, sync::OnceLock};

use cap::Cap;
use rap_fuzz::Target;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

static TARGET: OnceLock<&Target> = OnceLock::new();

fn chosen() -> &'static Target {
    TARGET.get_or_init(|| {
        let name = std::env::var("RAP_FUZZ_TARGET").unwrap_or_default();
        rap_fuzz::find(&name).unwrap_or_else(|| {
            let known: Vec<_> = rap_fuzz::TARGETS.iter().map(|target| target.name).collect();
            eprintln!("RAP_FUZZ_TARGET is {name:?}; the targets are: {}", known.join(" "));
            std::process::exit(2);
        })
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let target = chosen();
    let before = ALLOCATOR.total_allocated();
    (target.run)(data);
    let spent = ALLOCATOR.total_allocated() - before;
    let bound = target.allocation_bound(data.len());
    assert!(spent <= bound, "{} bytes of input allocated {spent}, above {bound}", data.len());
});
