//! What an agent costs its host while nobody uses it; of the three nodes the one that costs most.

use std::time::{Duration, Instant};

use rap_e2e::{Fabric, NODES, cpu_seconds, resident_bytes};
use tokio::time::sleep;

use crate::{figure, skipped};

pub(crate) const FIGURES: &[&str] = &["agent_idle_memory", "agent_idle_cpu"];

/// How long nothing happens before.
const RESTS: Duration = Duration::from_secs(20);
const SPAN: Duration = Duration::from_secs(10);

pub(crate) async fn measure(fabric: &Fabric) {
    sleep(RESTS).await;
    match over(fabric, SPAN).await {
        Ok((memory, cpu)) => {
            figure("agent_idle_memory", memory, "MB");
            figure("agent_idle_cpu", cpu, "% of a core");
        }
        Err(reason) => skipped(FIGURES, &reason.to_string()),
    }
}

/// The most memory, in MB, and the largest share of a core, in percent.
async fn over(fabric: &Fabric, span: Duration) -> std::io::Result<(f64, f64)> {
    let agents = NODES.map(|space| fabric.agent_process(space));
    let begun = Instant::now();
    let mut before = Vec::new();
    for agent in agents {
        before.push(cpu_seconds(agent)?);
    }
    sleep(span).await;
    let (mut memory, mut cpu) = (0.0_f64, 0.0_f64);
    for (agent, before) in agents.into_iter().zip(before) {
        let used = cpu_seconds(agent)? - before;
        cpu = cpu.max(used / begun.elapsed().as_secs_f64() * 100.0);
        memory = memory.max(resident_bytes(agent)? / 1e6);
    }
    Ok((memory, cpu))
}
