//! The log on a server that is reached over TLS, as one on another machine is.

use std::net::{IpAddr, Ipv4Addr};

use rap_events::Log as _;
use rap_log_postgres::{
    ConnectError, PostgresLog,
    private::{Durability, Listen, PrivatePostgres},
};
use rap_pki::{ClusterAuthority, pem};
use rap_proto::{ClusterId, Signer as _, Timestamp, key::LocalKey};
use tempfile::TempDir;

use crate::support::{append, execute};

const PASSWORD: &str = "canary-database-password";

struct Encrypted {
    postgres: PrivatePostgres,
    files: TempDir,
    _folder: TempDir,
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap())
}

fn authority(seed: u8) -> ClusterAuthority {
    let key = LocalKey::from_random(&[seed; 32]).unwrap();
    ClusterAuthority::create(ClusterId::from_u128(seed.into()), &key, [seed; 16], now())
}

/// Addresses of this process alone, so that the port is free: the certificate is for the first.
fn own_addresses() -> [IpAddr; 2] {
    let [.., high, low] = std::process::id().to_be_bytes();
    [91, 92].map(|second| Ipv4Addr::new(127, second, high, low.max(1)).into())
}

impl Encrypted {
    async fn start() -> Self {
        let key = LocalKey::from_random(&[9; 32]).unwrap();
        let names = [own_addresses()[0].to_string()];
        let hour = std::time::Duration::from_secs(3600);
        let ca = authority(1);
        let leaf = ca.issue_server(&names, &key.public_key(), [2; 16], now(), hour).unwrap();
        let listen = Listen {
            addresses: own_addresses().to_vec(),
            certificates: pem::encode([&*leaf, ca.certificate_der()]),
            key: key.to_pem().to_string(),
            password: PASSWORD.to_owned(),
        };
        let (folder, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let postgres = PrivatePostgres::start_with(folder.path(), Durability::Fast, Some(listen));
        Self { postgres: postgres.await.unwrap(), files, _folder: folder }
    }

    /// The URL of somebody who trusts the authority of this number, and nobody else.
    fn url(&self, host: IpAddr, number: u8) -> String {
        let path = self.files.path().join(format!("ca-{number}.pem"));
        std::fs::write(&path, pem::encode([authority(number).certificate_der()])).unwrap();
        let path = path.display();
        format!("postgres://rap:{PASSWORD}@{host}/rap?sslmode=verify-full&sslrootcert={path}")
    }
}

#[tokio::test]
async fn a_server_that_proves_itself_is_used_and_no_other() {
    let server = Encrypted::start().await;
    let [host, elsewhere] = own_addresses();
    let log = PostgresLog::connect(&server.url(host, 1)).await.unwrap();
    let done = log.append(append(1)).await.unwrap();
    // The tail has its own connection, and hears of what another process appends.
    let other = PostgresLog::connect(&server.url(host, 1)).await.unwrap();
    other.append(append(2)).await.unwrap();
    assert_eq!(log.wait_beyond(done.last).await.unwrap(), done.last + 1);
    let ways = "SELECT DISTINCT ssl::text FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                WHERE application_name LIKE 'rap-control%'";
    assert_eq!(execute(&server.postgres.url(), ways).await, ["true"]);

    let error = PostgresLog::connect(&server.url(host, 2)).await.unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, ConnectError::Unavailable(_)), "{error:?}");
    assert!(said.contains("certificate") && !said.contains(PASSWORD), "{said}");
    let error = PostgresLog::connect(&server.url(elsewhere, 1)).await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "the certificate is for another address: {error}");
    log.close().await;
    other.close().await;
    server.postgres.stop().await;
}
