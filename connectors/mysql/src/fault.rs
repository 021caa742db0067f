//! What goes wrong with a server, and what to do about it.

use aqueduct_connect_api::Error;

use crate::binlog::reader::Malformed;
use crate::config::Settings;

/// A failure while reading.
#[derive(Debug)]
pub enum Fault {
    /// The connection is gone or the server is away: try again.
    Lost(Error),
    /// The server no longer has the binlog that comes next.
    Purged(Error),
    /// Trying again does not help.
    Fatal(Error),
}

impl Fault {
    pub fn into_error(self) -> Error {
        match self {
            Self::Lost(e) | Self::Purged(e) | Self::Fatal(e) => e,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        if error.is_retriable() { Self::Lost(error) } else { Self::Fatal(error) }
    }
}

/// A malformed event at a place of the binlog.
pub fn malformed(what: &str, place: &str, why: &Malformed) -> Fault {
    Fault::Fatal(Error::connect(format!(
        "{what} at {place} cannot be read: {why}; see event.processing.failure.handling.mode"
    )))
}

/// Server errors that pass by themselves: shutdown, too many connections, network trouble, kills, lock waits.
const PASSING: [u16; 22] = [
    1040, 1043, 1053, 1077, 1078, 1079, 1080, 1152, 1153, 1158, 1159, 1160, 1161, 1184, 1189, 1190, 1203,
    1205, 1213, 1927, 3169, 4031,
];

/// What the driver says, explained.
pub fn explain(settings: &Settings, doing: &str, error: mysql_async::Error) -> Fault {
    use mysql_async::Error as Driver;
    let address = settings.address();
    let user = &settings.user;
    let at = format!("{doing} at {address} as user '{user}' failed");
    match error {
        Driver::Server(e) => {
            let text = format!("error {} ({}): {}", e.code, e.state, e.message);
            match e.code {
                1044 | 1045 | 1698 => Fault::Fatal(Error::connect(format!(
                    "{at}: {text}; check database.user and database.password, and from which hosts the user may connect"
                ))),
                1142 | 1143 | 1227 => Fault::Fatal(Error::connect(format!(
                    "{at}: {text}; grant what is missing: SELECT, RELOAD, SHOW DATABASES, LOCK TABLES, REPLICATION SLAVE, \
                     REPLICATION CLIENT on *.*"
                ))),
                1236 | 1789 | 1950..=1959 | 4052 => binlog_fault(settings, &at, &text, &e.message),
                code if PASSING.contains(&code) => Fault::Lost(Error::retriable(format!("{at}: {text}"))),
                _ => Fault::Fatal(Error::connect(format!("{at}: {text}"))),
            }
        }
        Driver::Io(e) => {
            let hint = if e.to_string().to_ascii_lowercase().contains("certificate") {
                "; see database.ssl.mode and database.ssl.truststore"
            } else {
                ""
            };
            Fault::Lost(Error::retriable(format!("{at}{hint}: {e}")).caused_by(e))
        }
        Driver::Driver(mysql_async::DriverError::NoClientSslFlagFromServer) => {
            Fault::Fatal(Error::connect(format!(
                "{at}: the server does not encrypt, and database.ssl.mode demands it: enable TLS there, or choose \
                 disabled (MySQL) or disable (MariaDB)"
            )))
        }
        Driver::Driver(
            e @ (mysql_async::DriverError::ConnectionClosed
            | mysql_async::DriverError::PoolDisconnected
            | mysql_async::DriverError::PacketOutOfOrder
            | mysql_async::DriverError::UnexpectedPacket { .. }),
        ) => Fault::Lost(Error::retriable(format!("{at}: {e}"))),
        e => Fault::Fatal(Error::connect(format!("{at}: {e}"))),
    }
}

fn binlog_fault(settings: &Settings, at: &str, text: &str, message: &str) -> Fault {
    let lower = message.to_ascii_lowercase();
    if lower.contains("same server_uuid")
        || lower.contains("same server_id")
        || lower.contains("same server id")
    {
        return Fault::Fatal(Error::connect(format!(
            "{at}: {text}; another replica or connector reads with database.server.id={}: give each its own",
            settings.server_id
        )));
    }
    Fault::Purged(Error::connect(format!(
        "{at}: {text}; the server no longer has the binlog from the stored offset on, so changes are missing. Keep \
         binlogs longer (binlog_expire_logs_seconds, expire_logs_days). To go on, reset the connector's offsets, which \
         takes a new snapshot, or set snapshot.mode=when_needed"
    )))
}
