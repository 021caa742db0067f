//! `Filter`: drops every record; a predicate says which ones it sees.

use aqueduct_connect_api::{Config, ConfigDef, Record, Result, Transformation};

use super::whole_record;

/// Drops records.
#[derive(Debug, Default)]
pub struct Filter;

impl Transformation for Filter {
    fn configure(&mut self, _: &Config) -> Result<()> {
        Ok(())
    }

    fn apply(&mut self, _: Record) -> Result<Option<Record>> {
        Ok(None)
    }
}

fn config() -> ConfigDef {
    ConfigDef::new()
}

whole_record!("Filter", Filter);
