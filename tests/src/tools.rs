//! Scripts of Kafka's command line tools, run in one JVM, and what they print made comparable between two brokers.
//!
//! A script has a line for each command, such as `topics --create --topic a`, with quotes where an argument holds spaces.
//! `{bootstrap}` stands for the broker, `{dir}` for a folder of the script. After a command may stand
//! `<text`, a line of its input, and `drop PATTERN -- reason`, which leaves out the lines that match. `differs -- reason`
//! says that its output is another on each broker, and why. `file NAME TEXT` writes a file into `{dir}`.
//! `limit SECONDS` is for a tool that does not end by itself, `until PATTERN -- reason` for one that is run again until a line
//! of its output matches. `replace PATTERN => TEXT -- reason` changes the lines of all commands that follow.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use regex::Regex;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::java::program;
use crate::server::Server;
use crate::settle::Settler;

/// Names of the tools, their main classes, and whether they take `--bootstrap-server`.
const TOOLS: &[(&str, &str, bool)] = &[
    ("acls", "org.apache.kafka.tools.AclCommand", true),
    ("api-versions", "org.apache.kafka.tools.BrokerApiVersionsCommand", true),
    ("client-metrics", "org.apache.kafka.tools.ClientMetricsCommand", true),
    ("cluster", "org.apache.kafka.tools.ClusterTool", false),
    ("configs", "kafka.admin.ConfigCommand", true),
    ("console-consumer", "org.apache.kafka.tools.consumer.ConsoleConsumer", true),
    ("console-producer", "org.apache.kafka.tools.ConsoleProducer", true),
    ("consumer-perf", "org.apache.kafka.tools.ConsumerPerformance", true),
    ("delete-records", "org.apache.kafka.tools.DeleteRecordsCommand", true),
    ("end-to-end-latency", "org.apache.kafka.tools.EndToEndLatency", false),
    ("features", "org.apache.kafka.tools.FeatureCommand", true),
    ("get-offsets", "org.apache.kafka.tools.GetOffsetShell", true),
    ("groups", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", true),
    ("groups-all", "org.apache.kafka.tools.GroupsCommand", true),
    ("leader-election", "org.apache.kafka.tools.LeaderElectionCommand", true),
    ("log-dirs", "org.apache.kafka.tools.LogDirsCommand", true),
    ("message-copier", "org.apache.kafka.tools.TransactionalMessageCopier", false),
    ("producer-perf", "org.apache.kafka.tools.ProducerPerformance", true),
    ("quorum", "org.apache.kafka.tools.MetadataQuorumCommand", true),
    ("reassign", "org.apache.kafka.tools.reassign.ReassignPartitionsCommand", true),
    ("replica-verification", "org.apache.kafka.tools.ReplicaVerificationTool", false),
    ("streams-reset", "org.apache.kafka.tools.StreamsResetter", true),
    ("topics", "org.apache.kafka.tools.TopicCommand", true),
    ("transactions", "org.apache.kafka.tools.TransactionsCommand", true),
    ("verifiable-consumer", "org.apache.kafka.tools.VerifiableConsumer", true),
    ("verifiable-producer", "org.apache.kafka.tools.VerifiableProducer", true),
];

/// What is taken for a tool that hangs.
const LIMIT_SECONDS: u64 = 180;

/// A command of a script.
#[derive(Debug, Default)]
struct Step {
    line: String,
    input: String,
    files: Vec<(String, String)>,
    drop: Vec<Regex>,
    replace: Vec<(Regex, String)>,
    differs: bool,
    limit: Option<u64>,
    until: Option<Regex>,
}

/// What a command of a script gave.
#[derive(Debug)]
pub struct Seen {
    line: String,
    lines: Vec<String>,
    differs: bool,
}

/// Runs a script on a broker with the tools of a JVM, which is another where the first one was left with a tool that
/// does not end.
///
/// # Errors
/// Where the script is not well formed or the tools cannot be started; not where a tool fails.
pub fn run(script: &Path, server: &Server, driver: &mut Driver) -> Result<Vec<Seen>> {
    let text = fs::read_to_string(script).with_context(|| script.display().to_string())?;
    let steps = parse(&text).with_context(|| script.display().to_string())?;
    let dir = TempDir::with_prefix("tools-")?;
    let mut settler = Settler::connect(server)?;
    let mut seen = Vec::new();
    for step in steps {
        let fill = |text: &str| {
            text.replace("{bootstrap}", &server.bootstrap()).replace("{dir}", &dir.path().to_string_lossy())
        };
        for (name, text) in &step.files {
            fs::write(dir.path().join(name), fill(text))?;
        }
        let mut words = words(&fill(&step.line))?;
        let name = words.remove(0);
        let found = TOOLS.iter().find(|(tool, ..)| *tool == name);
        let (_, class, takes_server) = found.with_context(|| format!("no tool is named {name}"))?;
        if *takes_server && !words.iter().any(|word| word == "--bootstrap-server") {
            words.extend(["--bootstrap-server".to_owned(), server.bootstrap()]);
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        let (code, mut lines) = loop {
            let (code, output) = driver.run(class, &words, &step)?;
            if code == "timeout" {
                *driver = Driver::start()?;
            }
            settler.settle()?;
            let output = output
                .replace(&*server.data().to_string_lossy(), "DATA")
                .replace(&*dir.path().to_string_lossy(), "DIR");
            let lines = comparable(&output, server.port());
            let awaited =
                step.until.as_ref().is_none_or(|until| lines.iter().any(|line| until.is_match(line)));
            if awaited || Instant::now() > deadline {
                break (code, lines);
            }
        };
        for (pattern, by) in &step.replace {
            lines.iter_mut().for_each(|line| *line = pattern.replace_all(line, by).into_owned());
        }
        lines.retain(|line| !line.is_empty() && !step.drop.iter().any(|drop| drop.is_match(line)));
        lines.sort();
        lines.insert(0, format!("exit code {code}"));
        seen.push(Seen { line: step.line, lines, differs: step.differs });
    }
    Ok(seen)
}

/// The commands of two runs that gave something else, each with the lines that only one side has; empty where there are
/// none.
#[must_use]
pub fn differences(ours: &[Seen], theirs: &[Seen]) -> String {
    let mut text = String::new();
    for (our, their) in ours.iter().zip(theirs) {
        if our.differs {
            if our.lines == their.lines {
                let _ = writeln!(text, "{}\n  is said to differ, but does not", our.line);
            }
        } else if our.lines != their.lines {
            let _ = writeln!(text, "{}", our.line);
            for line in our.lines.iter().filter(|line| !their.lines.contains(line)) {
                let _ = writeln!(text, "  ours   {line}");
            }
            for line in their.lines.iter().filter(|line| !our.lines.contains(line)) {
                let _ = writeln!(text, "  theirs {line}");
            }
            if our.lines.len() != their.lines.len() {
                let _ = writeln!(text, "  {} lines instead of {}", our.lines.len(), their.lines.len());
            }
        }
    }
    text
}

fn parse(text: &str) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut files, mut replace) = (Vec::new(), Vec::new());
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(file) = line.strip_prefix("file ") {
            let (name, text) = file.split_once(' ').context("file NAME TEXT")?;
            files.push((name.to_owned(), text.to_owned()));
            continue;
        }
        if let Some(rest) = line.strip_prefix("replace ") {
            let (rule, _) = rest.split_once(" -- ").with_context(|| format!("no reason: {line}"))?;
            let (pattern, by) = rule.split_once(" => ").context("replace PATTERN => TEXT")?;
            replace.push((Regex::new(pattern)?, by.to_owned()));
            continue;
        }
        let of_last = steps.last_mut().filter(|_| files.is_empty());
        if let Some(input) = line.strip_prefix('<') {
            let step = of_last.context("input without a command")?;
            step.input.push_str(input);
            step.input.push('\n');
        } else if let Some(rest) = line.strip_prefix("drop ") {
            let (pattern, _) = rest.split_once(" -- ").with_context(|| format!("no reason: {line}"))?;
            of_last.context("drop without a command")?.drop.push(Regex::new(pattern)?);
        } else if let Some(rest) = line.strip_prefix("until ") {
            let (pattern, _) = rest.split_once(" -- ").with_context(|| format!("no reason: {line}"))?;
            of_last.context("until without a command")?.until = Some(Regex::new(pattern)?);
        } else if let Some(seconds) = line.strip_prefix("limit ") {
            of_last.context("limit without a command")?.limit = Some(seconds.parse()?);
        } else if line.starts_with("differs -- ") {
            of_last.context("differs without a command")?.differs = true;
        } else {
            let files = std::mem::take(&mut files);
            let replace = replace.clone();
            steps.push(Step { line: line.to_owned(), files, replace, ..Step::default() });
        }
    }
    ensure!(files.is_empty(), "a file without a command that uses it");
    Ok(steps)
}

/// Splits at spaces outside of single quotes.
fn words(line: &str) -> Result<Vec<String>> {
    let (mut words, mut word, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            '\'' => (quoted, any) = (!quoted, true),
            ' ' if !quoted => {
                if any {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            _ => {
                word.push(c);
                any = true;
            }
        }
    }
    if quoted {
        bail!("a quote is not closed: {line}");
    }
    if any {
        words.push(word);
    }
    Ok(words)
}

/// Lines without what is another in each run: ids, ports, times, places in Java's sources, widths of columns.
fn comparable(output: &str, port: u16) -> Vec<String> {
    let patterns: Vec<(Regex, &str)> = [
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
        (r"\b[A-Za-z0-9_-]{21}[AQgw](?:[^A-Za-z0-9_-]|$)", "ID "),
        (r"\b1[789]\d{11}\b", "TIME"),
        (r"\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,:]\d+Z?", "TIME"),
        (r"@[0-9a-f]{5,8}\b", "@HASH"),
        (r"[ \t]+", " "),
    ]
    .into_iter()
    .map(|(pattern, by)| (Regex::new(pattern).expect("a pattern"), by))
    .collect();
    let port = Regex::new(&format!("\\b{port}\\b")).expect("a number");
    let mut lines = Vec::new();
    for line in output.lines().filter(|line| !line.starts_with("\tat ") && !line.starts_with("\t... ")) {
        let mut line = port.replace_all(line, "PORT").into_owned();
        for (pattern, by) in &patterns {
            line = pattern.replace_all(&line, *by).into_owned();
        }
        let line = line.trim();
        if !line.is_empty() {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// The JVM that runs the tools, one after the other.
pub struct Driver {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Driver {
    /// Starts it.
    pub fn start() -> Result<Self> {
        let mut command = program("160m", "Tools")?;
        // Options stand before the class path.
        let options = [
            "-Dlog4j2.level=OFF -Dlog4j2.statusLoggerLevel=OFF -Duser.timezone=UTC",
            // For the shutdown hooks of the tools.
            "--add-opens=java.base/java.lang=ALL-UNNAMED",
        ];
        command.env("JDK_JAVA_OPTIONS", options.join(" "));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("java")?;
        let input = child.stdin.take().context("stdin is piped")?;
        let output = BufReader::new(child.stdout.take().context("stdout is piped")?);
        Ok(Self { child, input, output })
    }

    /// Runs a tool, such as `org.apache.kafka.tools.TopicCommand`, to its end and gives what it printed.
    ///
    /// # Errors
    /// Where it fails, with all that it printed.
    pub fn tool(&mut self, class: &str, args: &[&str]) -> Result<String> {
        self.tool_with_input(class, args, "")
    }

    /// The same with what it reads from its standard input.
    ///
    /// # Errors
    /// Where it fails, with all that it printed.
    pub fn tool_with_input(&mut self, class: &str, args: &[&str], input: &str) -> Result<String> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let step = Step { input: input.to_owned(), ..Step::default() };
        let (code, output) = self.run(class, &args, &step)?;
        ensure!(code == "0", "{class} {}: {code}\n{output}", args.join(" "));
        Ok(output)
    }

    fn run(&mut self, class: &str, args: &[String], step: &Step) -> Result<(String, String)> {
        let limit = step.limit.unwrap_or(LIMIT_SECONDS);
        let step = json!({"class": class, "args": args, "input": step.input, "limit": limit});
        writeln!(self.input, "{step}")?;
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "{class} {args:?}: the JVM of the tools ended");
        let answer: Value = serde_json::from_str(&line).with_context(|| format!("{class}: {line}"))?;
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        Ok((text("code"), text("output")))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
