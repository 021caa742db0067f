//! A shop in SQLite, polled by the JDBC source.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Map, Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool};
use sqlx::{Row as _, query};

use super::{Order, Table, object, setting};

/// A SQLite database with one table.
pub struct Shop {
    path: PathBuf,
    pool: SqlitePool,
}

/// Rounds up so that a change is never stamped in a millisecond that the connector has read already.
const NOW: &str = "strftime('%Y-%m-%d %H:%M:%f', 'now')";

impl Shop {
    pub async fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("shop.db");
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal);
        let pool = SqlitePool::connect_with(options).await?;
        let create = "CREATE TABLE orders (id INTEGER PRIMARY KEY NOT NULL, customer TEXT NOT NULL, cents INTEGER NOT NULL, \
                      status TEXT NOT NULL, updated_at TIMESTAMP NOT NULL)";
        query(create).execute(&pool).await?;
        Ok(Self { path, pool })
    }

    pub fn table(&self) -> String {
        "orders (SQLite)".to_owned()
    }

    pub fn connector(&self) -> Map<String, Value> {
        object(json!({
            "connector.class": "io.confluent.connect.jdbc.JdbcSourceConnector",
            "connection.url": setting(&format!("jdbc:sqlite:{}", self.path.display())),
            "mode": "timestamp+incrementing",
            "timestamp.column.name": "updated_at",
            "incrementing.column.name": "id",
            "table.whitelist": "orders",
            "topic.prefix": "demo-",
            "poll.interval.ms": "200",
            "transforms": "key",
            "transforms.key.type": "org.apache.kafka.connect.transforms.ValueToKey",
            "transforms.key.fields": "id",
        }))
    }

    pub async fn insert(&self, ids: RangeInclusive<i64>) -> Result<()> {
        let mut transaction = self.pool.begin().await?;
        let insert = format!("INSERT INTO orders VALUES (?, ?, ?, 'new', {NOW})");
        for id in ids {
            query(sqlx::AssertSqlSafe(insert.as_str()))
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
        let update = format!(
            "UPDATE orders SET status = 'paid', cents = cents + 1, updated_at = {NOW} WHERE id % 4 = 0"
        );
        let changed = query(sqlx::AssertSqlSafe(update)).execute(&self.pool).await?.rows_affected();
        Ok(format!("{more} rows were added and {changed} changed"))
    }

    pub async fn rows(&self) -> Result<Table> {
        let rows = query("SELECT id, customer, cents, status FROM orders").fetch_all(&self.pool).await?;
        let order = |row: &sqlx::sqlite::SqliteRow| Order {
            customer: row.get(1),
            cents: row.get(2),
            status: row.get(3),
        };
        Ok(rows.iter().map(|row| (row.get(0), order(row))).collect())
    }
}
