//! The address of the database to the settings of a connection: encrypted and verified, or a socket of this machine.

use std::net::IpAddr;
use std::str::FromStr as _;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host, SslMode, TargetSessionAttrs};

/// How long a connection that is idle may be dead before the system notices.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// How long sent bytes may stay unacknowledged: the way out of a black hole.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// Why a text is not the address of a database. Never repeats the text: a password may stand in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlFault {
    /// It names no database.
    #[error("names no database; write postgres://user:password@host/database")]
    DatabaseMissing,
    /// It names no host.
    #[error("names no host; write postgres://user:password@host/database, or host=/run/postgresql for a socket")]
    HostMissing,
    /// It cannot be read.
    #[error("is no address of a PostgreSQL database; write postgres://user:password@host/database")]
    Malformed,
    /// It would go over a network in the clear, or to a server that nobody vouches for.
    #[error(
        "asks for a connection that is not encrypted and verified; sslmode is `verify-full`, or `disable` for a socket or address of this machine"
    )]
    NotVerified,
}

/// Reads `postgres://…` or `host=… user=… dbname=…` (RFC 3986 escapes in the first form), as libpq does.
///
/// # Errors
/// [`UrlFault`].
pub(super) fn parse(text: &str) -> Result<Config, UrlFault> {
    let text = text.trim();
    // libpq's name for what is done here anyway, and which the library below does not know.
    let known = text.replace("sslmode=verify-full", "sslmode=require");
    if known.contains("sslmode=verify-ca") || known.contains("sslmode=allow") {
        return Err(UrlFault::NotVerified);
    }
    let mut config = Config::from_str(&known).map_err(|_| UrlFault::Malformed)?;
    if config.get_dbname().is_none() {
        return Err(UrlFault::DatabaseMissing);
    }
    if config.get_hosts().is_empty() {
        return Err(UrlFault::HostMissing);
    }
    let mode = match config.get_ssl_mode() {
        _ if config.get_hosts().iter().all(is_socket) => SslMode::Disable,
        SslMode::Disable if is_of_this_machine(&config) => SslMode::Disable,
        SslMode::Disable => return Err(UrlFault::NotVerified),
        _ => SslMode::Require,
    };
    config.ssl_mode(mode);
    if mode == SslMode::Require && config.get_channel_binding() == ChannelBinding::Disable {
        config.channel_binding(ChannelBinding::Prefer);
    }
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    config.application_name("certbind").keepalives_idle(KEEPALIVE).tcp_user_timeout(UNACKNOWLEDGED);
    Ok(config)
}

fn is_socket(host: &Host) -> bool {
    matches!(host, Host::Unix(_))
}

fn is_of_this_machine(config: &Config) -> bool {
    let is_loopback = |host: &Host| match host {
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback()),
        Host::Unix(_) => true,
    };
    config.get_hosts().iter().all(is_loopback) && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_62_a_database_elsewhere_is_reached_encrypted_and_verified_or_not_at_all() {
        for (url, mode) in [
            ("postgres://u:p@db.example/c", Ok(SslMode::Require)),
            ("postgres://u:p@db.example/c?sslmode=prefer", Ok(SslMode::Require)),
            ("postgres://u:p@db.example/c?sslmode=require", Ok(SslMode::Require)),
            ("postgres://u:p@db.example/c?sslmode=verify-full", Ok(SslMode::Require)),
            ("postgres://u:p@db.example,other.example/c", Ok(SslMode::Require)),
            ("host=db.example user=u dbname=c sslmode=verify-full", Ok(SslMode::Require)),
            ("postgres://u:p@127.0.0.1/c", Ok(SslMode::Require)),
            ("postgres://u:p@127.0.0.1/c?sslmode=disable", Ok(SslMode::Disable)),
            ("postgres://u:p@[::1]/c?sslmode=disable", Ok(SslMode::Disable)),
            ("host=/run/postgresql user=u dbname=c", Ok(SslMode::Disable)),
            ("postgres://u:p@db.example/c?sslmode=disable", Err(UrlFault::NotVerified)),
            ("postgres://u:p@127.0.0.1,db.example/c?sslmode=disable", Err(UrlFault::NotVerified)),
            ("host=localhost hostaddr=192.0.2.1 user=u dbname=c sslmode=disable", Err(UrlFault::NotVerified)),
            ("postgres://u:p@db.example/c?sslmode=verify-ca", Err(UrlFault::NotVerified)),
            ("postgres://u:p@db.example/c?sslmode=allow", Err(UrlFault::NotVerified)),
            ("postgres://u:p@db.example", Err(UrlFault::DatabaseMissing)),
            ("user=u dbname=c", Err(UrlFault::HostMissing)),
            ("mysql://u:p@db.example/c", Err(UrlFault::Malformed)),
            ("postgres://u:p@db.example/c?sslmod=require", Err(UrlFault::Malformed)),
        ] {
            assert_eq!(parse(url).map(|config| config.get_ssl_mode()), mode, "{url}");
        }
    }
}
