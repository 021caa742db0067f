//! kcat, whose librdkafka is some years older than that of the Python client.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aqueduct_tests::kafka::{text_of, tool};
use aqueduct_tests::on_both;
use aqueduct_tests::process::signal;
use aqueduct_tests::server::Server;
use aqueduct_tests::settle::settle;

on_both!(produces_consumes_lists_and_queries, group_of_three_rebalances_and_resumes);

fn kcat(server: &Server, args: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new("kcat");
    command.args(["-m", "60", "-b", &server.bootstrap()]).args(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("stdin is piped")?.write_all(input.as_bytes())?;
    text_of(&format!("kcat {args:?}"), &child.wait_with_output()?)
}

fn produces_consumes_lists_and_queries(server: &Server) -> Result<()> {
    let topic = ["-t", "kcat"];
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let input = format!("k:{codec}1\nk:{codec}2\n");
        kcat(server, &[&["-P", "-K:", "-H", "h=1", "-z", codec], &topic[..]].concat(), &input)?;
    }
    let read = kcat(
        server,
        &[&["-C", "-e", "-q", "-o", "beginning", "-f", "%o %k %s %h\\n"], &topic[..]].concat(),
        "",
    )?;
    let expected: Vec<String> = ["none", "gzip", "snappy", "lz4", "zstd"]
        .iter()
        .flat_map(|codec| [format!("{codec}1"), format!("{codec}2")])
        .enumerate()
        .map(|(offset, value)| format!("{offset} k {value} h=1"))
        .collect();
    assert_eq!(read.lines().collect::<Vec<_>>(), expected);
    let last = kcat(server, &[&["-C", "-e", "-q", "-o", "-3"], &topic[..]].concat(), "")?;
    assert_eq!(last, "lz42\nzstd1\nzstd2\n");
    let listed = kcat(server, &["-L", "-t", "kcat"], "")?;
    assert!(listed.contains("broker 1 at 127.0.0.1:"), "{listed}");
    assert!(listed.contains("topic \"kcat\" with 1 partitions:"), "{listed}");
    assert!(listed.contains("partition 0, leader 1, replicas: 1, isrs: 1"), "{listed}");
    assert_eq!(kcat(server, &["-Q", "-t", "kcat:0:-1"], "")?.trim(), "kcat [0] offset 10");
    assert_eq!(kcat(server, &["-Q", "-t", "kcat:0:0"], "")?.trim(), "kcat [0] offset 0");
    Ok(())
}

/// A balanced consumer, what it reads and which partitions it was last assigned.
struct Member {
    child: Child,
    read: Receiver<String>,
    told: Receiver<String>,
    owned: usize,
}

impl Member {
    fn start(server: &Server) -> Result<Self> {
        let mut command = Command::new("kcat");
        command.args([
            "-b",
            &server.bootstrap(),
            "-u",
            "-G",
            "kcat-group",
            "-X",
            "auto.offset.reset=earliest",
        ]);
        command.arg("kcat-group").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("kcat")?;
        let read = lines(child.stdout.take().context("stdout is piped")?);
        let told = lines(child.stderr.take().context("stderr is piped")?);
        Ok(Self { child, read, told, owned: 0 })
    }

    /// How many partitions are its own now.
    fn owned(&mut self) -> usize {
        for line in self.told.try_iter() {
            if line.contains("rebalanced") {
                self.owned = line.split_once("assigned: ").map_or(0, |(_, to)| to.matches('[').count());
            }
        }
        self.owned
    }

    /// Stops it and gives all that it read.
    fn leave(mut self) -> Result<Vec<String>> {
        signal(self.child.id(), "INT")?;
        self.child.wait()?;
        Ok(self.read.iter().collect())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        BufReader::new(from).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    lines
}

fn wait_for(members: &mut [Member], each: usize) -> Result<()> {
    let from = Instant::now();
    loop {
        let owned: Vec<usize> = members.iter_mut().map(Member::owned).collect();
        if owned.iter().all(|owned| *owned == each) {
            return Ok(());
        }
        ensure!(from.elapsed() < Duration::from_secs(60), "{owned:?} partitions instead of {each} each");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Collects what the members read until it is `count` lines in all.
fn take(members: &[Member], read: &mut Vec<String>, count: usize) -> Result<()> {
    let from = Instant::now();
    while read.len() < count {
        read.extend(members.iter().flat_map(|member| member.read.try_iter()));
        ensure!(from.elapsed() < Duration::from_secs(60), "{} of {count}: {read:?}", read.len());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn group_of_three_rebalances_and_resumes(server: &Server) -> Result<()> {
    let class = "org.apache.kafka.tools.TopicCommand";
    let create = ["--create", "--topic", "kcat-group", "--partitions", "6"];
    tool(class, &[&["--bootstrap-server", &server.bootstrap()], &create[..]].concat())?;
    settle(server)?;
    let mut members = vec![Member::start(server)?, Member::start(server)?, Member::start(server)?];
    wait_for(&mut members, 2)?;
    let send = |prefix: &str| -> Result<Vec<String>> {
        let values: Vec<String> = (10..40).map(|i| format!("{prefix}{i}")).collect();
        kcat(server, &["-P", "-t", "kcat-group"], &values.join("\n"))?;
        Ok(values)
    };
    let mut expected = send("a")?;
    let mut read = Vec::new();
    take(&members, &mut read, 30)?;
    read.extend(members.remove(0).leave()?);
    wait_for(&mut members, 3)?;
    expected.extend(send("b")?);
    take(&members, &mut read, 60)?;
    for member in members {
        read.extend(member.leave()?);
    }
    read.sort_unstable();
    assert_eq!(read, expected);
    kcat(server, &["-P", "-t", "kcat-group"], "later\n")?;
    let resume = ["-e", "-q", "-G", "kcat-group", "-X", "auto.offset.reset=earliest", "kcat-group"];
    assert_eq!(kcat(server, &resume, "")?, "later\n");
    Ok(())
}
