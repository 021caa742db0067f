//! A shop in MySQL or MariaDB, captured from the binlog.

use std::ops::RangeInclusive;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};
use sqlx::mysql::{MySqlPool, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, Row as _, query};
use url::Url;

use super::{Order, Table, object, setting};

const TABLE: &str = "aqueduct_demo_orders";

/// A table of the demo's own in a database of the user's.
pub struct Shop {
    url: Url,
    database: String,
    /// Sets this run's topic apart from another's.
    run: String,
    pool: MySqlPool,
}

impl Shop {
    pub async fn open(url: &Url, run: &str) -> Result<Self> {
        let database = url.path().trim_matches('/').to_owned();
        if !matches!(url.scheme(), "mysql" | "mariadb") || database.is_empty() || url.host_str().is_none() {
            bail!("--mysql must look like mysql://USER:PASSWORD@HOST:3306/DATABASE");
        }
        let pool = MySqlPoolOptions::new().max_connections(2).connect(url.as_str()).await;
        let place = format!("{}:{}", url.host_str().unwrap_or_default(), url.port().unwrap_or(3306));
        let pool =
            pool.with_context(|| format!("cannot connect to MySQL at {place}, database {database}"))?;
        query(AssertSqlSafe(format!("DROP TABLE IF EXISTS {TABLE}"))).execute(&pool).await?;
        let create = format!(
            "CREATE TABLE {TABLE} (id BIGINT PRIMARY KEY, customer VARCHAR(100) NOT NULL, cents BIGINT NOT NULL, \
             status VARCHAR(20) NOT NULL)"
        );
        query(AssertSqlSafe(create)).execute(&pool).await?;
        Ok(Self { url: url.clone(), database, run: run.to_owned(), pool })
    }

    pub fn table(&self) -> String {
        format!("{}.{TABLE} (MySQL)", self.database)
    }

    fn prefix(&self) -> String {
        format!("demo-{}", self.run)
    }

    pub fn topic(&self) -> String {
        format!("{}.{}.{TABLE}", self.prefix(), self.database)
    }

    pub fn connector(&self) -> Map<String, Value> {
        object(json!({
            "connector.class": "io.debezium.connector.mysql.MySqlConnector",
            "database.hostname": self.url.host_str().unwrap_or_default(),
            "database.port": setting(&self.url.port().unwrap_or(3306)),
            "database.user": decoded(self.url.username()),
            "database.password": decoded(self.url.password().unwrap_or_default()),
            "database.server.id": setting(&(1_000_000 + std::process::id())),
            "topic.prefix": self.prefix(),
            "table.include.list": format!("{}.{TABLE}", self.database),
            "include.schema.changes": "false",
            "schema.history.internal.kafka.topic": format!("{}-history", self.prefix()),
            "transforms": "row",
            "transforms.row.type": "io.debezium.transforms.ExtractNewRecordState",
            "transforms.row.delete.tombstone.handling.mode": "delete-to-tombstone",
        }))
    }

    pub async fn insert(&self, ids: RangeInclusive<i64>) -> Result<()> {
        let mut transaction = self.pool.begin().await?;
        let insert = format!("INSERT INTO {TABLE} VALUES (?, ?, ?, 'new')");
        for id in ids {
            query(AssertSqlSafe(insert.as_str()))
                .bind(id)
                .bind(format!("customer {}", id % 97))
                .bind(id * 7 % 10_000)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    pub async fn change(&self, rows: i64) -> Result<String> {
        let more = rows / 10;
        self.insert(rows + 1..=rows + more).await?;
        let run = async |sql: String| {
            query(AssertSqlSafe(sql)).execute(&self.pool).await.map(|r| r.rows_affected())
        };
        let changed =
            run(format!("UPDATE {TABLE} SET status = 'paid', cents = cents + 1 WHERE id % 4 = 0")).await?;
        let deleted = run(format!("DELETE FROM {TABLE} WHERE id % 10 = 7")).await?;
        Ok(format!("{more} rows were added, {changed} changed and {deleted} deleted"))
    }

    pub async fn rows(&self) -> Result<Table> {
        let select = format!("SELECT id, customer, cents, status FROM {TABLE}");
        let rows = query(AssertSqlSafe(select)).fetch_all(&self.pool).await?;
        let order = |row: &sqlx::mysql::MySqlRow| Order {
            customer: row.get(1),
            cents: row.get(2),
            status: row.get(3),
        };
        Ok(rows.iter().map(|row| (row.get(0), order(row))).collect())
    }
}

/// Undoes the URL's percent escapes.
fn decoded(text: &str) -> String {
    url::form_urlencoded::parse(format!("v={}", text.replace('+', "%2B")).as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}
