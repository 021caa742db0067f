//! `aqueduct demo`: the main job end to end. Rows of a database are captured into a topic, and from there written to a
//! sink that a person can open; at the end the two must hold the same.

mod elasticsearch;
mod file;
mod mysql;
mod rest;
mod sqlite;
mod story;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use url::Url;

use crate::dev::{Addresses, Services};
use crate::logging::Levels;
use rest::Rest;

#[derive(clap::Args)]
pub struct Args {
    /// Rows to write.
    #[arg(long, default_value_t = 2000)]
    rows: u32,
    /// Capture changes from this MySQL or MariaDB server instead of SQLite: mysql://USER:PASSWORD@HOST:PORT/DATABASE.
    /// The demo makes and fills a table of its own there, `aqueduct_demo_orders`.
    #[arg(long, value_name = "URL")]
    mysql: Option<Url>,
    /// Write into this Elasticsearch or OpenSearch instead of a file: http://HOST:PORT, or
    /// http://USER:PASSWORD@HOST:PORT.
    /// The demo uses an index of its own there.
    #[arg(long, value_name = "URL")]
    elasticsearch: Option<Url>,
    /// End when the counts agree, even at a terminal.
    #[arg(long)]
    exit: bool,
}

/// One row of the table, as it must arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub customer: String,
    pub cents: i64,
    pub status: String,
}

/// What the table holds at the end, by id.
pub type Table = std::collections::BTreeMap<i64, Order>;

/// Where rows come from.
enum Source {
    Sqlite(sqlite::Shop),
    Mysql(mysql::Shop),
}

/// Where they go.
enum Sink {
    File(file::Lines),
    Elasticsearch(elasticsearch::Index),
}

/// Runs the demo.
pub async fn run(args: Args, levels: Levels) -> Result<()> {
    let dir = TempDir::with_prefix("aqueduct-demo-")?;
    let started = Instant::now();
    let services = Services::start(dir.path(), Addresses::free_where_taken()?, levels).await?;
    println!("Aqueduct demo, everything in {}", dir.path().display());
    println!(
        "  broker on {}, Connect on http://{}, up after {} ms",
        services.kafka(),
        services.connect(),
        started.elapsed().as_millis()
    );
    let result = job(&args, &services, dir.path().to_owned()).await;
    if result.is_ok() && !args.exit && std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        println!("\nAll of it keeps running until you press Enter.");
        let _ = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await;
    }
    services.stop().await;
    result
}

async fn job(args: &Args, services: &Services, dir: PathBuf) -> Result<()> {
    let rest = Rest::new(services.connect());
    let run = format!("{:08x}", std::process::id());
    let source = match &args.mysql {
        Some(url) => Source::Mysql(mysql::Shop::open(url, &run).await?),
        None => Source::Sqlite(sqlite::Shop::open(&dir).await?),
    };
    let sink = match &args.elasticsearch {
        Some(url) => Sink::Elasticsearch(elasticsearch::Index::new(url, &run)?),
        None => Sink::File(file::Lines::new(&dir)),
    };
    let story = story::Story::begin(&services.kafka())?;
    story.say(&format!("{} rows go into table {}", args.rows, source.table()));
    source.insert(1..=args.rows.into()).await?;

    let topic = source.topic();
    rest.put_connector("demo-source", &source.connector()).await?;
    rest.put_connector("demo-sink", &sink.connector(&topic)).await?;
    story.say("two connectors were PUT to the Connect REST API: demo-source and demo-sink");
    let wait = Wait { rest: &rest, story: &story, sink: &sink, topic: &topic };
    wait.until(&source.rows().await?).await?;
    story.say("the sink holds every row; now some change while it all runs");

    let changed = source.change(args.rows.into()).await?;
    story.say(&changed);
    let table = source.rows().await?;
    wait.until(&table).await?;
    let records = wait.records().await?;

    println!("\n  rows in {:<38} {:>8}", source.table(), table.len());
    println!("  records in topic {:<29} {records:>8}   (one for each version of a row)", topic);
    println!("  {:<46} {:>8}", sink.describe(), sink.read().await?.len());
    println!("  the counts agree, and so does every row ({} s)\n", story.seconds());
    next_steps(args, services, &source, &sink, &topic);
    Ok(())
}

/// Waits until the sink holds what the table holds.
struct Wait<'a> {
    rest: &'a Rest,
    story: &'a story::Story,
    sink: &'a Sink,
    topic: &'a str,
}

impl Wait<'_> {
    async fn until(&self, table: &Table) -> Result<()> {
        let from = Instant::now();
        let mut shown = Instant::now();
        loop {
            let arrived = self.sink.read().await?;
            if arrived == *table {
                return Ok(());
            }
            self.rest.check("demo-source").await?;
            self.rest.check("demo-sink").await?;
            if shown.elapsed() > Duration::from_millis(500) {
                shown = Instant::now();
                self.story.say(&format!(
                    "{} records in the topic, {} rows in the sink",
                    self.records().await?,
                    arrived.len()
                ));
            }
            if from.elapsed() > Duration::from_secs(120) {
                bail!(
                    "after two minutes the sink holds {} rows and the table {}; the connectors are running, so look at \
                     the log with RUST_LOG=info",
                    arrived.len(),
                    table.len()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn records(&self) -> Result<i64> {
        self.story.records(self.topic).await
    }
}

impl Source {
    fn table(&self) -> String {
        match self {
            Self::Sqlite(shop) => shop.table(),
            Self::Mysql(shop) => shop.table(),
        }
    }

    fn topic(&self) -> String {
        match self {
            Self::Sqlite(_) => "demo-orders".to_owned(),
            Self::Mysql(shop) => shop.topic(),
        }
    }

    fn connector(&self) -> Map<String, Value> {
        match self {
            Self::Sqlite(shop) => shop.connector(),
            Self::Mysql(shop) => shop.connector(),
        }
    }

    async fn insert(&self, ids: std::ops::RangeInclusive<i64>) -> Result<()> {
        match self {
            Self::Sqlite(shop) => shop.insert(ids).await,
            Self::Mysql(shop) => shop.insert(ids).await,
        }
    }

    /// Adds and changes rows, and deletes some where the capture sees deletes; says what was done.
    async fn change(&self, rows: i64) -> Result<String> {
        match self {
            Self::Sqlite(shop) => shop.change(rows).await,
            Self::Mysql(shop) => shop.change(rows).await,
        }
    }

    async fn rows(&self) -> Result<Table> {
        match self {
            Self::Sqlite(shop) => shop.rows().await,
            Self::Mysql(shop) => shop.rows().await,
        }
    }
}

impl Sink {
    fn describe(&self) -> String {
        match self {
            Self::File(lines) => format!("orders in {}", lines.path().display()),
            Self::Elasticsearch(index) => format!("documents in index {}", index.name()),
        }
    }

    fn connector(&self, topic: &str) -> Map<String, Value> {
        match self {
            Self::File(lines) => lines.connector(topic),
            Self::Elasticsearch(index) => index.connector(topic),
        }
    }

    async fn read(&self) -> Result<Table> {
        match self {
            Self::File(lines) => lines.read(),
            Self::Elasticsearch(index) => index.read().await,
        }
    }
}

/// A JSON object out of `json!({...})`.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => unreachable!("{other} is written as an object"),
    }
}

/// One order out of a document that arrived.
fn order(document: &Value) -> Result<(i64, Order)> {
    let text = |name: &str| {
        document[name].as_str().map(str::to_owned).with_context(|| format!("no {name} in {document}"))
    };
    let number = |name: &str| document[name].as_i64().with_context(|| format!("no {name} in {document}"));
    Ok((
        number("id")?,
        Order { customer: text("customer")?, cents: number("cents")?, status: text("status")? },
    ))
}

fn next_steps(args: &Args, services: &Services, source: &Source, sink: &Sink, topic: &str) {
    let connect = services.connect();
    println!(
        "Look at it while it runs (at a terminal the demo waits for you; `aqueduct dev` keeps it running):"
    );
    println!("  curl http://{connect}/connectors?expand=status");
    println!("  curl http://{connect}/connectors/demo-source/config");
    println!("  curl http://{connect}/connector-plugins");
    match sink {
        Sink::File(lines) => println!("  less {}", lines.path().display()),
        Sink::Elasticsearch(index) => println!("  curl {}", index.search_url()),
    }
    println!(
        "  kafka-console-consumer.sh --bootstrap-server {} --topic {topic} --from-beginning",
        services.kafka()
    );
    if args.mysql.is_none() || args.elasticsearch.is_none() {
        println!("The same with a real MySQL or MariaDB and Elasticsearch:");
        println!(
            "  aqueduct demo --mysql mysql://USER:PASSWORD@HOST:3306/DATABASE --elasticsearch http://HOST:9200"
        );
    } else {
        println!(
            "To capture your own tables, PUT the connector's configuration with another table.include.list; {} may go.",
            source.table()
        );
    }
    let _ = std::io::stdout().flush();
}

/// Text that `json!` made, for a setting.
fn setting(value: &impl ToString) -> Value {
    json!(value.to_string())
}
