//! Asking a server for its binlog.

use std::time::Duration;

use aqueduct_connect_api::Error;
use mysql_async::{BinlogStream, BinlogStreamRequest, Sid};

use crate::config::Settings;
use crate::fault::{Fault, explain};
use crate::gtid::GtidSet;
use crate::offset::Restart;
use crate::server::{Facts, connect, run};

/// Opens the stream at `restart`: by transaction ids where there are any and the server knows them, else by file and
/// position. The server reports in every `sign_of_life` when it has nothing to send.
pub async fn open(
    settings: &Settings,
    facts: &Facts,
    restart: &Restart,
    sign_of_life: Duration,
) -> Result<BinlogStream, Fault> {
    let mut conn = connect(settings).await?;
    let nanos = sign_of_life.as_nanos();
    run(
        &mut conn,
        settings,
        &format!("SET @master_heartbeat_period = {nanos}, @source_heartbeat_period = {nanos}"),
    )
    .await?;
    let gtids = match restart.gtids.as_deref().map(GtidSet::parse) {
        Some(Ok(set)) if facts.has_gtids() && !set.is_empty() && !set.has_tags() => Some(set),
        Some(Err(bad)) => {
            return Err(Fault::Fatal(Error::connect(format!(
                "the stored offset has gtids with \"{}\", which is no transaction id: reset the connector's offsets",
                bad.0
            ))));
        }
        _ => None,
    };
    let mut request = BinlogStreamRequest::new(settings.server_id);
    let sids: Vec<Sid<'_>>;
    if facts.mariadb {
        // Without this the server hides transaction ids from us.
        run(&mut conn, settings, "SET @mariadb_slave_capability = 4").await?;
    }
    match &gtids {
        Some(set @ GtidSet::MariaDb(_)) if facts.mariadb => {
            let state = format!(
                "SET @slave_connect_state = '{set}', @slave_gtid_strict_mode = 0, @slave_gtid_ignore_duplicates = 0"
            );
            run(&mut conn, settings, &state).await?;
            request = request.with_pos(4);
        }
        Some(set @ GtidSet::MySql(_)) if !facts.mariadb => {
            sids = set.to_string().split(',').filter_map(|sid| sid.parse().ok()).collect();
            request = request.with_gtid().with_pos(4).with_gtid_set(sids);
        }
        _ => {
            request = request.with_filename(restart.file.as_bytes()).with_pos(restart.position.max(4));
        }
    }
    conn.get_binlog_stream(request).await.map_err(|e| explain(settings, "asking for the binlog", e))
}
