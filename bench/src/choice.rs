//! What of a benchmark is run, and how often.

// No documentation comment: it would stand in the place of the command's own text.
#[derive(clap::Args)]
pub struct Choice {
    /// Runs of each peer.
    #[arg(long)]
    rounds: Option<u32>,
    /// Only scenarios whose name contains this; may be repeated.
    #[arg(long)]
    only: Vec<String>,
    /// Names the scenarios, and runs none.
    #[arg(long)]
    pub list: bool,
    /// One round with little data: whether all of it works, not how fast.
    #[arg(long)]
    pub quick: bool,
}

impl Choice {
    pub fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 })
    }

    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }
}
