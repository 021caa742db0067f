//! The few requests that the benchmark sends to a worker, without a process for each.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::worker::until;

/// The REST API of a worker on this machine.
#[derive(Clone, Copy)]
pub struct Rest {
    pub port: u16,
}

impl Rest {
    /// Sends a request and gives the status and the body. HTTP/1.0, so that the body ends with the connection.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, String)> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port))?;
        socket.set_read_timeout(Some(Duration::from_secs(100)))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        socket.write_all((head + &body).as_bytes())?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        let status = head.split(' ').nth(1).context("no status")?;
        Ok((status.parse()?, body.to_owned()))
    }

    /// The body of a GET; an error where the status is not 200.
    pub fn get(&self, path: &str) -> Result<Value> {
        let (status, body) = self.call("GET", path, None)?;
        ensure!(status == 200, "GET {path}: {status} {body}");
        Ok(serde_json::from_str(&body)?)
    }

    /// A request that changes something; comes again while a rebalance is in its way.
    pub fn done(&self, method: &str, path: &str, body: Option<&Value>) -> Result<()> {
        until(path, Duration::from_millis(50), || {
            let (status, text) = self.call(method, path, body)?;
            match status {
                200..300 => Ok(true),
                409 if !text.contains("already exists") => Ok(false),
                _ => bail!("{method} {path}: {status} {text}"),
            }
        })
    }

    /// Whether the connector and so many tasks, all it has, are RUNNING; an error where one has failed.
    pub fn is_running(&self, name: &str, tasks: usize) -> Result<bool> {
        let Ok(status) = self.get(&format!("/connectors/{name}/status")) else { return Ok(false) };
        runs(&status, tasks)
    }

    /// How many connectors run with a task.
    pub fn running(&self) -> Result<usize> {
        let all = self.get("/connectors?expand=status")?;
        let mut running = 0;
        for connector in all.as_object().into_iter().flat_map(|all| all.values()) {
            running += usize::from(runs(&connector["status"], 1)?);
        }
        Ok(running)
    }
}

fn runs(status: &Value, tasks: usize) -> Result<bool> {
    let states = status["tasks"].as_array().into_iter().flatten().map(|task| &task["state"]);
    let states: Vec<&Value> = states.chain([&status["connector"]["state"]]).collect();
    ensure!(states.iter().all(|state| *state != "FAILED"), "a connector has failed: {status}");
    Ok(states.len() == tasks + 1 && states.iter().all(|state| *state == "RUNNING"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_connector_with_all_its_tasks_runs() {
        let status = |connector: &str, tasks: &[&str]| {
            let tasks: Vec<Value> = tasks.iter().map(|state| json!({ "state": state })).collect();
            json!({"connector": {"state": connector}, "tasks": tasks})
        };
        assert!(runs(&status("RUNNING", &["RUNNING"]), 1).expect("none failed"));
        assert!(!runs(&status("RUNNING", &[]), 1).expect("none failed"));
        assert!(!runs(&status("RUNNING", &["RUNNING", "UNASSIGNED"]), 2).expect("none failed"));
        assert!(runs(&status("RUNNING", &["FAILED"]), 1).is_err());
    }
}
