//! A second server that follows the first one, for tests of what a failover loses.

use std::{fs, path::Path, process::Command};

use tokio_postgres::types::FromSqlOwned;

use super::{Durability, PrivateError, PrivatePostgres, USER, folder};

impl PrivatePostgres {
    /// Starts a standby of this server in an empty folder of its own. It follows asynchronously: no
    /// commit waits for it, and nobody can write to it.
    pub async fn start_standby(&self, dir: &Path) -> Result<Self, PrivateError> {
        self.let_standbys_in().await?;
        let mut standby = Self::in_folder(dir, self.durability, None)?;
        let mut command = Command::new(self.programs.basebackup());
        command.arg("--host").arg(&self.socket).args(["--username", USER]);
        command.arg("--pgdata").arg(standby.data());
        command.args(["--write-recovery-conf", "--checkpoint=fast"]);
        if self.durability == Durability::Fast {
            command.arg("--no-sync");
        }
        standby.run("pg_basebackup", command).await?;
        standby.launch().await?;
        Ok(standby)
    }

    /// Makes a standby the server that is written to, on a timeline of its own, with what has
    /// reached it.
    pub async fn promote(&self) -> Result<(), PrivateError> {
        if self.answer("SELECT pg_promote()").await? {
            return Ok(());
        }
        Err(PrivateError::NoAnswer("the standby was not promoted in time".to_owned()))
    }

    /// How far the server has written, in PostgreSQL's own words.
    pub async fn position(&self) -> Result<String, PrivateError> {
        self.answer("SELECT pg_current_wal_flush_lsn()::text").await
    }

    /// Whether a standby has taken in all that the server had written at a [`Self::position`].
    pub async fn has_reached(&self, position: &str) -> Result<bool, PrivateError> {
        self.answer(&format!("SELECT pg_last_wal_replay_lsn() >= '{position}'")).await
    }

    /// A standby runs as this server's own account, and copies as it.
    async fn let_standbys_in(&self) -> Result<(), PrivateError> {
        let ident = format!("here {} {USER}\n", self.account.name());
        let hba = format!("local replication {USER} peer map=here\n");
        for (name, line) in [("pg_ident.conf", ident), ("pg_hba.conf", hba)] {
            let path = self.data().join(name);
            let before = fs::read_to_string(&path).map_err(folder("cannot read", &path))?;
            self.account.write_file(&path, &(before + &line))?;
        }
        self.answer::<bool>("SELECT pg_reload_conf()").await.map(drop)
    }

    /// The one value that a statement returns.
    async fn answer<T: FromSqlOwned>(&self, statement: &str) -> Result<T, PrivateError> {
        let row = self.administrator().await?.query_one(statement, &[]).await;
        let value = row.and_then(|row| row.try_get(0));
        value.map_err(|error| PrivateError::NoAnswer(error.to_string()))
    }
}
