//! What a wrong configuration means for the exit code.

use std::fmt;

/// A wrong setting or file: the user's to mend, exit code 2.
#[derive(Debug)]
pub struct BadConfig(pub String);

impl fmt::Display for BadConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadConfig {}

/// 2 where the configuration is at fault, else 1.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.chain().any(|cause| cause.is::<BadConfig>()) { 2 } else { 1 }
}
