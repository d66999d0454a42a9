//! Nodes that hear no quorum for so long that they are isolated. They count five minutes and a half by
//! the clock of their host, which is too long for every run.

use std::time::Duration;

use rap_e2e::{Fabric, PAGE, Process, Space, Talk, until};

use super::{PATIENCE, SECOND, all_healthy, carries, echoes, forward, standing, state_of, step};

/// How often nodes become isolated.
const ROUNDS_VARIABLE: &str = "RAP_ISOLATION_ROUNDS";
/// A beat ends after 30 s at most, and a node is isolated five minutes after that.
const ISOLATED: Duration = Duration::from_secs(360);
/// A connection that is carried all the time.
const CONNECTION: &str = "lasting";

/// What began while there was a quorum.
pub(super) struct Open {
    /// A session to the office's web server, and where it listens. Each request opens a channel.
    web: Process,
    url: String,
}

impl Open {
    pub(super) async fn set(fabric: &Fabric) -> Self {
        let words =
            ["vpn", "create", CONNECTION, "--class", "fast", "--node", "egress", "--enable"];
        fabric.ada.rap(&words).await.ok();
        carries(fabric, CONNECTION, true).await;
        Self::again(fabric).await
    }

    async fn again(fabric: &Fabric) -> Self {
        let (web, url) = forward(fabric, "demo-web").await;
        Self { web, url }
    }

    /// One replica is left, and nodes are degraded: what was authorized before goes on and begins.
    pub(super) async fn is_degraded(&self, fabric: &Fabric) {
        assert_eq!(self.get(fabric).await.ok(), PAGE);
        assert_eq!(state_of(fabric, CONNECTION).await.as_deref(), Some("active"));
    }

    /// The same until nodes are isolated, and then until there is a quorum again; as often as the run
    /// wants it. Returns how often.
    pub(super) async fn are_isolated(&mut self, fabric: &mut Fabric, kept: &mut Talk) -> usize {
        let rounds = std::env::var(ROUNDS_VARIABLE).ok().map(|rounds| rounds.parse().unwrap());
        let rounds = rounds.unwrap_or(0);
        for _ in 0..rounds {
            step("nodes are left alone");
            self.is_degraded(fabric).await;
            until("the entry is isolated", ISOLATED, async || {
                echoes(kept, "left alone").await;
                let status = fabric.agent_status(Space::Entry).await?;
                status["authority"]["standing"].get("isolated").map(drop)
            })
            .await;
            standing(fabric, "isolated").await;
            self.is_isolated(fabric).await;
            echoes(kept, "isolated").await;

            step("they hear a quorum, and none again");
            fabric.start_replica(SECOND).await;
            all_healthy(fabric).await;
            *self = Self::again(fabric).await;
            assert_eq!(self.get(fabric).await.ok(), PAGE);
            carries(fabric, CONNECTION, true).await;
            fabric.kill_replica(SECOND).await;
            standing(fabric, "degraded").await;
        }
        rounds
    }

    /// Nothing begins, also within a session that was there before, and no lease is held, although
    /// control without a quorum went on renewing it.
    async fn is_isolated(&mut self, fabric: &Fabric) {
        carries(fabric, CONNECTION, false).await;
        let answer = self.get(fabric).await;
        assert_ne!(answer.code, 0, "{answer}");
        let refused = |line: &str| line.contains("authority_lost").then_some(());
        self.web.says("why nothing begins", PATIENCE, refused).await;
    }

    async fn get(&self, fabric: &Fabric) -> rap_e2e::Run {
        let page = ["-sS", "--max-time", "20", &format!("{}/", self.url)].map(str::to_owned);
        fabric.alice.run("curl", &page).await
    }
}
