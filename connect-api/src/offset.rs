//! Where a source goes on after a record.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use crate::connector::OffsetMap;

/// The offset of one record. Of a batch only the last one is stored, so that one that is a mere number becomes a map only
/// when it is looked at.
#[derive(Clone, Debug)]
pub struct SourceOffset(Inner);

#[derive(Clone, Debug)]
enum Inner {
    Map(Arc<OffsetMap>),
    Number { field: &'static str, number: u64, map: OnceLock<Box<OffsetMap>> },
}

impl SourceOffset {
    /// A map of one field.
    pub fn number(field: &'static str, number: u64) -> Self {
        Self(Inner::Number { field, number, map: OnceLock::new() })
    }

    /// The map, to keep.
    pub fn into_map(self) -> Arc<OffsetMap> {
        match self.0 {
            Inner::Map(map) => map,
            Inner::Number { field, number, map } => {
                Arc::new(map.into_inner().map_or_else(|| one(field, number), |map| *map))
            }
        }
    }
}

fn one(field: &str, number: u64) -> OffsetMap {
    OffsetMap::from_iter([(field.to_owned(), number.into())])
}

impl Deref for SourceOffset {
    type Target = OffsetMap;

    fn deref(&self) -> &OffsetMap {
        match &self.0 {
            Inner::Map(map) => map,
            Inner::Number { field, number, map } => map.get_or_init(|| Box::new(one(field, *number))),
        }
    }
}

impl From<Arc<OffsetMap>> for SourceOffset {
    fn from(map: Arc<OffsetMap>) -> Self {
        Self(Inner::Map(map))
    }
}

impl From<OffsetMap> for SourceOffset {
    fn from(map: OffsetMap) -> Self {
        Arc::new(map).into()
    }
}

impl PartialEq for SourceOffset {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_map_of_one_field() {
        let (number, map) =
            (SourceOffset::number("position", 7), OffsetMap::from_iter([("position".to_owned(), 7.into())]));
        assert_eq!(number, SourceOffset::from(map.clone()));
        assert_eq!(number["position"], 7);
        assert_ne!(number, SourceOffset::number("position", 8));
        assert_eq!(*number.into_map(), map);
        assert_eq!(*SourceOffset::number("position", 7).into_map(), map);
    }
}
