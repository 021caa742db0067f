//! The transforms that every worker has.

mod extract_field;
mod extract_new_record_state;
mod regex_router;
mod value_to_key;

use aqueduct_connect_api::{Record, SchemaAndValue};

/// Which half of a record a transform works on: the `$Key` or the `$Value` of its class name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Key,
    Value,
}

impl Side {
    fn of(self, record: &mut Record) -> &mut SchemaAndValue {
        match self {
            Self::Key => &mut record.key,
            Self::Value => &mut record.value,
        }
    }
}
