//! Test suites of others' clients, unmodified and from their registries, against a broker of either kind.
//!
//! What Apache Kafka gives for each test is recorded in `tests/compat/NAME.txt`. Ours must pass all that Apache Kafka
//! passes, but for what `tests/compat/allow.txt` lists with a reason.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::install::{find, go, home, run, workspace};
use crate::kafka::lib;
use crate::server::{Kind, Server};

/// How a test of a suite ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Pass,
    Skip,
    Fail,
}

impl Outcome {
    const ALL: [(Self, &str); 3] = [(Self::Pass, "pass"), (Self::Skip, "skip"), (Self::Fail, "fail")];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(outcome, _)| *outcome == self).map_or("", |(_, word)| word)
    }

    fn of(word: &str) -> Option<Self> {
        match word {
            "PASS" | "PASSED" | "XFAIL" => Some(Self::Pass),
            "SKIP" | "SKIPPED" => Some(Self::Skip),
            "FAIL" | "FAILED" | "ERROR" | "XPASS" => Some(Self::Fail),
            _ => None,
        }
    }
}

/// A suite that has run to its end.
#[derive(Debug)]
pub struct Run {
    suite: &'static str,
    outcomes: BTreeMap<String, Outcome>,
    log: PathBuf,
}

/// Settings of the broker that franz-go's suite runs on.
pub const FRANZ_GO_SETTINGS: &[(&str, &str)] = &[
    ("transaction.state.log.num.partitions", "5"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    ("share.coordinator.state.topic.num.partitions", "5"),
];

/// Compiles the tests of franz-go's packages to programs in `dir`.
pub fn install_franz_go(dir: &Path) -> Result<()> {
    for package in ["kgo", "kadm"] {
        let (output, path) = (dir.join(format!("{package}.test")), format!("{FRANZ_GO}/{package}"));
        run(Command::new(go()?).args(["test", "-c", "-o"]).arg(output).arg(path).current_dir(go_module()))?;
    }
    Ok(())
}

const FRANZ_GO: &str = "github.com/twmb/franz-go/pkg";

fn go_module() -> PathBuf {
    workspace().join("tests/go")
}

/// The tests of franz-go's `pkg/kgo` and `pkg/kadm`, each of the long ones with this many records.
pub fn franz_go(server: &Server, records: u32) -> Result<Run> {
    let programs = find("AQUEDUCT_GO_TESTS", "go-tests", "kgo.test")?;
    let mut text = String::new();
    for package in ["kgo", "kadm"] {
        let path = format!("{FRANZ_GO}/{package}");
        let found =
            Command::new(go()?).args(["list", "-f", "{{.Dir}}", &path]).current_dir(go_module()).output()?;
        let source = String::from_utf8(found.stdout)?;
        ensure!(found.status.success(), "go list {path}: {}", String::from_utf8_lossy(&found.stderr));
        let log = log_file(package, server.kind())?;
        let output = File::create(&log)?;
        Command::new(programs.join(format!("{package}.test")))
            .args(["-test.v", "-test.timeout", "40m"])
            .current_dir(source.trim())
            .env("KGO_SEEDS", server.bootstrap())
            .env("KGO_TEST_RF", "1")
            .env("KGO_TEST_RECORDS", records.to_string())
            .env("KGO_TEST_MAX_TOPIC_PARTS", "7")
            .env("KGO_LOG_LEVEL", "none")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .status()
            .with_context(|| format!("{package}.test"))?;
        let printed = fs::read(&log)?;
        let _ = writeln!(text, "=== {package}\n{}", String::from_utf8_lossy(&printed));
    }
    let log = log_file("franz-go", server.kind())?;
    fs::write(&log, &text)?;
    Ok(Run { suite: "franz-go", outcomes: of_go(&text), log })
}

/// Outcomes in what `go test -v` printed: `--- PASS: TestName (0.1s)`; tests from fuzzing's seeds are left out. A test
/// that the end of the program cut off is a failed one.
fn of_go(text: &str) -> BTreeMap<String, Outcome> {
    let mut outcomes = BTreeMap::new();
    for line in text.lines().map(str::trim_start) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["===", "RUN", name] => {
                outcomes.entry(name.to_owned()).or_insert(Outcome::Fail);
            }
            ["---", outcome, name, ..] => {
                if let Some(outcome) = Outcome::of(outcome.trim_end_matches(':')) {
                    outcomes.insert(name.to_owned(), outcome);
                }
            }
            _ => {}
        }
    }
    outcomes.retain(|name, _| !name.starts_with("Fuzz"));
    outcomes
}

/// Unpacks kafka-python's source archive, which has its tests, beside what they need.
pub fn install_kafka_python(dir: &Path, pip: &Path) -> Result<()> {
    let version = kafka_python_version()?;
    run(Command::new(pip)
        .args(["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", ":all:"])
        .arg(format!("kafka-python=={version}"))
        .arg("--dest")
        .arg(dir))?;
    let archive = dir.join(format!("kafka_python-{version}.tar.gz"));
    run(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(dir).arg("--strip-components=1"))?;
    // Left out of the archive: what makes the folder a package, and the fixtures' services.
    fs::write(dir.join("test/__init__.py"), "")?;
    fs::copy(workspace().join("tests/compat/kafka-python/service.py"), dir.join("test/service.py"))?;
    Ok(())
}

fn kafka_python_version() -> Result<String> {
    let text = fs::read_to_string(workspace().join("tests/python/requirements.txt"))?;
    let version = text.lines().find_map(|line| line.strip_prefix("kafka-python=="));
    Ok(version.context("no kafka-python in tests/python/requirements.txt")?.to_owned())
}

/// The tests of kafka-python in `test/integration`, which start their own brokers of this kind.
pub fn kafka_python(kind: Kind) -> Result<Run> {
    let suite = find("AQUEDUCT_KAFKA_PYTHON", "kafka-python", "test/integration")?;
    let python = find("AQUEDUCT_PYTHON", "python", "bin/python")?.join("bin/python");
    let fixtures = workspace().join("tests/compat/kafka-python");
    let log = log_file("kafka-python", kind)?;
    let output = File::create(&log)?;
    let mut command = Command::new(python);
    command.args(["-B", "-m", "pytest", "-v", "--tb=short", "-p", "no:cacheprovider", "--timeout=180"]);
    command.args(["-o", "addopts=", "-o", "log_level=WARNING", "test/integration"]).current_dir(&suite);
    command.env("KAFKA_VERSION", "4.3.1").env("PROJECT_ROOT", &fixtures).env("KAFKA_ROOT", &fixtures);
    command.env("COMPAT_KAFKA_LIB", lib()?).env("PYTHONPATH", &suite).env_remove("KAFKA_URI");
    match kind {
        Kind::Aqueduct => command.env("COMPAT_BINARY", crate::aqueduct::binary()?),
        Kind::ApacheKafka => command.env_remove("COMPAT_BINARY"),
    };
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).status().context("pytest")?;
    let outcomes = of_pytest(&String::from_utf8_lossy(&fs::read(&log)?));
    Ok(Run { suite: "kafka-python", outcomes, log })
}

/// Outcomes in what `pytest -v` printed: `path::name OUTCOME [ 5%]`, where names may hold spaces. The worse of two
/// counts, for an error after a test's end.
fn of_pytest(text: &str) -> BTreeMap<String, Outcome> {
    let mut outcomes = BTreeMap::new();
    let lines = text.lines().filter_map(|line| line.strip_prefix("test/integration/"));
    for (name, rest) in lines.filter_map(|line| line.split_once(' ')) {
        let outcome = rest.split_whitespace().next().and_then(Outcome::of);
        if let Some(outcome) = outcome.filter(|_| name.contains("::")) {
            let entry = outcomes.entry(name.to_owned()).or_insert(outcome);
            *entry = outcome.max(*entry);
        }
    }
    outcomes
}

fn log_file(name: &str, kind: Kind) -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let target = exe.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file());
    let dir = target.map_or_else(home, Path::to_path_buf).join("compat");
    fs::create_dir_all(&dir)?;
    let kind = if kind == Kind::Aqueduct { "aqueduct" } else { "apache-kafka" };
    Ok(dir.join(format!("{name}-{kind}.log")))
}

impl Run {
    fn record_path(&self) -> PathBuf {
        workspace().join("tests/compat").join(format!("{}.txt", self.suite))
    }

    /// Writes what Apache Kafka gave.
    pub fn record(&self) -> Result<()> {
        let mut text = format!(
            "# What Apache Kafka gives for {}; written by `cargo xtask compat --record`.\n",
            self.suite
        );
        for (name, outcome) in &self.outcomes {
            let _ = writeln!(text, "{} {name}", outcome.word());
        }
        fs::write(self.record_path(), text)?;
        Ok(())
    }

    /// `passed 40, skipped 2, failed 0`.
    pub fn summary(&self) -> String {
        let count = |wanted| self.outcomes.values().filter(|outcome| **outcome == wanted).count();
        let [pass, skip, fail] = Outcome::ALL.map(|(outcome, _)| count(outcome));
        format!("{}: passed {pass}, skipped {skip}, failed {fail}", self.suite)
    }

    /// Compares with what Apache Kafka gave.
    ///
    /// # Errors
    /// Names each test that Apache Kafka passes and this run did not, unless the allow-list has it; each of the
    /// allow-list that passes; and where the log is.
    pub fn judge(&self) -> Result<()> {
        let path = self.record_path();
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let allowed = allowed(self.suite)?;
        let mut wrong = Vec::new();
        for (word, name) in text.lines().filter_map(|line| line.split_once(' ')).filter(|(w, _)| *w == "pass")
        {
            let outcome = self.outcomes.get(name).copied();
            match (outcome, allowed.get(name)) {
                (Some(Outcome::Pass), None) => {}
                (Some(Outcome::Pass), Some(_)) => wrong.push(format!("{name}: passes, but is in allow.txt")),
                (_, Some(_)) => {}
                (Some(outcome), None) => wrong.push(format!("{name}: {} instead of {word}", outcome.word())),
                (None, None) => wrong.push(format!("{name}: did not run")),
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        bail!(
            "{} on our broker, against what Apache Kafka gives:\n  {}\n{}\nlog: {}",
            self.suite,
            wrong.join("\n  "),
            self.end_of_log(),
            self.log.display()
        )
    }

    /// The last lines of the log, for where the file is out of reach.
    fn end_of_log(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !["=== ", "--- PASS", "    --- PASS"].iter().any(|p| line.starts_with(p)))
            .collect();
        lines[lines.len().saturating_sub(150)..].join("\n")
    }
}

/// The tests of this suite in the allow-list, with their reasons: lines of `suite test: reason`.
fn allowed(suite: &str) -> Result<BTreeMap<String, String>> {
    let path = workspace().join("tests/compat/allow.txt");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut allowed = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (which, rest) = line.split_once(' ').context("a line of allow.txt without a test")?;
        let (name, reason) =
            rest.split_once(": ").with_context(|| format!("allow.txt: no reason for {rest}"))?;
        if which == suite {
            allowed.insert(name.to_owned(), reason.to_owned());
        }
    }
    Ok(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_of_go() {
        let text = "=== RUN   TestA\n=== RUN   TestA/b\n    --- FAIL: TestA/b (0.00s)\n--- PASS: TestA (1.00s)\n\
                    === RUN   TestCut\n=== RUN   FuzzX\n--- SKIP: TestC (0.00s)\n";
        let outcomes: Vec<_> = of_go(text).into_iter().collect();
        let expected = [
            ("TestA", Outcome::Pass),
            ("TestA/b", Outcome::Fail),
            ("TestC", Outcome::Skip),
            ("TestCut", Outcome::Fail),
        ];
        assert_eq!(outcomes, expected.map(|(name, outcome)| (name.to_owned(), outcome)));
    }

    #[test]
    fn outcomes_of_pytest() {
        let text = "test/integration/test_a.py::test_x[None] PASSED   [  1%]\n\
                    test/integration/test_a.py::test_y PASSED [ 2%]\ntest/integration/test_a.py::test_y ERROR [ 2%]\n\
                    test/integration/test_a.py:12: in test_y\nFAILED test/integration/test_a.py::test_y - x\n";
        let outcomes: Vec<_> = of_pytest(text).into_iter().collect();
        let expected = [("test_a.py::test_x[None]", Outcome::Pass), ("test_a.py::test_y", Outcome::Fail)];
        assert_eq!(outcomes, expected.map(|(name, outcome)| (name.to_owned(), outcome)));
    }
}
